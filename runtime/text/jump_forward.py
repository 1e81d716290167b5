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

from ..sampling.constraint import Matcher
from .token_boundary import BoundaryTokenizer, append_text

REMEMBERED = 4_096  # pieces of text whose longer tokens are known, and encodings
TAIL = 24  # bytes before forced text that are looked at, at least: longer than nearly every token


@dataclass(frozen=True, slots=True)
class Jump:
    """The last `drop` tokens of the output give way to `tokens`: the same text, and then `data`, which was forced."""

    drop: int
    tokens: tuple[int, ...]
    data: bytes
    ends: bool  # the grammar is complete after it


class JumpForward:
    """Plans jumps for one tokenizer. `tokens[i]` is what token i spells, None for those that no grammar allows.

    For one thread: it remembers what it was asked.
    """

    def __init__(self, tokenizer: BoundaryTokenizer, tokens: Sequence[bytes | None]) -> None:
        self._tokenizer = tokenizer
        self._sorted = sorted({token for token in tokens if token})
        self._longest = max(map(len, self._sorted), default=0)
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
        if not ends:
            tokens = self._certain(matcher, last, before, text, tokens)
        matcher.rollback(1)
        fresh = len(self._bytes(tokens)) - len(before)
        if fresh <= 0 or len(output) - len(last) + len(tokens) > room:
            return None
        same = common(last, tokens)
        return Jump(len(last) - same, tuple(tokens[same:]), data[:fresh], ends)

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

    def _certain(
        self, matcher: Matcher, last: Sequence[int], before: bytes, text: str, tokens: Sequence[int]
    ) -> Sequence[int]:
        """The first of the `tokens`, which spell `before` and `text`, that stay whatever follows the text.

        A byte-pair encoding with a boundary at some byte is the encoding of what is before it. So where a token that
        spans the end of the text may begin, the tokens before must be those of the text up to there; with every such
        place in turn, what all agree on is certain. The matcher stands behind the text.
        """
        whole, data = before + text.encode(), text.encode()
        places = {
            start - len(before)
            for start in range(max(0, len(whole) - self._longest + 1), len(whole))
            if self._spans(matcher, whole[start:])
        }
        blanks = whole.decode(errors="replace")
        blanks = blanks[len(blanks.rstrip()) :]
        if len(blanks) > 1:  # pre-tokenizers cut a run of them by what comes after it
            places.add(len(data) - len(blanks.encode()))
        for place in sorted(places):
            if place <= 0:
                return []
            upto = whole_characters(data[:place])
            other = self._encode(last, upto) if upto else last
            tokens = tokens[: common(tokens, other)]
        return tokens

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


def ends_within_a_character(data: bytes) -> bool:
    """Whether the last character is not whole yet."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # not the continuation of a character: its first byte, or ASCII
            return byte >= 0xC0 and back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
    return bool(data)
