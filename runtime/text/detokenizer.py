"""Turns tokens into text as they come: never half a character, at a constant cost for each token."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol


class TokenTexts(Protocol):
    """What a detokenizer asks of a tokenizer."""

    @property
    def special_ids(self) -> Collection[int]: ...

    def token_bytes(self, token: int, /) -> bytes:
        """The bytes that the token adds to the text, a leading space included."""

    def decode(self, tokens: Sequence[int], /, *, skip_special_tokens: bool = True) -> str: ...


class Detokenizer:
    """The text of one output. The pieces that push and finish return add up to the text of all tokens.

    Bytes that can still become a character are held back (at most 3); bytes that cannot be one become U+FFFD. A space
    before the first word stays, which SentencePiece decoders remove: the output goes on from a prompt.
    """

    def __init__(self, tokenizer: TokenTexts, *, skip_special_tokens: bool = True) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._skipped = frozenset(tokenizer.special_ids) if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, tokens: Iterable[int]) -> str:
        """The new text that is certain after these tokens; may be empty."""
        return self.push_bytes(b"".join(map(self.bytes_of, tokens)))

    def bytes_of(self, token: int) -> bytes:
        """What a token adds: nothing, when it is special and those are skipped."""
        return b"" if token in self._skipped else self._token_bytes(token)

    def push_bytes(self, data: bytes) -> str:
        """The new text that is certain after these bytes."""
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What was held back; the next push begins anew."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


def token_text(tokenizer: TokenTexts, token: int) -> str:
    """The text of one token alone, special tokens included; parts of characters appear as U+FFFD."""
    return tokenizer.token_bytes(token).decode("utf-8", "replace")
