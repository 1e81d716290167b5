"""Outputs rewritten at their end: every token is chosen from the right KV, and no page is lost or shared wrongly.

The executor without a model shows each stale page as a wrong token; the books are checked after every step.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from ramify.runtime.cache.memory import KVMemory, Lease
from ramify.runtime.clock import ManualClock
from ramify.runtime.scheduling.config import SchedulerConfig, SchedulerStats
from ramify.runtime.scheduling.finish import Finish
from ramify.runtime.scheduling.plan import Plan
from ramify.runtime.scheduling.rehearsal import RehearsalExecutor, rehearse_tokens
from ramify.runtime.scheduling.request import Request, RequestState, Rewrite
from ramify.runtime.scheduling.scheduler import Scheduler

VOCABULARY = 89
LONGEST = 90


class Rewriter:
    """Checks that each choice follows from the tokens before it, then appends, takes back, cuts or ends at random."""

    def __init__(self, seed: int, share: float = 0.4, judged: float = 0.3) -> None:
        self._random = random.Random(seed)
        self._share = share
        self._judged = judged
        self.expected: list[int] | None = None  # the output that the last verdict asked for, before the limit
        self.rewrites = 0

    def accept(self, request: Request, new_tokens: Sequence[int]) -> Finish | Rewrite | None:
        if self.expected is not None:
            assert request.output[: len(self.expected)] == self.expected
        assert [*new_tokens] == [next(rehearse_tokens(request.tokens[:-1], VOCABULARY, request.namespace))]
        chooser = self._random
        self.expected = None
        if chooser.random() > self._share:
            return Finish("stop") if chooser.random() < 0.03 else None
        self.rewrites += 1
        back = chooser.choice([0, 0, 0, 1, 1, 2, 5, 30])
        keep = max(0, len(request.output) - back)
        # sometimes the very tokens that were there, as when nothing changes
        tokens = request.output[keep:] if chooser.random() < 0.2 else []
        tokens = tokens + [chooser.randrange(VOCABULARY) for _ in range(chooser.choice([0, 1, 1, 3, 9, 20]))]
        finish = Finish("stop") if chooser.random() < 0.03 else None
        self.expected = [*request.output[:keep], *tokens][: request.limit - request.prompt_length]
        return Rewrite(keep, tuple(tokens), finish, judged=chooser.random() < self._judged)


@dataclass
class Play:
    """Runs requests with rewriting stoppers through a small memory, a third of them made to wait at first."""

    pages: int = 60
    page_size: int = 4
    count: int = 120
    seed: int = 1
    requests: list[Request] = field(default_factory=list)
    begun: dict[int, Rewrite] = field(default_factory=dict)

    def make(self, chooser: random.Random) -> list[Request]:
        stems = [[chooser.randrange(VOCABULARY) for _ in range(chooser.randint(1, 50))] for _ in range(6)]
        made = []
        for number in range(self.count):
            stem = chooser.choice(stems)
            prompt = [*stem[: chooser.randint(0, len(stem))], chooser.randrange(VOCABULARY)]
            made.append(
                Request(
                    number,
                    prompt,
                    max_new_tokens=chooser.choice([1, 2, LONGEST - len(prompt), LONGEST - len(prompt)]),
                    stopper=Rewriter(chooser.randrange(1 << 30)),
                    recompute_from=chooser.choice([None, None, 0, 7]),
                    waits=chooser.random() < 0.3,
                )
            )
        return made

    def run(self) -> SchedulerStats:
        chooser = random.Random(self.seed)
        memory = KVMemory(self.pages, self.page_size)
        config = SchedulerConfig(context=LONGEST, token_budget=32, max_running=12, expected_quantile=0.1)
        scheduler = Scheduler(memory, config, ManualClock())
        executor = RehearsalExecutor(self.pages, self.page_size, VOCABULARY)
        self.requests = self.make(chooser)
        coming, waiting = list(reversed(self.requests)), [one for one in self.requests if one.waits]
        idle = 0
        while coming or scheduler.has_work or waiting:
            for _ in range(min(len(coming), chooser.randint(0, 4))):
                scheduler.add(coming.pop())
            self.wake(scheduler, chooser, waiting)
            if chooser.random() < 0.02:
                scheduler.abort(chooser.choice(self.requests).id)
            plan = scheduler.plan()
            if plan is None:
                idle += 1
                assert idle < 10_000
                continue
            self.check_plan(plan)
            scheduler.commit(plan, executor.run(plan))
            memory.check()
        assert memory.in_use == 0 and memory.free + memory.cached == self.pages
        return scheduler.stats()

    def wake(self, scheduler: Scheduler, chooser: random.Random, waiting: list[Request]) -> None:
        for request in [one for one in waiting if one.ticket >= 0 and chooser.random() < 0.2]:
            waiting.remove(request)
            tokens = tuple(chooser.randrange(VOCABULARY) for _ in range(chooser.choice([0, 0, 2, 11])))
            finish = Finish("stop") if chooser.random() < 0.1 else None
            judged = chooser.random() < 0.5
            ended = scheduler.proceed(request.id, Rewrite(0, tokens, finish, judged) if tokens else None)
            assert (ended is None) or ended.finish is not None
            if request.state is not RequestState.FINISHED:
                assert not request.waits and request.output == list(tokens)[: request.max_new_tokens]

    def check_plan(self, plan: Plan) -> None:
        size = self.page_size
        written = [page for one in plan.chunks for page in one.pages[one.start // size : -(-one.stop // size)]]
        assert len(set(written)) == len(written), "two chunks write to one page"
        for chunk in plan.chunks:
            lease, request = chunk.request.lease, chunk.request
            assert lease is not None and chunk.start >= lease.shared * size, "a page of the tree is written"
            assert not (request.waits and chunk.stop == len(request.tokens)), "a request that waits was asked to choose"
            if request.recompute_from is not None:
                assert chunk.start <= request.recompute_from or request.computed > request.recompute_from


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("page_size", [1, 4, 16])
def test_rewritten_outputs_are_computed_from_the_right_pages(seed: int, page_size: int) -> None:
    play = Play(pages=240 // page_size, page_size=page_size, seed=seed)
    stats = play.run()
    assert sum(one.stopper.rewrites for one in play.requests) > 100  # type: ignore[attr-defined]
    assert stats.finished + stats.aborted + stats.failed == play.count and stats.failed == 0, [
        str(one.finish.error) for one in play.requests if one.finish is not None and one.finish.error
    ]
    assert stats.retractions > 0


def test_every_request_waits_and_the_scheduler_has_nothing_to_do() -> None:
    memory = KVMemory(20, 4)
    scheduler = Scheduler(memory, SchedulerConfig(context=50), ManualClock())
    executor = RehearsalExecutor(20, 4, VOCABULARY)
    request = Request(1, range(11), max_new_tokens=5, waits=True)
    scheduler.add(request)
    plan = scheduler.plan()
    assert plan is not None and [(one.start, one.length, one.samples) for one in plan.chunks] == [(0, 10, False)]
    scheduler.commit(plan, executor.run(plan))
    assert scheduler.plan() is None and not scheduler.has_work
    assert scheduler.proceed(1, Rewrite(0, (7, 8))) is None and scheduler.has_work
    plan = scheduler.plan()
    assert plan is not None and [(one.start, one.length, one.samples) for one in plan.chunks] == [(10, 3, True)]
    scheduler.commit(plan, executor.run(plan))
    assert request.output[:2] == [7, 8] and len(request.output) == 3
    assert scheduler.proceed(1) is None and scheduler.proceed(99) is None  # it does not wait; there is none


def test_tokens_behind_a_stop_are_cut_off() -> None:
    class Cuts:
        def accept(self, request: Request, new_tokens: Sequence[int]) -> Rewrite | None:
            return Rewrite(3, finish=Finish("stop")) if len(request.output) >= 3 else None

    class Several(RehearsalExecutor):
        def run(self, plan: Plan):  # type: ignore[no-untyped-def]
            result = super().run(plan)
            return type(result)({key: (*tokens, 5, 6, 7) for key, tokens in result.tokens.items()})

    memory = KVMemory(20, 4)
    scheduler = Scheduler(memory, SchedulerConfig(context=50), ManualClock())
    request = Request(1, range(6), max_new_tokens=9, stopper=Cuts())
    scheduler.add(request)
    plan = scheduler.plan()
    assert plan is not None
    assert scheduler.commit(plan, Several(20, 4, VOCABULARY).run(plan)) == [request]
    assert len(request.output) == 3 and request.tokens[6:] == request.output and memory.in_use == 0


sound = KVMemory.rewind


def forget_to_rewind(memory: KVMemory, lease: Lease, tokens: int) -> int:
    return tokens


def keep_the_lock_below(memory: KVMemory, lease: Lease, tokens: int) -> int:
    node = lease.node
    left = sound(memory, lease, tokens)
    if node is not lease.node:
        memory.tree.lock(node)
    return left


def trust_the_broken_page(memory: KVMemory, lease: Lease, tokens: int) -> int:
    sound(memory, lease, tokens)
    return tokens


def give_nothing_up(memory: KVMemory, lease: Lease, tokens: int) -> int:
    pages = lease.pages
    left = sound(memory, lease, tokens)
    lease.pages = pages  # goes on writing to what the tree has
    return left


@pytest.mark.parametrize("bug", [forget_to_rewind, keep_the_lock_below, trust_the_broken_page, give_nothing_up])
def test_planted_bugs_are_found(bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KVMemory, "rewind", bug)
    play = Play()
    with pytest.raises((AssertionError, RuntimeError)):
        stats = play.run()
        assert stats.failed == 0
