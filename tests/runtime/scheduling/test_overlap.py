"""Steps planned while others run: the same texts, no page written that is not one's own, and a device that never waits.

The device of the rehearsal does everything as late as it may, so that what was freed or told too early shows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

import pytest
from ramify.runtime.cache.memory import KVMemory, Lease
from ramify.runtime.clock import ManualClock
from ramify.runtime.scheduling.config import SchedulerConfig, SchedulerStats
from ramify.runtime.scheduling.finish import Finish
from ramify.runtime.scheduling.in_flight import PlansInFlight
from ramify.runtime.scheduling.plan import Chunk, DeviceFull, Plan, StepResult
from ramify.runtime.scheduling.rehearsal import RehearsalDevice, RehearsalFlight, rehearse_tokens
from ramify.runtime.scheduling.request import Request, RequestState, Rewrite
from ramify.runtime.scheduling.scheduler import Scheduler
from ramify.runtime.scheduling.stepping import Committed, OneByOne, Overlapped

from .test_rewrites import LONGEST, VOCABULARY, Rewriter


@dataclass
class Faults:
    """How often what goes wrong, in a step or to a request."""

    launch: float = 0.0
    choose: float = 0.0
    collect: float = 0.0
    request: float = 0.0
    abort: float = 0.02
    abort_in_flight: float = 0.02


class WildDevice(RehearsalDevice):
    """Works when it likes, fails now and then, and sees requests aborted between a launch and a wait."""

    def __init__(self, memory: KVMemory, chooser: random.Random, faults: Faults, play: Play) -> None:
        super().__init__(memory, VOCABULARY)
        self.stale = self.relieved = 0
        self._random = chooser
        self._faults = faults
        self._play = play

    def _at_times(self, share: float) -> bool:
        return self._random.random() < share

    def launch(self, plan: Plan, before: RehearsalFlight | None) -> RehearsalFlight:
        flight = super().launch(plan, before)
        if self._at_times(self._faults.launch):
            flight.failed = True
            raise self._random.choice([RuntimeError, DeviceFull])("injected at launch")
        flight.grounded = self._at_times(0.05)
        while self._told and self._at_times(0.3):
            self.work()
        return flight

    def choose(self, flight: RehearsalFlight, live: Mapping[int, Chunk]) -> None:
        if self._at_times(self._faults.choose):
            flight.failed = True
            raise self._random.choice([RuntimeError, DeviceFull])("injected in choosing")
        self.stale += len(flight.chunks) - len(live)
        self.relieved += sum(
            chunk.samples and not live[chunk.request.id].samples for chunk in flight.chunks if chunk.request.id in live
        )
        super().choose(flight, live)

    def collect(self, flight: RehearsalFlight) -> StepResult:
        if self._at_times(self._faults.abort_in_flight):
            self._play.abort_one()
        result = super().collect(flight)
        if self._at_times(self._faults.collect):
            raise RuntimeError("injected in collecting")
        errors: dict[int, Exception] = {
            request_id: RuntimeError("injected") for request_id in result.tokens if self._at_times(self._faults.request)
        }
        return StepResult(result.tokens, errors)


@dataclass
class Play:
    """Drives the real scheduler and the real overlap with requests of every kind, all at random."""

    seed: int = 1
    pages: int = 60
    page_size: int = 4
    count: int = 60
    faults: Faults = field(default_factory=Faults)
    device: type[WildDevice] = WildDevice
    requests: list[Request] = field(default_factory=list)
    ended: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.memory = KVMemory(self.pages, self.page_size)
        config = SchedulerConfig(context=LONGEST, token_budget=32, max_running=12, expected_quantile=0.1, overlap=True)
        self.scheduler = Scheduler(self.memory, config, ManualClock())
        self.at = self.device(self.memory, self.random, self.faults, self)
        self.steps = Overlapped(self.scheduler, self.at)
        stems = [[self.random.randrange(VOCABULARY) for _ in range(self.random.randint(1, 50))] for _ in range(6)]
        self.requests = [self.make(number, self.random.choice(stems)) for number in range(self.count)]

    def make(self, number: int, stem: list[int]) -> Request:
        chooser = self.random
        prompt = [*stem[: chooser.randint(0, len(stem))], chooser.randrange(VOCABULARY)]
        return Request(
            number,
            prompt,
            max_new_tokens=chooser.choice([0, 1, 2, LONGEST - len(prompt), LONGEST - len(prompt)]),
            stopper=Rewriter(chooser.randrange(1 << 30), share=chooser.choice([0.0, 0.4])),
            recompute_from=chooser.choice([None, None, 0, 7]),
            priority=chooser.randint(0, 2),
            waits=chooser.random() < 0.3,
        )

    def run(self) -> SchedulerStats:
        coming, waiting = list(reversed(self.requests)), [one for one in self.requests if one.waits]
        quiet = 0
        while coming or self.scheduler.has_work or self.steps.busy or waiting:
            for _ in range(min(len(coming), self.random.randint(0, 4))):
                self.scheduler.add(coming.pop())
            self.wake(waiting)
            if self.random.random() < self.faults.abort:
                self.abort_one()
            committed = self.steps.step()
            quiet = 0 if committed else quiet + 1
            assert quiet < 10_000, "no end in sight"
            self.hear(committed)
            self.memory.check()
        assert self.memory.in_use == 0 and self.memory.free + self.memory.cached == self.pages
        return self.scheduler.stats()

    def hear(self, committed: list[Committed]) -> None:
        for step in committed:
            for request in step.finished:
                assert request not in self.ended
                self.ended.append(request)

    def abort_one(self) -> None:
        self.scheduler.abort(self.random.choice(self.requests).id)

    def wake(self, waiting: list[Request]) -> None:
        chooser = self.random
        for request in [one for one in waiting if one.ticket >= 0 and chooser.random() < 0.2]:
            waiting.remove(request)
            tokens = tuple(chooser.randrange(VOCABULARY) for _ in range(chooser.choice([0, 0, 2, 11])))
            rewrite = Rewrite(0, tokens, Finish("stop") if chooser.random() < 0.1 else None, chooser.random() < 0.5)
            ended = self.scheduler.proceed(request.id, rewrite if tokens else None)
            if ended is not None:
                self.ended.append(ended)

    def check(self) -> None:
        """Every request ended once, for a reason that fits. What it chose, its stopper has checked."""
        for request in self.requests:
            finish = request.finish
            assert request.state is RequestState.FINISHED and finish is not None
            assert (finish.reason == "abort") != (request in self.ended), request
            if finish.reason == "error":
                assert "injected" in str(finish.error), finish.error


ALL = Faults(launch=0.02, choose=0.01, collect=0.01, request=0.002, abort=0.05, abort_in_flight=0.05)


def fuzz(seeds: range, faults: Faults, device: type[WildDevice] = WildDevice) -> tuple[int, int, int]:
    """Plays with every seed; returns how many chunks became stale, were relieved of choosing, and were retracted."""
    stale = relieved = retractions = 0
    for seed in seeds:
        size = [1, 4, 16][seed % 3]
        play = Play(seed, pages=240 // size, page_size=size, faults=faults, device=device)
        stats = play.run()
        play.check()
        assert stats.finished + stats.aborted + stats.failed == play.count
        stale += play.at.stale
        relieved += play.at.relieved
        retractions += stats.retractions
    return stale, relieved, retractions


@pytest.mark.parametrize("start", range(0, 120, 30))
def test_overlapped_steps_write_only_what_is_theirs(start: int) -> None:
    assert min(fuzz(range(start, start + 30), Faults())) > 50


@pytest.mark.parametrize("start", range(200, 320, 30))
def test_errors_in_either_half_of_a_step_end_its_requests_alone(start: int) -> None:
    fuzz(range(start, start + 30), ALL)


@pytest.mark.slow
def test_hundreds_of_schedules_more() -> None:
    fuzz(range(1000, 1300), Faults())
    fuzz(range(2000, 2300), ALL)


# ---- what the play would see


def free_at_once(flights: PlansInFlight, request: Request, lease: Lease) -> None:
    for flight in flights._flights:
        flight.live.pop(request.id, None)
    flights._memory.release(lease)


def free_with_the_first(flights: PlansInFlight, request: Request, lease: Lease) -> None:
    """As if only the step that runs could write, and not the one behind it."""
    for flight in flights._flights:
        flight.live.pop(request.id, None)
    members = [flight for flight in flights._flights if request.id in flight.members]
    if len(members) == 2:
        members[0].leaving.append(lease)
    else:
        sound_leave(flights, request, lease)


def free_twice(flights: PlansInFlight, request: Request, lease: Lease) -> None:
    sound_leave(flights, request, lease)
    for flight in flights._flights:
        if request.id in flight.members and lease not in flight.leaving:
            flight.leaving.append(lease)


def never_stale(flights: PlansInFlight, request: Request, agreed: int) -> None:
    return None


def blind_to_lengths(flights: PlansInFlight, request: Request, agreed: int) -> None:
    """Trusts a chunk that begins at the right place, whatever token it computed there."""
    sound_revised(flights, request, len(request.tokens))


sound_leave, sound_revised = PlansInFlight.leave, PlansInFlight.revised


@pytest.mark.parametrize(
    ("method", "bug"),
    [
        ("leave", free_at_once),
        ("leave", free_with_the_first),
        ("leave", free_twice),
        ("revised", never_stale),
        ("revised", blind_to_lengths),
    ],
)
def test_pages_freed_too_early_and_results_kept_too_long_are_found(
    method: str, bug: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlansInFlight, method, bug)
    with pytest.raises((AssertionError, KeyError)):
        fuzz(range(30), Faults())


class FollowsItsNeighbour(WildDevice):
    def launch(self, plan: Plan, before: RehearsalFlight | None) -> RehearsalFlight:
        flight = super().launch(plan, before)
        if before is not None:
            flight.follows = {one: (draw + 1) % len(before.drawn) for one, draw in flight.follows.items()}
        return flight


class ChoosesBeforeTheCommit(WildDevice):
    def launch(self, plan: Plan, before: RehearsalFlight | None) -> RehearsalFlight:
        flight = super().launch(plan, before)
        super().choose(flight, {chunk.request.id: chunk for chunk in plan.chunks})
        return flight

    def choose(self, flight: RehearsalFlight, live: Mapping[int, Chunk]) -> None:
        return None


@pytest.mark.parametrize("device", [FollowsItsNeighbour, ChoosesBeforeTheCommit])
def test_tokens_from_the_wrong_draw_are_found(device: type[WildDevice]) -> None:
    with pytest.raises(AssertionError):
        fuzz(range(5), Faults(), device)


# ---- what overlap is for


class Bench:
    """The real scheduler over the late device, with overlap or without."""

    def __init__(
        self, pages: int = 200, *, overlap: bool = True, device: type[RehearsalDevice] = RehearsalDevice
    ) -> None:
        self.memory = KVMemory(pages, 4)
        config = SchedulerConfig(context=1000, token_budget=32, max_running=12, overlap=overlap)
        self.scheduler = Scheduler(self.memory, config, ManualClock())
        self.device = device(self.memory)
        self.steps = (Overlapped if overlap else OneByOne)(self.scheduler, self.device)

    def run(self, requests: list[Request]) -> list[Committed]:
        for request in requests:
            self.scheduler.add(request)
        committed: list[Committed] = []
        while self.scheduler.has_work or self.steps.busy:
            committed += self.steps.step()
            self.memory.check()
        assert self.memory.in_use == 0
        return committed


def right(request: Request) -> bool:
    return request.output == list(
        islice(rehearse_tokens(request.tokens[: request.prompt_length], 1 << 16), len(request.output))
    )


def test_the_device_is_given_the_next_step_before_the_host_waits_for_the_last() -> None:
    bench = Bench()
    bench.run([Request(number, range(number, number + 20), max_new_tokens=40) for number in range(4)])
    log = bench.device.log
    waits = [step for what, step in log if what == "wait"]
    assert waits == sorted(waits) and len(waits) == 42  # 3 steps of prefill, the last of which begins to decode
    behind = [log.index(("launch", step + 1)) < log.index(("wait", step)) for step in waits[:-1]]
    assert all(behind)
    between = [log[log.index(("launch", step)) : log.index(("launch", step + 1))] for step in waits[1:-1]]
    assert all([what for what, _ in one] == ["launch", "wait", "choose"] for one in between)


def tokens_of_siblings(overlap: bool) -> int:
    """How many tokens are computed for requests that share a stem and end by their limits."""
    bench = Bench(overlap=overlap)
    stem = list(range(40))
    requests = [Request(number, [*stem, 100 + number], max_new_tokens=1 + number) for number in range(9)]
    bench.run(requests)
    assert all(map(right, requests)) and all(len(one.output) == 1 + one.id for one in requests)
    return bench.device.tokens


def test_as_many_tokens_are_computed_as_one_by_one() -> None:
    """Siblings wait for what is in flight too, and nobody is computed beyond its limit."""
    assert tokens_of_siblings(overlap=True) == tokens_of_siblings(overlap=False)


def test_siblings_that_overlook_what_is_in_flight_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlansInFlight, "chunks", lambda self: iter(()))
    assert tokens_of_siblings(overlap=True) > tokens_of_siblings(overlap=False)


def test_one_plan_may_be_ahead_and_no_more() -> None:
    bench = Bench()
    bench.scheduler.add(Request(1, range(20), max_new_tokens=9))
    first, second = bench.scheduler.plan(), bench.scheduler.plan()
    assert first is not None and second is not None
    assert [(one.start, one.length, one.follows) for one in (*first.chunks, *second.chunks)] == [
        (0, 20, False),
        (20, 1, True),
    ]
    with pytest.raises(AssertionError, match="has not been committed"):
        bench.scheduler.plan()
    with pytest.raises(AssertionError, match="whose turn"):
        bench.scheduler.commit(second, StepResult({1: (5,)}))


def test_a_request_that_ends_by_itself_costs_one_token_in_vain() -> None:
    class Stops:
        def accept(self, request: Request, new_tokens: object) -> Finish | None:
            return Finish("stop") if len(request.output) == 5 else None

    bench = Bench()
    request = Request(1, range(8), max_new_tokens=50, stopper=Stops())
    committed = bench.run([request])
    assert len(request.output) == 5 and right(request) and bench.device.tokens == 8 + 4 + 1
    assert [[one.id for one in step.finished] for step in committed] == [[], [], [], [], [1], []]
    assert bench.scheduler.stats().computed_tokens == 8 + 4


# ---- a device without memory


class Narrow(RehearsalDevice):
    """Has memory for so many tokens in a step."""

    most = 5

    def launch(self, plan: Plan, before: RehearsalFlight | None) -> RehearsalFlight:
        if plan.tokens > self.most:
            raise DeviceFull("no memory for this")
        return super().launch(plan, before)


@pytest.mark.parametrize("overlap", [True, False])
def test_a_device_without_memory_is_met_with_smaller_steps(overlap: bool) -> None:
    class NarrowRun(Narrow):
        def run(self, plan: Plan) -> StepResult:
            if plan.tokens > self.most:
                raise DeviceFull("no memory for this")
            return super().run(plan)

    bench = Bench(overlap=overlap, device=NarrowRun)
    requests = [Request(number, range(number, number + 20), max_new_tokens=30) for number in range(10)]
    bench.run(requests)
    assert all(len(one.output) == 30 and right(one) for one in requests)
    assert bench.scheduler.stats().retractions > 0


def test_a_single_token_that_finds_no_memory_is_the_error_of_its_request() -> None:
    class Full(Narrow):
        most = 0

    bench = Bench(device=Full)
    requests = [Request(number, range(number, number + 20), max_new_tokens=30) for number in range(3)]
    committed = bench.run(requests)
    assert [one.finish and one.finish.reason for one in requests] == ["error"] * 3
    assert all(isinstance(one.finish and one.finish.error, DeviceFull) for one in requests)
    assert sorted(one.id for step in committed for one in step.finished) == [0, 1, 2]
