"""Finds stop strings in a stream of text: each in one pass, with the failure links of Knuth, Morris and Pratt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Found(NamedTuple):
    """A match, as character positions from the start of the stream."""

    start: int
    end: int


class StringSearch:
    """The search of one stream for several strings; O(1) amortized for each character and string."""

    def __init__(self, strings: Iterable[str]) -> None:
        self._strings = tuple(strings)
        self._links = [failure_links(string) for string in self._strings]
        self._matched = [0] * len(self._strings)  # characters of each string that the text ends with
        self._begins = frozenset(string[0] for string in self._strings)
        self._position = 0

    @property
    def held(self) -> int:
        """How many characters at the end of the text may be the beginning of a match."""
        return max(self._matched, default=0)

    def feed(self, text: str, *, reports: bool = True) -> Found | None:
        """Go through the text; the first match to end, the longest of those, or None. After a match, feed no more.

        reports=False passes over matches that end in this text.
        """
        best: Found | None = None
        if not any(self._matched) and self._begins.isdisjoint(text):  # the common case
            self._position += len(text)
            return None
        for index, string in enumerate(self._strings):
            end = self._advance(index, text, reports)
            if end is not None:
                found = Found(self._position + end - len(string), self._position + end)
                if best is None or (found.end, found.start) < (best.end, best.start):
                    best = found
        self._position += len(text)
        return best

    def _advance(self, index: int, text: str, reports: bool) -> int | None:
        """Where in the text the first match of one string ends."""
        string, links, matched = self._strings[index], self._links[index], self._matched[index]
        if not matched and string[0] not in text:
            return None
        for end, character in enumerate(text, 1):
            while matched and string[matched] != character:
                matched = links[matched]
            matched += string[matched] == character
            if matched == len(string):
                matched = links[matched]
                if reports:
                    return end
        self._matched[index] = matched
        return None


def failure_links(string: str) -> list[int]:
    """links[m]: the length of the longest proper prefix of string[:m] that is also its suffix."""
    links = [0] * (len(string) + 1)
    matched = 0
    for end in range(1, len(string)):
        while matched and string[end] != string[matched]:
            matched = links[matched]
        matched += string[end] == string[matched]
        links[end + 1] = matched
    return links
