"""Plans in flight: when a lease that was given up is released, and which chunks still count after tokens changed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ramify.runtime.cache.memory import KVMemory
from ramify.runtime.scheduling.in_flight import PlansInFlight
from ramify.runtime.scheduling.plan import Chunk, Plan
from ramify.runtime.scheduling.request import Request


class Bench:
    """Requests with leases of their own, in plans made by hand."""

    def __init__(self) -> None:
        self.memory = KVMemory(50, 4)
        self.flights = PlansInFlight(self.memory)
        self.plans = 0

    def request(self, number: int, length: int, computed: int) -> Request:
        request = Request(number, range(length), max_new_tokens=20)
        request.lease = self.memory.claim(request.tokens, limit=0)
        assert self.memory.extend(request.lease, length + 4)
        request.computed = computed
        return request

    def fly(self, *chunks: Chunk) -> Plan:
        self.plans += 1
        plan = Plan(self.plans, chunks)
        self.flights.add(plan)
        return plan

    def leave(self, request: Request) -> None:
        assert request.lease is not None
        self.flights.leave(request, request.lease)


def chunk(request: Request, start: int, length: int = 1, samples: bool = True) -> Chunk:
    return Chunk(request, start, length, request.pages, samples)


def test_a_lease_is_released_with_the_last_plan_over_it() -> None:
    bench = Bench()
    one, other, idle = (bench.request(number, 8, 7) for number in range(3))
    first = bench.fly(chunk(one, 7), chunk(other, 7))
    second = bench.fly(chunk(one, 8))
    bench.leave(idle)
    assert bench.memory.in_use == 6  # three pages each, of two
    bench.leave(one)
    bench.leave(other)
    assert bench.memory.in_use == 6 and bench.memory.room == 44
    assert not bench.flights.live(first) and not bench.flights.live(second)
    assert bench.flights.land(first) == {} and bench.memory.in_use == 3
    assert bench.flights.land(second) == {} and bench.memory.in_use == 0
    bench.memory.check()


def test_a_plan_that_is_withdrawn_releases_too() -> None:
    bench = Bench()
    request = bench.request(1, 8, 7)
    plan = bench.fly(chunk(request, 7))
    bench.leave(request)
    bench.flights.withdraw(plan)
    assert bench.memory.in_use == 0 and not bench.flights


def test_plans_land_in_their_order_and_are_withdrawn_from_behind() -> None:
    bench = Bench()
    request = bench.request(1, 8, 7)
    first, second = bench.fly(chunk(request, 7)), bench.fly(chunk(request, 8))
    with pytest.raises(AssertionError, match="whose turn"):
        bench.flights.land(second)
    with pytest.raises(AssertionError, match="made last"):
        bench.flights.withdraw(first)


#       tokens, computed, then what is in flight: (start, length, samples); the tokens that agree; what is left of it
CASES: dict[str, tuple[int, int, list[tuple[int, int, bool]], int, list[tuple[int, bool]]]] = {
    "the token that was followed is there": (9, 8, [(8, 1, True)], 9, [(8, True)]),
    "another token is there": (9, 8, [(8, 1, True)], 8, []),
    "it was taken back": (8, 7, [(8, 1, True)], 8, []),
    "text was forced behind it": (12, 8, [(8, 1, True)], 9, [(8, False)]),
    "forced text was encoded anew from before it": (12, 8, [(8, 1, True)], 8, []),
    "more was taken back than is computed": (9, 6, [(8, 1, True)], 6, []),
    "a prefill goes on": (20, 4, [(4, 8, False)], 20, [(4, False)]),
    "a prefill, and what it would choose is known": (24, 4, [(4, 16, True)], 20, [(4, False)]),
    "two of them": (20, 4, [(4, 8, False), (12, 8, True)], 20, [(4, False), (12, True)]),
    "the second computes what has changed": (20, 4, [(4, 8, False), (12, 8, True)], 15, [(4, False)]),
    "the second leaned on the first": (20, 4, [(4, 8, False), (12, 8, True)], 9, []),
    "nothing would be left to compute": (12, 4, [(4, 8, False)], 12, []),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_which_chunks_still_count(
    case: tuple[int, int, Sequence[tuple[int, int, bool]], int, Sequence[tuple[int, bool]]],
) -> None:
    length, computed, chunks, agreed, left = case
    bench = Bench()
    request = bench.request(1, length, computed)
    plans = [bench.fly(chunk(request, *one)) for one in chunks]
    bench.flights.revised(request, agreed)
    found = [one for plan in plans for one in bench.flights.live(plan).values()]
    assert [(one.start, one.samples) for one in found] == list(left)
    ahead = bench.flights.ahead(request)
    assert (ahead is found[-1]) if len(found) == len(chunks) else ahead is None
