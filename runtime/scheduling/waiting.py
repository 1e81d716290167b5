"""The queue of requests that wait to be admitted, in order of arrival and in a policy's standing order at once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable

from .request import Request

Rank = Callable[[Request], tuple[int, int]]


def arrival_rank(request: Request) -> tuple[int, int]:
    return (0, request.ticket)


class WaitingQueue:
    """Requests sorted by `rank`, which must end in the ticket; the one that came first is always at hand.

    Adding and removing cost a binary search and a move of pointers.
    """

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self._ranked: list[Request] = []
        self._arrived: list[Request] = self._ranked if rank is arrival_rank else []

    def __len__(self) -> int:
        return len(self._ranked)

    def add(self, request: Request) -> None:
        for queue, rank in self._orders():
            insort(queue, request, key=rank)

    def remove(self, request: Request) -> None:
        for queue, rank in self._orders():
            index = bisect_left(queue, rank(request), key=rank)
            assert queue[index] is request
            del queue[index]

    def oldest(self) -> Request:
        """The one that came first; there must be one."""
        return self._arrived[0]

    def first(self, count: int) -> list[Request]:
        """The first `count` by rank."""
        return self._ranked[:count]

    def _orders(self) -> Iterable[tuple[list[Request], Rank]]:
        yield self._ranked, self._rank
        if self._arrived is not self._ranked:
            yield self._arrived, arrival_rank
