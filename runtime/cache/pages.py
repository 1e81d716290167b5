"""The pool of KV pages: which page numbers are free and which are handed out, and nothing about what they hold."""

from __future__ import annotations

from collections.abc import Sequence


class PagePool:
    """A fixed number of pages. Taking and giving back are O(pages moved); giving back twice is caught at once."""

    def __init__(self, pages: int) -> None:
        if pages < 1:
            raise ValueError(f"a page pool needs at least one page, got {pages}")
        self._free = list(range(pages - 1, -1, -1))  # a stack: the page freed last is the warmest one
        self._taken = bytearray(pages)

    @property
    def total(self) -> int:
        return len(self._taken)

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """Hand out `count` pages, which must not be more than are free."""
        if count > len(self._free):
            raise AssertionError(f"{count} pages asked for, {len(self._free)} free: make room first")
        if count <= 0:
            return []
        pages = self._free[-count:]
        del self._free[-count:]
        for page in pages:
            self._taken[page] = 1
        return pages

    def give_back(self, pages: Sequence[int]) -> None:
        """Return pages that were taken; each of them exactly once."""
        for page in pages:
            if not self._taken[page]:
                raise AssertionError(f"page {page} was given back twice")
            self._taken[page] = 0
        self._free.extend(pages)

    def is_taken(self, page: int) -> bool:
        return bool(self._taken[page])

    def check(self) -> None:
        """Raise AssertionError unless the free list and the marks agree; O(pages), for tests."""
        if len(set(self._free)) != len(self._free):
            raise AssertionError("a page is in the free list twice")
        if any(self._taken[page] for page in self._free):
            raise AssertionError("a free page is marked as taken")
        if sum(self._taken) + len(self._free) != self.total:
            raise AssertionError(f"{self.total} pages, but {sum(self._taken)} taken and {len(self._free)} free")
