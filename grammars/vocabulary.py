"""What a model's tokens spell, in bytes: all that masks need to know of a tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from ..errors import InvalidRequest


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
    def of(cls, tokenizer: Any, size: int | None = None) -> Vocabulary:
        """The vocabulary of a tokenizer: the engine's own, one of transformers', or one of the tokenizers library.

        `size`: columns of the model's logits where they are more than the tokens. Raises InvalidRequest for anything
        else, and for a slow (Python-only) tokenizer of transformers.
        """
        if hasattr(tokenizer, "token_bytes") and hasattr(tokenizer, "special_ids"):
            count = tokenizer.vocabulary_size
            tokens = [None if i in tokenizer.special_ids else tokenizer.token_bytes(i) for i in range(count)]
            return cls(tokens, tokenizer.eos_ids, size)
        raise InvalidRequest(f"cannot read the vocabulary of a {type(tokenizer).__name__}; give Vocabulary the bytes")
