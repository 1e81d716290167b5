"""Text that a grammar leaves no choice about, as tokens: those that the tokenizer gives, and only what is certain.

Appending forced text naively gives other tokens than the tokenizer would, and takes choices away: after `{"order` the
grammar may force nothing for `Id"` to be possible, and yet `orderId` be one token. So the forced bytes are encoded with
the last tokens before them, and what some allowed token could still span is left to the model:

    so far      {"  na                       tokens that the model chose
    forced          me": "                   the only continuation there is
    encoded     {"  name  ":  ' "'           `na` gave way to `name`
    open                       ' "'          ` "(` is a token and may follow: from here on the model chooses
    jumped          name  ":

docs/jump-forward.md says when this is safe, and which failures each rule prevents.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from ..sampling.constraint import Matcher
from .token_boundary import BoundaryTokenizer, append_text

Ids = npt.NDArray[np.int32]

REMEMBERED = 4_096  # pieces of text whose longer tokens are known, and encodings
FEW_FOLLOWERS = 48
LONG_FOLLOWER = 4  # bytes: ` true` and ` null` are decided, ` t` is not
TAIL = 24  # bytes before forced text that are looked at, at least: longer than nearly every token


@dataclass(frozen=True, slots=True)
class Opening:
    """How a text whose next `forced` bytes are certain may go on: with `tokens`, or with a token longer than that.

    Others would spell the same text in a way that the tokenizer never does.
    """

    forced: int
    tokens: frozenset[int]


@dataclass(frozen=True, slots=True)
class Jump:
    """The last `drop` tokens of the output give way to `tokens`: the same text, and then `data`, which was forced.

    There may be none of them: then nothing is certain but how the text may go on.
    """

    drop: int
    tokens: tuple[int, ...]
    data: bytes
    ends: bool  # the grammar is complete after it
    opening: Opening | None = None


class JumpForward:
    """Plans jumps for one tokenizer. `tokens[i]` is what token i spells, None for those that no grammar allows.

    For one thread: it remembers what it was asked.
    """

    def __init__(self, tokenizer: BoundaryTokenizer, tokens: Sequence[bytes | None]) -> None:
        self._tokenizer = tokenizer
        self._sorted = sorted({token for token in tokens if token})
        self._longest = max(map(len, self._sorted), default=0)
        self.lengths = np.array([len(token or b"") for token in tokens], np.int32)  # [tokens]: bytes of each
        self._spanned: dict[tuple[bytes, bytes], bool] = {}
        self._extensions: dict[bytes, list[tuple[bytes, list[bytes]]]] = {}
        self._joined: dict[tuple[tuple[int, ...], str], list[int]] = {}

    def plan(self, matcher: Matcher, output: Sequence[int], room: int) -> Jump | None:
        """What can be appended to the output without asking the model; None when that is nothing.

        The matcher is left as it was. `room`: the most tokens the output may have.
        """
        forced = matcher.forced()
        if not forced:
            return None
        text = whole_characters(forced)
        tail = self._tail(output)
        if not text or tail is None:
            return None
        last = list(output[len(output) - tail :])
        data, before = text.encode(), self._bytes(last)
        tokens: Sequence[int] = self._encode(last, text)
        if self._bytes(tokens) != before + data:
            return None  # a normalizer rewrote something
        if not matcher.accept_bytes(data):
            raise AssertionError("forced text is not accepted")
        ends = matcher.finished
        places, blank = ([], False) if ends else self._places(matcher, before, data)
        stands = not places or places[0] < 0 or self._stands(matcher, before + data)
        matcher.rollback(1)
        if places and places[0] < 0:
            return None
        others = {place: self._encode(last, whole_characters(data[:place])) for place in places}
        kept = min([len(tokens), *(common(tokens, other) for other in others.values())])
        tokens, rest = tokens[:kept], tokens[kept:]
        fresh = len(self._bytes(tokens)) - len(before)
        if fresh < 0 or len(output) - len(last) + len(tokens) > room:
            return None
        same = common(last, tokens)
        if fresh == 0 and same < len(last):
            return None  # other tokens for the same text
        opening = None
        if rest and not blank:
            firsts = {rest[0]} if stands else set()
            for place, other in others.items():
                if (
                    len(other) > kept
                    and other[kept] not in firsts
                    and self._really_spans(before + data, len(before) + place)
                ):
                    firsts.add(other[kept])
            opening = Opening(len(data) - fresh, frozenset(firsts))
        return Jump(len(last) - same, tuple(tokens[same:]), data[:fresh], ends, opening)

    def narrowed(self, opening: Opening, ids: Ids) -> Ids:
        """The allowed tokens with which the tokenizer itself would go on."""
        listed = np.fromiter(opening.tokens, np.int32)
        kept: Ids = ids[(self.lengths[ids] > opening.forced) | np.isin(ids, listed)]
        return kept

    def _tail(self, output: Sequence[int]) -> int | None:
        """How many tokens at the end are looked at; None when the output ends within a character."""
        count = size = 0
        while count < len(output) and (size < TAIL or count < 4):
            count += 1
            size += len(self._tokenizer.token_bytes(output[-count]))
        data = b"".join(map(self._tokenizer.token_bytes, output[len(output) - count :]))
        return None if ends_within_a_character(data) else count

    def _bytes(self, tokens: Sequence[int]) -> bytes:
        return b"".join(map(self._tokenizer.token_bytes, tokens))

    def _encode(self, tail: Sequence[int], text: str) -> list[int]:
        """The tail and then the text, as the tokenizer joins them."""
        key = (tuple(tail), text)
        found = self._joined.get(key)
        if found is None:
            if len(self._joined) >= REMEMBERED:
                self._joined.clear()
            found = self._joined[key] = append_text(self._tokenizer, tail, text)
        return found

    def _places(self, matcher: Matcher, before: bytes, data: bytes) -> tuple[list[int], bool]:
        """Where in `data`, which follows `before`, a token may begin that spans its end; negative: in `before`.

        A byte-pair encoding with a boundary at some byte is the encoding of what is before it. So in front of such a
        token stand the tokens of the text up to there; what these and the whole text's tokens agree on, for every such
        place, is certain. The matcher stands behind the data. Pre-tokenizers cut a run of blanks by what comes after
        it: where the data ends in one (the second result says so), its beginning is such a place too.
        """
        whole = before + data
        first = max(0, len(whole) - self._longest + 1)
        places = {at - len(before) for at in range(first, len(whole)) if self._spans(matcher, whole[at:])}
        text = whole.decode(errors="replace")
        blanks = text[len(text.rstrip()) :]
        if len(blanks) > 1:
            places.add(len(data) - len(blanks.encode()))
        return sorted(places), len(blanks) > 1

    def _stands(self, matcher: Matcher, text: bytes) -> bool:
        """Whether the text's own last token may stay as it is: whether something may follow that does not join it."""
        few = None if matcher.accepting else matcher.allowed(FEW_FOLLOWERS)
        if few is None:
            return True
        context = whole_ending(text[-TAIL:])
        followers = set()
        for token in few:
            follower = self._tokenizer.token_bytes(int(token))
            if not matcher.accept(int(token)):
                return True
            follower += matcher.forced()
            whole = matcher.accept_bytes(matcher.forced()) and matcher.finished
            matcher.rollback(2)
            if not whole and len(follower) < LONG_FOLLOWER:
                return True  # what comes after it might make the difference
            followers.add(follower)
        return any(self._parts(context, follower) for follower in followers)

    def _parts(self, context: bytes, follower: bytes) -> bool:
        """Whether the tokenizer begins a token where the context ends and the follower begins."""
        try:
            tokens = self._tokenizer.encode_continuation((context + follower).decode())
        except UnicodeDecodeError:
            return True
        return len(context) in accumulate(len(self._tokenizer.token_bytes(token)) for token in tokens)

    def _really_spans(self, text: bytes, start: int) -> bool:
        """Whether the tokenizer itself ever writes a token that begins there and spans the end of the text."""
        piece = text[start:]
        context = whole_ending(text[max(0, start - TAIL) : start])
        key = (context, piece)
        if key not in self._spanned:
            if len(self._spanned) >= REMEMBERED:
                self._spanned.clear()
            longer = [first + rest for first, rests in self._longer(piece) for rest in rests]
            self._spanned[key] = any(self._writes(context, piece + rest) for rest in longer)
        return self._spanned[key]

    def _writes(self, context: bytes, spelled: bytes) -> bool:
        """Whether the last token of the context with these bytes spells exactly these bytes."""
        try:
            tokens = self._tokenizer.encode_continuation((context + spelled).decode())
        except UnicodeDecodeError:
            return False
        return bool(tokens) and self._tokenizer.token_bytes(tokens[-1]) == spelled

    def _spans(self, matcher: Matcher, piece: bytes) -> bool:
        """Whether a token that begins with the piece and is longer is allowed, where the piece would be followed."""
        for first, rests in self._longer(piece):
            if not matcher.accept_bytes(first):
                continue
            found = False
            for rest in rests:
                found = not rest or matcher.accept_bytes(rest)
                if found:
                    if rest:
                        matcher.rollback(1)
                    break
            matcher.rollback(1)
            if found:
                return True
        return False

    def _longer(self, piece: bytes) -> list[tuple[bytes, list[bytes]]]:
        """How tokens that begin with the piece go on, by the first byte of it; the shortest first."""
        known = self._extensions.get(piece)
        if known is None:
            if len(self._extensions) >= REMEMBERED:
                self._extensions.clear()
            groups: dict[bytes, list[bytes]] = {}
            index = bisect_right(self._sorted, piece)
            while index < len(self._sorted) and self._sorted[index].startswith(piece):
                rest = self._sorted[index][len(piece) :]
                groups.setdefault(rest[:1], []).append(rest[1:])
                index += 1
            known = self._extensions[piece] = [(first, sorted(rests, key=len)) for first, rests in groups.items()]
        return known


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def whole_characters(data: bytes) -> str:
    """The data as text, without the beginning of a character at its end; empty when it is not text."""
    for end in range(len(data), max(-1, len(data) - 4), -1):
        try:
            return data[:end].decode()
        except UnicodeDecodeError:
            continue
    return ""


def whole_ending(data: bytes) -> bytes:
    """The data without what is left of a character at its beginning."""
    start = 0
    while start < len(data) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]


def ends_within_a_character(data: bytes) -> bool:
    """Whether the last character is not whole yet."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # not the continuation of a character: its first byte, or ASCII
            return byte >= 0xC0 and back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
    return bool(data)
