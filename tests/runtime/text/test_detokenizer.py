"""Streaming detokenization: the pieces add up to the whole, and no piece holds half a character."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from ramify.runtime.text.detokenizer import Detokenizer, token_text
from ramify.runtime.text.tokenizer import load_tokenizer
from ramify.runtime.weights.checkpoint import open_checkpoint
from ramify.runtime.weights.locate import ModelFiles

SAMPLES = [
    "plain words, then more",
    "naïve café, Привет, 你好世界, こんにちは",
    "family 👨‍👩‍👧‍👦 flag 🏴󠁧󠁢󠁥󠁮󠁧󠁿 skin 👍🏽 and 🇩🇪🇫🇷",
    "tabs\t\tand\r\nlines\u2028   spaces   \x00 zero",
    "a\u0301e\u0302 combining, \u200b zero width, \ufffd itself, \U0010ffff last",
]


class Spelled:
    """A tokenizer that is a list of the bytes of each token."""

    def __init__(self, pieces: Sequence[bytes], special_ids: Sequence[int] = ()) -> None:
        self.pieces = pieces
        self.special_ids = frozenset(special_ids)

    def token_bytes(self, token: int, /) -> bytes:
        return self.pieces[token]

    def decode(self, tokens: Sequence[int], /, *, skip_special_tokens: bool = True) -> str:
        skipped = self.special_ids if skip_special_tokens else frozenset()
        return b"".join(self.pieces[token] for token in tokens if token not in skipped).decode("utf-8", "replace")


def stream(detokenizer: Detokenizer, tokens: Sequence[int]) -> list[str]:
    return [*(detokenizer.push((token,)) for token in tokens), detokenizer.finish()]


@given(st.lists(st.binary(max_size=5), max_size=40))
def test_pieces_add_up_whatever_the_bytes(pieces: list[bytes]) -> None:
    tokenizer = Spelled(pieces)
    tokens = range(len(pieces))
    assert "".join(stream(Detokenizer(tokenizer), tokens)) == tokenizer.decode(tokens)


@given(st.text(max_size=60), st.randoms(use_true_random=False))
def test_no_piece_holds_half_a_character(text: str, cut: random.Random) -> None:
    data = text.replace("\ufffd", "?").encode()
    bounds = sorted({0, len(data), *(cut.randrange(len(data) + 1) for _ in range(len(data) // 2))})
    pieces = [data[start:end] for start, end in itertools.pairwise(bounds)]
    shown = stream(Detokenizer(Spelled(pieces)), range(len(pieces)))
    assert "".join(shown) == data.decode()
    assert shown[-1] == "", "nothing certain was held back"


def test_the_checks_above_notice_a_naive_detokenizer() -> None:
    pieces = [b"\xf0\x9f", b"\x98\x80"]
    assert "".join(token_text(Spelled(pieces), token) for token in range(2)) != "😀"


def test_text_comes_as_soon_as_it_is_certain() -> None:
    shown = stream(Detokenizer(Spelled([b"a\xe4", b"\xbd", b"\xa0b", b"\xf0\x9f", b"c", b"\xc3"])), range(6))
    assert shown == ["a", "", "你b", "", "\ufffdc", "", "\ufffd"]


def test_special_tokens() -> None:
    tokenizer = Spelled([b"\xe4\xbd", b"<end>", b"\xa0"], special_ids=[1])
    assert "".join(stream(Detokenizer(tokenizer), [0, 1, 2, 1])) == tokenizer.decode([0, 1, 2, 1]) == "你"
    assert "".join(stream(Detokenizer(tokenizer, skip_special_tokens=False), [2, 1])) == "\ufffd<end>"


@pytest.mark.parametrize("piece", [b"\x80", b"\xf0", b"\xf0\x9f\x98", b"\xed\xa0\x80"])
def test_ten_thousand_tokens_that_are_no_character(piece: bytes) -> None:
    detokenizer = Detokenizer(Spelled([piece]))
    shown = stream(detokenizer, [0] * 10_000)
    assert "".join(shown) == (piece * 10_000).decode("utf-8", "replace")
    assert not shown[-1][1:], "at most one character is pending at the end"


@pytest.fixture(scope="module")
def byte_level() -> tokenizers.Tokenizer:
    """The tokenizers package's own byte-level model over single bytes: the decoder that models of this kind ship."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def test_replacement_characters_are_those_of_tokenizers(byte_level: tokenizers.Tokenizer) -> None:
    """Where bytes are wrong, both put the same number of U+FFFD: on random bytes, and on damaged text."""
    letters = byte_level.get_vocab()
    visible = {b: chr(b) for b in (*range(33, 127), *range(161, 173), *range(174, 256))}  # GPT-2's table
    hidden = iter(range(256, 512))
    visible.update({b: chr(next(hidden)) for b in range(256) if b not in visible})
    pieces = [b""] * len(letters)
    for byte, letter in visible.items():
        pieces[letters[letter]] = bytes([byte])
    tokenizer = Spelled(pieces)
    chance = random.Random(0)
    for case in range(300):
        data = bytearray(SAMPLES[case % len(SAMPLES)].encode())
        for _ in range(chance.randrange(6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        tokens = [letters[visible[byte]] for byte in data]
        if case % 3 == 0:
            chance.shuffle(tokens)
        assert "".join(stream(Detokenizer(tokenizer), tokens)) == byte_level.decode(tokens)


def test_pieces_of_a_real_model_add_up_to_its_decoded_text(smollm2_files: ModelFiles) -> None:
    """Random tokens, tokens that are parts of characters, shuffled real text; special tokens skipped and shown."""
    tokenizer = load_tokenizer(open_checkpoint(smollm2_files))
    chance = random.Random(0)
    every = range(tokenizer.vocabulary_size)
    partial = [token for token in every if "\ufffd" in token_text(tokenizer, token)]
    assert partial
    texts = [tokenizer.encode(text) for text in SAMPLES]
    for case in range(2_000):
        source = (every, partial, texts[case % len(texts)], [*sorted(tokenizer.special_ids), *partial])[case % 4]
        tokens = chance.choices(source, k=chance.randrange(1, 40)) if case % 8 else list(source)[:40]
        skip = case % 3 == 0
        shown = stream(Detokenizer(tokenizer, skip_special_tokens=skip), tokens)
        assert "".join(shown) == tokenizer.decode(tokens, skip_special_tokens=skip)
    for text, tokens in zip(SAMPLES, texts, strict=True):
        shown = stream(Detokenizer(tokenizer), tokens)
        assert "".join(shown) == text
        assert "\ufffd" in text or not any("\ufffd" in piece for piece in shown)
