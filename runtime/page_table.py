"""A request's page table as an array that grows with it, so that a step does not copy long tables number by number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..kernels.draws import Ints


class PageTable:
    """Follows one request's list of pages from step to step: see `Chunk.pages` for when what was copied stays right."""

    __slots__ = ("_array", "_copied", "_source")

    def __init__(self) -> None:
        self._source: Sequence[int] = ()
        self._array: Ints = np.empty(0, np.int32)
        self._copied = 0

    def first(self, pages: Sequence[int], count: int) -> Ints:
        """The first `count` pages: a view, right until the next call."""
        if pages is not self._source:
            self._source, self._copied = pages, 0
        if count > self._copied:
            if count > len(self._array):
                self._array = np.concatenate((self._array, np.empty(count, np.int32)))  # at least twice as long
            self._array[self._copied : count] = pages[self._copied : count]
            self._copied = count
        return self._array[:count]
