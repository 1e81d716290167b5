"""Sets of Unicode characters as sorted ranges of code points."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

LAST = 0x10FFFF
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """Code points, surrogates included: sorted ranges, both ends included, that neither touch nor overlap."""

    ranges: tuple[Range, ...]

    def __or__(self, other: CharacterSet) -> CharacterSet:
        if not self.ranges or not other.ranges:
            return self if self.ranges else other
        return character_set((*self.ranges, *other.ranges))

    def __invert__(self) -> CharacterSet:
        found = []
        start = 0
        for first, last in self.ranges:
            if first > start:
                found.append((start, first - 1))
            start = last + 1
        if start <= LAST:
            found.append((start, LAST))
        return CharacterSet(tuple(found))

    def __and__(self, other: CharacterSet) -> CharacterSet:
        return ~(~self | ~other)

    def __sub__(self, other: CharacterSet) -> CharacterSet:
        return self & ~other

    def __contains__(self, code: int) -> bool:
        at = bisect.bisect_right(self.ranges, (code, LAST)) - 1
        return at >= 0 and self.ranges[at][1] >= code

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def within(self, first: int, last: int) -> tuple[Range, ...]:
        """The part from `first` to `last`, both included, as ranges."""
        return tuple((max(a, first), min(b, last)) for a, b in self.ranges if a <= last and b >= first)


def character_set(ranges: Iterable[Range]) -> CharacterSet:
    """The union of ranges in any order; those that are empty (first > last) count for nothing."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if first > last:
            continue
        if found and first <= found[-1][1] + 1:
            if last > found[-1][1]:
                found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return CharacterSet(tuple(found))


@lru_cache(1024)
def one(code: int) -> CharacterSet:
    """The set of this one character."""
    return CharacterSet(((code, code),))


def of(text: str) -> CharacterSet:
    """The set of the characters of this text."""
    return character_set((ord(character), ord(character)) for character in text)


NO_CHARACTER = CharacterSet(())
ANY_CHARACTER = CharacterSet(((0, LAST),))
NEWLINE = one(10)
ECMA_NEWLINES = of("\n\r\u2028\u2029")
