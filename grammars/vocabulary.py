"""What a model's tokens spell, in bytes: all that masks need to know of a tokenizer."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from ..errors import InvalidRequest
from .token_bytes import spelling_of

_END_NAMES = frozenset(
    [
        *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<|return|>"),
        *("</s>", "<eos>", "<end_of_turn>", "<EOT>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    ]
)


class Vocabulary:
    """Token ids and the bytes that they spell. Immutable, and safe from many threads.

    `tokens[i]` is what token i spells; None (or b"") for a control token, which no grammar ever allows. `end_tokens`
    end a generation: they are allowed exactly when the text so far is complete, whatever they spell. `size` is the
    number of columns of the model's logits, at least len(tokens): ids beyond the tokens are never allowed.
    """

    def __init__(self, tokens: Sequence[bytes | None], end_tokens: Iterable[int], size: int | None = None) -> None:
        self.end_tokens = tuple(sorted(set(end_tokens)))
        self.size = len(tokens) if size is None else size
        if self.size < len(tokens):
            raise InvalidRequest(f"size {self.size} is less than the number of tokens, {len(tokens)}")
        if self.end_tokens and not 0 <= self.end_tokens[0] <= self.end_tokens[-1] < self.size:
            raise InvalidRequest(f"end_tokens must be ids below {self.size}, not {self.end_tokens}")
        ends = frozenset(self.end_tokens)
        self.tokens = tuple(token or None if index not in ends else None for index, token in enumerate(tokens))
        self.words = (self.size + 31) // 32  # uint32 words of a mask

    def __repr__(self) -> str:
        return f"<ramify.grammars.Vocabulary of {self.size} tokens, {self.fingerprint[:8]}>"

    @cached_property
    def fingerprint(self) -> str:
        """Equal for vocabularies that spell the same: a hexadecimal sha256."""
        digest = hashlib.sha256(repr((self.size, self.end_tokens)).encode())
        for token in self.tokens:
            digest.update(b"-" if token is None else len(token).to_bytes(4, "little") + token)
        return digest.hexdigest()

    @classmethod
    def of(cls, tokenizer: Any, size: int | None = None, *, end_tokens: Iterable[int] | None = None) -> Vocabulary:
        """The vocabulary of a tokenizer: the engine's own, or one of transformers, of tokenizers or of tiktoken.

        `size`: columns of the model's logits where they are more than the tokens. End tokens are those given, else the
        tokenizer's own (`eos_ids`, `eos_token_id`), else its control tokens with the usual names. Raises
        InvalidRequest for anything else, and for a slow (Python-only) tokenizer of transformers.
        """
        tokens, own = _read(tokenizer)
        return cls(tokens, own if end_tokens is None else end_tokens, size)


def _read(tokenizer: Any) -> tuple[list[bytes | None], list[int]]:
    """The bytes of every token, and the tokens that end a text."""
    if hasattr(tokenizer, "token_bytes") and hasattr(tokenizer, "special_ids"):
        count = tokenizer.vocabulary_size
        tokens = [None if i in tokenizer.special_ids else tokenizer.token_bytes(i) for i in range(count)]
        return tokens, list(tokenizer.eos_ids)
    if hasattr(tokenizer, "decode_single_token_bytes"):  # tiktoken's
        return _of_tiktoken(tokenizer)
    backend = getattr(tokenizer, "backend_tokenizer", getattr(tokenizer, "_tokenizer", tokenizer))
    if not hasattr(backend, "get_added_tokens_decoder"):
        raise InvalidRequest(
            f"cannot read the vocabulary of a {type(tokenizer).__name__}: give one of the tokenizers library or of "
            "tiktoken, a fast one of transformers, or Vocabulary(tokens, end_tokens) itself"
        )
    end = getattr(tokenizer, "eos_token_id", None)
    ends = [end] if isinstance(end, int) else list(end or ())
    return _spelled(backend), ends or _usual_ends(backend)


def _of_tiktoken(encoding: Any) -> tuple[list[bytes | None], list[int]]:
    special = {name: encoding.encode_single_token(name) for name in encoding.special_tokens_set}
    tokens: list[bytes | None] = [None] * encoding.n_vocab
    for token in set(range(encoding.n_vocab)) - set(special.values()):
        with contextlib.suppress(KeyError):  # an id without a token
            tokens[token] = encoding.decode_single_token_bytes(token)
    return tokens, [token for name, token in special.items() if name in _END_NAMES]


def _spelled(backend: Any) -> list[bytes | None]:
    """The bytes of every token of a tokenizers.Tokenizer; None for control tokens and for ids without a token."""
    state = backend.decoder.__getstate__() if backend.decoder else b"{}"
    spelling = spelling_of(json.loads(state))
    added = backend.get_added_tokens_decoder()
    known = backend.get_vocab(with_added_tokens=True)
    tokens: list[bytes | None] = [None] * (max(known.values(), default=-1) + 1)
    for content, token in known.items():
        if token not in added:
            tokens[token] = spelling(content)
        elif not added[token].special:
            tokens[token] = added[token].content.encode()
    return tokens


def _usual_ends(backend: Any) -> list[int]:
    """The control tokens with names that end tokens usually have: `</s>` is an ordinary token in many vocabularies."""
    added = backend.get_added_tokens_decoder()
    return [token for token, one in added.items() if one.special and one.content in _END_NAMES]
