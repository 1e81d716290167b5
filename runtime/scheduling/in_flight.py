"""Plans between their making and their commit: whose results still count, and which pages must not be free yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..cache.memory import KVMemory, Lease
from .plan import Chunk, Plan
from .request import Request


@dataclass(slots=True)
class _Flight:
    plan: Plan
    live: dict[int, Chunk]  # by request id: those whose results still count
    members: set[int]  # all requests whose pages the plan writes to
    leaving: list[Lease] = field(default_factory=list)


class PlansInFlight:
    """The plans that were made and are not committed: none, one, or with overlap the one that runs and one behind it.

    What happens to a request meanwhile (it ended, its output was rewritten) makes its later chunks stale: they are
    computed, and nobody looks at what comes of it.

    The rule for memory: a page to which a plan in flight writes belongs to the request of that chunk, alone, until the
    plan is committed. So a lease that is given up is released with the last plan that has a chunk over it; `publish`
    shares only pages that end before the first token in flight; and requests are retracted only while nothing is.
    Reads need no rule: a stale chunk may read pages that were evicted or exchanged since. Whoever gets such a page
    writes to it in a later launch, and launches run in the order in which they were made. The same order is all that
    is relied on where a commit does not wait for the device: after a launch that failed.
    """

    def __init__(self, memory: KVMemory) -> None:
        self._memory = memory
        self._flights: deque[_Flight] = deque()

    def __len__(self) -> int:
        return len(self._flights)

    def add(self, plan: Plan) -> None:
        live = {chunk.request.id: chunk for chunk in plan.chunks}
        self._flights.append(_Flight(plan, live, set(live)))

    def live(self, plan: Plan) -> Mapping[int, Chunk]:
        """The chunks of a plan in flight whose results still count, in their order. Without `samples` where a token
        has become known that was to be chosen."""
        return next(flight.live for flight in self._flights if flight.plan is plan)

    def chunks(self) -> Iterator[Chunk]:
        """All live chunks."""
        for flight in self._flights:
            yield from flight.live.values()

    def ahead(self, request: Request) -> Chunk | None:
        """The request's live chunk in the newest plan."""
        return self._flights[-1].live.get(request.id) if self._flights else None

    def land(self, plan: Plan) -> Mapping[int, Chunk]:
        """The oldest plan has run: returns its live chunks, and releases the leases that left during its flight."""
        if not self._flights or self._flights[0].plan is not plan:
            raise AssertionError("this plan is not the one whose turn it is")
        return self._end(self._flights.popleft())

    def withdraw(self, plan: Plan) -> None:
        """The newest plan will not run."""
        if not self._flights or self._flights[-1].plan is not plan:
            raise AssertionError("this plan is not the one that was made last")
        self._end(self._flights.pop())

    def _end(self, flight: _Flight) -> Mapping[int, Chunk]:
        for lease in flight.leaving:
            self._memory.release(lease)
        return flight.live

    def leave(self, request: Request, lease: Lease) -> None:
        """The request gives up its lease: what is in flight for it is stale, and its pages are released after that."""
        last: _Flight | None = None
        for flight in self._flights:
            flight.live.pop(request.id, None)
            if request.id in flight.members:
                last = flight
        if last is None:
            self._memory.release(lease)
        else:
            last.leaving.append(lease)

    def revised(self, request: Request, agreed: int) -> None:
        """The request's tokens were changed, or chosen: the first `agreed` are those that its chunks were planned for.

        A chunk that computes others is stale, and so are all behind it; one that was to choose a token which is known
        now only computes.
        """
        expected = request.computed
        for flight in self._flights:
            chunk = flight.live.get(request.id)
            if chunk is None:
                continue
            length = len(request.tokens)
            if chunk.start != expected or chunk.stop > min(agreed, length if chunk.samples else length - 1):
                del flight.live[request.id]
                continue
            expected = chunk.stop
            if chunk.samples and chunk.stop < length:
                flight.live[request.id] = replace(chunk, samples=False)
