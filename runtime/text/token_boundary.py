"""Text that follows tokens: only what the meeting point changes is encoded anew.

A byte-pair vocabulary may want to merge the end of what is there with the beginning of what comes ("new" + "line").
Tokens before that point stay, even where a model chose them against its tokenizer's habit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Protocol

WINDOW = 32  # tokens looked at first; doubled as long as nothing in them is certain


class BoundaryTokenizer(Protocol):
    """What this needs of a tokenizer."""

    @property
    def special_ids(self) -> Collection[int]: ...

    def token_bytes(self, token: int, /) -> bytes: ...

    def encode_continuation(self, text: str, /) -> list[int]: ...


def append_text(tokenizer: BoundaryTokenizer, tokens: Sequence[int], text: str) -> list[int]:
    """`tokens`, then `text`: the ids that encoding everything at once gives, for tokens that were encoded so.

    Special tokens are never crossed, half characters never joined. The result shares a prefix with `tokens`.
    """
    if not text:
        return list(tokens)
    window = WINDOW
    while True:
        start = _readable_from(tokenizer, tokens, max(0, len(tokens) - window))
        kept = _kept(tokenizer, tokens[start:], text)
        if kept is None:
            return [*tokens, *tokenizer.encode_continuation(text)]
        count, ending = kept
        if count or start == 0 or start > len(tokens) - window:
            return [*tokens[: start + count], *ending]
        window *= 2


def _kept(tokenizer: BoundaryTokenizer, tail: Sequence[int], text: str) -> tuple[int, list[int]] | None:
    """How many tokens of the tail stay, and what follows them; None: the tail's bytes do not survive encoding."""
    pieces = [tokenizer.token_bytes(token) for token in tail]
    before = b"".join(pieces).decode()
    alone = tokenizer.encode_continuation(before) if before else []
    if b"".join(map(tokenizer.token_bytes, alone)) != before.encode():
        return None  # a normalizer rewrote it
    together = tokenizer.encode_continuation(before + text)
    agreed = 0
    while agreed < min(len(alone), len(together)) and alone[agreed] == together[agreed]:
        agreed += 1
    # byte offsets, below the first disagreement, where both the tail and the new encoding have a boundary
    offsets = [0, *accumulate(len(tokenizer.token_bytes(token)) for token in together[:agreed])]
    at = {offset: index for index, offset in enumerate(offsets)}
    ends = [0, *accumulate(map(len, pieces))]
    count = max(index for index, end in enumerate(ends) if end in at)
    return count, together[at[ends[count]] :]


def _readable_from(tokenizer: BoundaryTokenizer, tokens: Sequence[int], start: int) -> int:
    """The first index from `start` on behind which there are no special tokens and only whole characters."""
    special = tokenizer.special_ids
    for index in range(len(tokens) - 1, start - 1, -1):
        if tokens[index] in special:
            start = index + 1
            break
    while start < len(tokens):
        try:
            b"".join(map(tokenizer.token_bytes, tokens[start:])).decode()
            return start
        except UnicodeDecodeError as error:
            bad_end, offset = max(error.end, 1), 0
            while start < len(tokens) and offset < bad_end:  # go on behind the bytes that are no character
                offset += len(tokenizer.token_bytes(tokens[start]))
                start += 1
    return start
