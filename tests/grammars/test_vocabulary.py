"""What tokens spell, read off every kind of tokenizer; what is a control token and what ends a text."""

from __future__ import annotations

import pytest
from ramify.errors import InvalidRequest
from ramify.grammars.vocabulary import Vocabulary
from ramify.runtime.text.tokenizer import Tokenizer, load_tokenizer
from ramify.runtime.weights.checkpoint import open_checkpoint
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="module")
def ours(smollm2_files) -> Tokenizer:  # type: ignore[no-untyped-def]
    return load_tokenizer(open_checkpoint(smollm2_files))


def test_of_the_engines_tokenizer(ours: Tokenizer) -> None:
    vocabulary = Vocabulary.of(ours)
    assert vocabulary.size == ours.vocabulary_size and vocabulary.words == -(-vocabulary.size // 32)
    for text in (" hello", "é", "\n\n", '{"'):
        for token in ours.encode_continuation(text):
            assert vocabulary.tokens[token] == ours.token_bytes(token)
    assert set(ours.eos_ids) == set(vocabulary.end_tokens)
    assert all(vocabulary.tokens[token] is None for token in ours.special_ids)


def test_every_kind_of_tokenizer_of_one_vocabulary_is_one_vocabulary(ours: Tokenizer) -> None:
    backend = ours._backend
    theirs = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    one, other = Vocabulary.of(backend), Vocabulary.of(theirs)
    assert one.tokens == other.tokens == Vocabulary.of(ours).tokens
    assert other.end_tokens == (ours.token_id("<|im_end|>"),) and set(other.end_tokens) <= set(one.end_tokens)
    assert one.fingerprint == Vocabulary.of(ours).fingerprint != Vocabulary.of(ours, size=one.size + 8).fingerprint


def test_spaces_bytes_and_added_tokens_of_a_sentencepiece_vocabulary() -> None:
    words = {"</s>": 0, "▁the": 1, "<0xE2>": 2, "a": 3, "<0x41": 4, "<tool>": 5}
    backend = Backend(models.BPE(vocab=words, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.add_special_tokens([AddedToken("</s>", special=True)])
    backend.add_tokens([AddedToken("<tool>", special=False)])
    vocabulary = Vocabulary.of(backend)
    assert vocabulary.tokens == (None, b" the", b"\xe2", b"a", b"<0x41", b"<tool>")
    assert vocabulary.end_tokens == (0,)


def test_only_a_control_token_ends_a_text_by_its_name() -> None:
    backend = Backend(models.BPE(vocab={"a": 0, "</s>": 1}, merges=[]))
    assert Vocabulary.of(backend).tokens[1] == b"</s>" and not Vocabulary.of(backend).end_tokens
    assert Vocabulary.of(backend, end_tokens=[0]).end_tokens == (0,)
    backend.add_special_tokens(["<\uff5cend\u2581of\u2581sentence\uff5c>"])
    assert Vocabulary.of(backend).end_tokens == (2,)


class Encoding:
    """As tiktoken's: bytes by rank, a gap at 3, a control token at 4."""

    n_vocab = 5
    special_tokens_set = frozenset(["<|endoftext|>"])

    def encode_single_token(self, text: str) -> int:
        return {"<|endoftext|>": 4}[text]

    def decode_single_token_bytes(self, token: int) -> bytes:
        return {0: b"a", 1: b"\xe2", 2: b"</s>", 4: b"<|endoftext|>"}[token]


def test_of_tiktoken() -> None:
    vocabulary = Vocabulary.of(Encoding())
    assert vocabulary.tokens == (b"a", b"\xe2", b"</s>", None, None) and vocabulary.end_tokens == (4,)


def test_what_is_no_tokenizer_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="vocabulary of a int"):
        Vocabulary.of(5)
    with pytest.raises(InvalidRequest, match="size 1 is less"):
        Vocabulary([b"a", b"b"], [], size=1)
    with pytest.raises(InvalidRequest, match="end_tokens"):
        Vocabulary([b"a"], [1])


def test_end_tokens_and_empty_tokens_spell_nothing() -> None:
    vocabulary = Vocabulary([b"a", b"", b"end", None], [2])
    assert vocabulary.tokens == (b"a", None, None, None) and vocabulary.end_tokens == (2,)
