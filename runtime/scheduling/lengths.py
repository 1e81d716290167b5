"""Learns how long answers really get, so that admission reserves what is likely and not what is allowed."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque


class OutputLengths:
    """The output lengths of the last `window` finished requests, asked for a quantile of what is still to come."""

    def __init__(self, quantile: float = 0.8, window: int = 256, first_guess: int = 128) -> None:
        if not 0 < quantile <= 1:
            raise ValueError(f"the quantile must be in (0, 1], got {quantile}")
        self._quantile = quantile
        self._window = window
        self._first_guess = first_guess
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []

    def observe(self, length: int) -> None:
        """A request has finished by itself after `length` tokens."""
        if len(self._recent) == self._window:
            oldest = self._recent.popleft()
            del self._sorted[bisect_right(self._sorted, oldest) - 1]
        self._recent.append(length)
        insort(self._sorted, length)

    def expected(self, generated: int, maximum: int) -> int:
        """The output length to plan for, given `generated` tokens so far and at most `maximum` in all.

        Among the recent answers longer than `generated`, the quantile; beyond all of them, twice as long as now.
        """
        longer = bisect_right(self._sorted, generated)
        count = len(self._sorted) - longer
        if count:
            guess = self._sorted[longer + min(count - 1, int(self._quantile * count))]
        elif self._sorted:
            guess = 2 * generated
        else:
            guess = max(self._first_guess, 2 * generated)
        return min(maximum, max(guess, generated + 1))
