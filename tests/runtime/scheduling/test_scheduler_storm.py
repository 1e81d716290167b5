"""Thousands of requests through far too little memory: everything ends, nothing leaks, no text changes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import pytest
from ramify.runtime.cache.memory import KVMemory, Lease
from ramify.runtime.clock import ManualClock
from ramify.runtime.scheduling.config import SchedulerConfig, SchedulerStats
from ramify.runtime.scheduling.finish import Finish
from ramify.runtime.scheduling.plan import Chunk, Plan, StepResult
from ramify.runtime.scheduling.rehearsal import RehearsalExecutor, rehearse_tokens
from ramify.runtime.scheduling.request import Request, RequestState
from ramify.runtime.scheduling.scheduler import Scheduler

PAGE_SIZE = 4
VOCABULARY = 97
STOP_BELOW = 2  # these tokens end a request: lengths are as unpredictable as a model's
LONGEST = 120
RUNNING = 32


class StopsAtLowTokens:
    """Ends at a token below STOP_BELOW; raises at a chosen output length."""

    def __init__(self, raises_at: int | None = None) -> None:
        self.raises_at = raises_at

    def accept(self, request: Request, new_tokens: Sequence[int]) -> Finish | None:
        if self.raises_at is not None and len(request.output) >= self.raises_at:
            raise RuntimeError(f"injected in the stopper of {request.id}")
        return Finish("stop", matched=new_tokens[-1]) if new_tokens[-1] < STOP_BELOW else None


def make_requests(count: int, seed: int, families: int = 30) -> list[Request]:
    """Prompts that share prefixes at many depths, with lengths from 1 to LONGEST."""
    rng = random.Random(seed)
    stems = [[rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 60))] for _ in range(families)]
    requests = []
    for number in range(count):
        stem = rng.choice(stems)
        prompt = stem[: rng.randint(0, len(stem))] + [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 12))]
        requests.append(
            Request(
                number,
                prompt,
                max_new_tokens=rng.choice([0, 1, 3, LONGEST - len(prompt), LONGEST - len(prompt)]),
                priority=rng.randint(0, 2),
                namespace=rng.choice([None, "tenant"]),
                recompute_from=rng.choice([None, None, None, 0, 3]),
                stopper=StopsAtLowTokens(rng.randint(1, 20) if rng.random() < 0.03 else None),
            )
        )
    return requests


def expected_output(request: Request, length: int) -> list[int]:
    prompt = request.tokens[: request.prompt_length]
    return list(islice(rehearse_tokens(prompt, VOCABULARY, request.namespace), length))


def check_text(request: Request) -> None:
    """The output is what a model with endless memory would have written, and ended where it should."""
    assert request.finish is not None and request.state is RequestState.FINISHED
    assert request.output == expected_output(request, len(request.output)), request
    if request.finish.reason == "length":
        assert len(request.output) == request.max_new_tokens
        assert all(token >= STOP_BELOW for token in request.output[:-1])
    if request.finish.reason == "stop":
        assert request.output[-1] < STOP_BELOW and all(token >= STOP_BELOW for token in request.output[:-1])


@dataclass
class Storm:
    """Drives a scheduler while requests arrive, are aborted at every stage, and fail."""

    requests: list[Request]
    pages: int
    policy: str
    seed: int = 0
    abort_share: float = 0.04
    error_share: float = 0.002
    ended: set[int] = field(default_factory=set)
    aborted: dict[int, str] = field(default_factory=dict)  # and what they were doing
    injured: set[int] = field(default_factory=set)

    def run(self, check_every: int = 50) -> SchedulerStats:
        rng = random.Random(self.seed)
        memory = KVMemory(self.pages, PAGE_SIZE)
        config = SchedulerConfig(
            context=LONGEST,
            token_budget=40,
            max_running=RUNNING,
            policy=self.policy,
            patience=16,
            expected_quantile=0.2,  # hopeful, so that memory does run out
        )
        scheduler = Scheduler(memory, config, ManualClock())
        executor = RehearsalExecutor(self.pages, PAGE_SIZE, VOCABULARY)
        coming = list(reversed(self.requests))
        steps = 0
        while coming or scheduler.has_work:
            for _ in range(min(len(coming), rng.randint(0, 6))):
                scheduler.add(coming.pop())
            self.abort_some(scheduler, rng)
            plan = scheduler.plan()
            if plan is None:
                continue
            assert plan.tokens <= config.token_budget
            assert len({chunk.request.id for chunk in plan.chunks}) == len(plan.chunks) <= config.max_running
            result = self.injure(executor.run(plan), plan, rng)
            self.abort_some(scheduler, rng, plan)
            for request in scheduler.commit(plan, result):
                assert request.id not in self.ended
                self.ended.add(request.id)
            steps += 1
            if steps % check_every == 0:
                memory.check()
        memory.check()
        assert memory.in_use == 0 and memory.free + memory.cached == self.pages
        memory.flush()
        assert memory.free == self.pages
        return scheduler.stats()

    def abort_some(self, scheduler: Scheduler, rng: random.Random, in_flight: Plan | None = None) -> None:
        """Abort one of all the requests there are, or (with a plan) one of those whose step is being computed."""
        if rng.random() < self.abort_share:
            victim = rng.choice(in_flight.chunks).request if in_flight else self.pick(rng)
            stage = "in flight" if in_flight else "retracted" if victim.retractions else victim.state.value
            alive = victim.state is not RequestState.FINISHED and victim.ticket >= 0
            assert scheduler.abort(victim.id) == alive
            if alive:
                self.aborted[victim.id] = stage
                assert not victim.pages and victim.finish == Finish("abort")

    def pick(self, rng: random.Random) -> Request:
        """One that waits, runs or has been retracted, each in a quarter of the cases if there is one; else any."""
        wanted = rng.choice([*RequestState, None])
        retracted = [one for one in self.requests if one.retractions and one.state is RequestState.WAITING]
        running = [one for one in self.requests if one.state is RequestState.RUNNING]
        found = retracted if wanted is None else running if wanted is RequestState.RUNNING else []
        return rng.choice(found or self.requests)

    def injure(self, result: StepResult, plan: Plan, rng: random.Random) -> StepResult:
        errors: dict[int, Exception] = {
            chunk.request.id: RuntimeError(f"injected in the step of {chunk.request.id}")
            for chunk in plan.chunks
            if rng.random() < self.error_share
        }
        self.injured |= errors.keys()
        return StepResult(result.tokens, errors)

    def check(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for request in self.requests:
            check_text(request)
            assert request.finish is not None
            counts[request.finish.reason] = counts.get(request.finish.reason, 0) + 1
            if request.finish.reason == "error":
                assert str(request.id) in str(request.finish.error)
            assert (request.finish.reason == "abort") == (request.id in self.aborted)
        return counts


@pytest.mark.parametrize("policy", ["lpm", "dfs-weight", "fcfs", "priority"])
def test_a_storm_leaves_nothing_behind(policy: str) -> None:
    storm = Storm(make_requests(800, seed=1), pages=120, policy=policy, seed=2)
    stats = storm.run(check_every=5)
    counts = storm.check()
    assert min(counts["stop"], counts["length"], counts["abort"], counts["error"]) > 0
    assert stats.retractions > 10 and stats.cached_tokens > 300


def test_ten_thousand_requests_through_an_eighth_of_the_memory() -> None:
    storm = Storm(make_requests(10_000, seed=3), RUNNING * LONGEST // PAGE_SIZE // 8, "lpm", seed=4)
    stats = storm.run()
    counts = storm.check()
    assert sum(counts.values()) == 10_000 == stats.finished + stats.aborted + stats.failed
    assert counts["error"] > 200 and stats.retractions > 200
    assert set(storm.aborted.values()) == {"waiting", "running", "retracted", "in flight"}


def publish_own_duplicates(memory: KVMemory, lease: Lease, tokens: Sequence[int], computed: int) -> None:
    before = list(lease.pages)
    sound_publish(memory, lease, tokens, computed)
    lease.pages[:] = before  # goes on reading pages that are free by now


def forget_the_tail(memory: KVMemory, lease: Lease) -> None:
    del lease.pages[lease.shared :]
    sound_release(memory, lease)


def claim_for_everybody(memory: KVMemory, tokens: Sequence[int], namespace: object, limit: int) -> Lease:
    return sound_claim(memory, tokens, None, limit)


def claim_without_lock(memory: KVMemory, tokens: Sequence[int], namespace: object, limit: int) -> Lease:
    lease = sound_claim(memory, tokens, namespace, limit)
    memory.tree.unlock(lease.node)
    return lease


sound_publish, sound_release, sound_claim = KVMemory.publish, KVMemory.release, KVMemory.claim


@pytest.mark.parametrize(
    ("method", "bug"),
    [
        ("publish", publish_own_duplicates),
        ("release", forget_the_tail),
        ("claim", claim_for_everybody),
        ("claim", claim_without_lock),
    ],
)
def test_the_storm_finds_planted_bugs(method: str, bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KVMemory, method, bug)
    storm = Storm(make_requests(800, seed=1, families=4), pages=120, policy="lpm", seed=2, error_share=0.02)
    with pytest.raises(AssertionError):
        storm.run()
        storm.check()


def test_the_text_check_finds_a_single_wrong_page_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = RehearsalExecutor._compute

    def with_one_page_swapped(executor: RehearsalExecutor, chunk: Chunk) -> int:
        if chunk.start < 40:
            return sound(executor, chunk)
        pages = list(chunk.pages)
        pages[3] = pages[4]
        return sound(executor, replace(chunk, pages=pages))

    monkeypatch.setattr(RehearsalExecutor, "_compute", with_one_page_swapped)
    storm = Storm(make_requests(50, seed=1), pages=120, policy="fcfs")
    storm.run()
    with pytest.raises(AssertionError):
        storm.check()
