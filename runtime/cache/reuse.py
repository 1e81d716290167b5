"""What is known about the cache's future and past: who will come back to a prefix, and what was evicted too early."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

REMEMBERED_PAGES = 1 << 16


class Mark:
    """A live program will come back to the prefix that ends at `node`, in `next_use` of its steps.

    A marked prefix is evicted after all that is not marked, and among the marked the one that is needed last goes
    first. It takes no memory from anybody: it only says who goes when somebody must.
    """

    __slots__ = ("next_use", "node", "tokens")

    def __init__(self, node: object, tokens: int, next_use: float) -> None:
        self.node: object | None = node  # the tree's; None when the mark is gone, or nothing is left of the prefix
        self.tokens = tokens  # how long the cached prefix was
        self.next_use = next_use


def soonest(marks: Iterable[Mark]) -> float:
    """The fewest steps until one of the marks is needed; infinity without any."""
    return min((mark.next_use for mark in marks), default=math.inf)


def chained(key: int, tokens: Sequence[int], page_size: int) -> list[int]:
    """For each page of the tokens, a hash of everything up to its end, given that of what comes before them."""
    keys = []
    for start in range(0, len(tokens), page_size):
        key = hash((key, *tokens[start : start + page_size]))
        keys.append(key)
    return keys


class Regrets:
    """Counts the pages that were computed again after they had been evicted. Remembers the latest evictions only."""

    def __init__(self, remembered: int = REMEMBERED_PAGES) -> None:
        self.pages = 0
        self._remembered = remembered
        self._gone: dict[int, None] = {}  # oldest first

    def evicted(self, keys: Iterable[int]) -> None:
        """These pages are gone."""
        gone = self._gone
        for key in keys:
            gone[key] = None
        while len(gone) > self._remembered:
            del gone[next(iter(gone))]

    def computed(self, keys: Iterable[int]) -> None:
        """These pages are there, and were not found in the cache."""
        if self._gone:
            for key in keys:
                if key in self._gone:
                    del self._gone[key]
                    self.pages += 1

    def forgive(self) -> None:
        """What is gone was told to go: it is nobody's regret when it is computed again."""
        self._gone.clear()
