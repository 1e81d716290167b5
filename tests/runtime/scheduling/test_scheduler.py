"""Plan, run, commit: what a step holds, what becomes of results, and what happens when memory runs out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import islice

import pytest
from ramify.errors import InvalidRequest, RequestFailed, RequestTooLong
from ramify.runtime.cache.memory import KVMemory
from ramify.runtime.clock import ManualClock
from ramify.runtime.scheduling.config import SchedulerConfig
from ramify.runtime.scheduling.finish import Finish
from ramify.runtime.scheduling.plan import Plan, StepResult
from ramify.runtime.scheduling.rehearsal import RehearsalExecutor, rehearse_tokens
from ramify.runtime.scheduling.request import Request, RequestState
from ramify.runtime.scheduling.scheduler import Scheduler


class Bench:
    """A scheduler, its memory, its clock and the executor without a model."""

    def __init__(self, pages: int = 100, page_size: int = 4, **config: object) -> None:
        self.memory = KVMemory(pages, page_size)
        self.clock = ManualClock()
        settings = {"context": 1000, **config}
        self.scheduler = Scheduler(self.memory, SchedulerConfig(**settings), self.clock)  # type: ignore[arg-type]
        self.executor = RehearsalExecutor(pages, page_size)

    def add(self, number: int, prompt: Sequence[int], max_new_tokens: int = 0, **rest: object) -> Request:
        request = Request(number, prompt, max_new_tokens=max_new_tokens, **rest)  # type: ignore[arg-type]
        self.scheduler.add(request)
        return request

    def plan(self) -> Plan:
        plan = self.scheduler.plan()
        assert plan is not None
        size = self.memory.page_size
        written = [page for chunk in plan.chunks for page in chunk.pages[chunk.start // size : -(-chunk.stop // size)]]
        assert len(set(written)) == len(written), "two chunks write to one page"
        assert all(chunk.request.state is RequestState.RUNNING for chunk in plan.chunks)
        return plan

    def step(self) -> dict[int, tuple[int, int]]:
        """Run one step; returns the start and length of each request's chunk."""
        plan = self.plan()
        self.scheduler.commit(plan, self.executor.run(plan))
        self.memory.check()
        return {chunk.request.id: (chunk.start, chunk.length) for chunk in plan.chunks}

    def run(self, most_steps: int = 10_000) -> int:
        steps = 0
        while self.scheduler.has_work:
            self.step()
            steps += 1
            assert steps < most_steps, "no end in sight"
        assert self.scheduler.plan() is None and not self.memory._leases
        return steps


def right_text(request: Request) -> bool:
    expected = rehearse_tokens(request.tokens[: request.prompt_length], 1 << 16, request.namespace)
    return request.output == list(islice(expected, len(request.output)))


# ---- what a step holds


def test_a_step_mixes_decodes_then_prefills_under_way_then_newcomers() -> None:
    bench = Bench(token_budget=20, max_running=10)
    bench.add(1, range(8), max_new_tokens=9)
    bench.add(2, range(100, 150), max_new_tokens=9)
    assert bench.step() == {1: (0, 8), 2: (0, 12)}
    bench.add(3, range(200, 230), max_new_tokens=9)
    assert bench.step() == {1: (8, 1), 2: (12, 19)}
    assert bench.step() == {1: (9, 1), 2: (31, 19)}
    assert bench.step() == {1: (10, 1), 2: (50, 1), 3: (0, 18)}  # 2 is decoding now, 3 came in as soon as it could
    assert bench.step() == {1: (11, 1), 2: (51, 1), 3: (18, 12)}


def test_only_the_chunk_that_reaches_the_last_token_samples() -> None:
    bench = Bench(token_budget=10, max_running=4)
    request = bench.add(1, range(25), max_new_tokens=2)
    samples = []
    while bench.scheduler.has_work:
        plan = bench.plan()
        samples += [(chunk.start, chunk.stop, chunk.samples) for chunk in plan.chunks]
        bench.scheduler.commit(plan, bench.executor.run(plan))
    assert samples == [(0, 10, False), (10, 20, False), (20, 25, True), (25, 26, True)]
    assert request.finish == Finish("length") and len(request.output) == 2


@pytest.mark.parametrize("budget", [7, 16, 64, 512])
@pytest.mark.parametrize("page_size", [1, 4, 16])
def test_the_text_does_not_depend_on_budget_or_page_size(budget: int, page_size: int) -> None:
    bench = Bench(600, page_size, token_budget=budget, max_running=7)
    requests = [bench.add(number, [*range(number * 3), number], max_new_tokens=12) for number in range(20)]
    bench.run()
    assert all(right_text(request) and len(request.output) == 12 for request in requests)


def test_page_tables_are_the_requests_own_lists_and_only_grow() -> None:
    bench = Bench(page_size=2)
    request = bench.add(1, range(5), max_new_tokens=8)
    tables = []
    while bench.scheduler.has_work:
        plan = bench.plan()
        tables.append(plan.chunks[0].pages)
        assert plan.chunks[0].pages is request.pages
        assert len(request.pages) == -(-plan.chunks[0].stop // 2)  # never more than it needs
        bench.scheduler.commit(plan, bench.executor.run(plan))
    assert all(table is tables[0] for table in tables)


def test_times_are_taken_from_the_given_clock() -> None:
    bench = Bench(token_budget=4, max_running=2)
    request = bench.add(1, range(8), max_new_tokens=3, arrival=bench.clock.now())
    bench.clock.advance(1)
    while bench.scheduler.has_work:
        bench.step()
        bench.clock.advance(1)
    assert (request.admitted_at, request.first_token_at, request.finished_at) == (1, 2, 4)
    with pytest.raises(ValueError, match="cannot go back"):
        bench.clock.advance(-1)


# ---- reuse


def test_a_continuation_of_a_finished_stream_reuses_its_whole_pages() -> None:
    bench = Bench(page_size=4)
    first = bench.add(1, range(10), max_new_tokens=9)
    bench.run()
    second = bench.add(2, [*first.tokens, 7, 7], max_new_tokens=2)
    bench.run()
    assert second.cached_tokens == 16  # 18 of the 19 tokens were computed: the last is never put in
    assert right_text(second)


def test_a_fork_reuses_a_running_request() -> None:
    bench = Bench(page_size=1)
    first = bench.add(1, range(10), max_new_tokens=50)
    for _ in range(6):
        bench.step()
    fork = bench.add(2, first.tokens, max_new_tokens=5)
    bench.step()
    assert first.state is RequestState.RUNNING and fork.cached_tokens == 15
    bench.run()
    assert right_text(first) and right_text(fork)


def test_the_same_prompt_again_computes_one_token() -> None:
    bench = Bench(page_size=1)
    bench.add(1, range(10))
    bench.run()
    again = bench.add(2, range(10))
    assert bench.step() == {2: (9, 1)} and again.cached_tokens == 9


@pytest.mark.parametrize(("recompute_from", "start"), [(0, 0), (3, 0), (5, 4), (19, 16), (400, 16)])
def test_log_probabilities_of_a_prompt_are_computed_from_where_they_are_wanted(recompute_from: int, start: int) -> None:
    bench = Bench(page_size=4)
    bench.add(1, range(20))
    bench.run()
    request = bench.add(2, range(20), max_new_tokens=1, recompute_from=recompute_from)
    assert bench.step() == {2: (start, 20 - start)} and request.cached_tokens == start
    bench.run()
    assert right_text(request)
    assert bench.memory.cached == 5  # its pages were the same: no second copy stayed


def test_once_the_prompt_was_seen_a_retracted_request_may_use_all_that_is_cached() -> None:
    bench = Bench(pages=20, page_size=2, expected_quantile=0.01)
    bench.add(0, [9], 1)
    bench.run()
    before = bench.executor.tokens
    requests = [bench.add(number, [number] * 12, 14, recompute_from=0) for number in (1, 2)]
    bench.run()
    again = bench.executor.tokens - before - sum(len(request.tokens) - 1 for request in requests)
    assert sum(request.retractions for request in requests) == 1 and again < 12


@pytest.mark.parametrize("how", [{"max_new_tokens": 0}, {"max_new_tokens": 5, "samples": False}])
def test_a_request_without_output_asks_for_the_distribution_and_ends(how: dict[str, int]) -> None:
    bench = Bench()
    request = bench.add(1, range(6), **how)  # type: ignore[arg-type]
    plan = bench.plan()
    assert plan.chunks[0].samples
    assert bench.scheduler.commit(plan, StepResult({})) == [request]
    assert request.finish == Finish("length") and request.output == []


def test_namespaces_do_not_share() -> None:
    bench = Bench()
    requests = [bench.add(number, range(30), 3, namespace=name) for number, name in enumerate([None, "a", ("b", 1)])]
    bench.run()
    assert [request.cached_tokens for request in requests] == [0, 0, 0]
    assert all(map(right_text, requests))


# ---- what becomes of results


class StopsOn:
    def __init__(self, verdict: Callable[[Request], Finish | None]) -> None:
        self.verdict = verdict

    def accept(self, request: Request, new_tokens: Sequence[int]) -> Finish | None:
        assert request.output[-len(new_tokens) :] == list(new_tokens)
        return self.verdict(request)


def test_a_stopper_ends_its_request() -> None:
    bench = Bench()
    stop = Finish("stop", matched="\n")
    request = bench.add(1, [1], 50, stopper=StopsOn(lambda request: stop if len(request.output) == 7 else None))
    bench.run()
    assert request.finish is stop and len(request.output) == 7


def test_a_step_may_bring_several_tokens_but_never_more_than_allowed() -> None:
    bench = Bench(page_size=2)
    request = bench.add(1, range(5), 7)
    plan = bench.plan()
    bench.scheduler.commit(plan, StepResult({1: (10, 11, 12)}))
    assert request.tokens[5:] == request.output == [10, 11, 12]
    plan = bench.plan()
    assert (plan.chunks[0].start, plan.chunks[0].length, plan.chunks[0].samples) == (5, 3, True)
    assert bench.scheduler.commit(plan, StepResult({1: range(20, 30)})) == [request]
    assert request.output == [10, 11, 12, 20, 21, 22, 23] and request.finish == Finish("length")
    bench.memory.check()


def test_errors_end_their_own_request_only() -> None:
    bench = Bench()
    failure, injected = ValueError("the sampler broke"), RuntimeError("the detokenizer broke")

    def explode(request: Request) -> Finish | None:
        raise injected

    broken, silent, hooked, sound = (
        bench.add(number, [*range(9), number], 4, stopper=StopsOn(explode if number == 3 else lambda request: None))
        for number in range(1, 5)
    )
    ended: list[Request] = []
    while bench.scheduler.has_work:
        plan = bench.plan()
        tokens = dict(bench.executor.run(plan).tokens)
        tokens.pop(2, None)
        ended += bench.scheduler.commit(plan, StepResult(tokens, {1: failure}))
        bench.memory.check()
    assert broken.finish == Finish("error", failure) and hooked.finish == Finish("error", injected)
    assert silent.finish is not None and isinstance(silent.finish.error, RequestFailed)
    assert "request 2" in str(silent.finish.error)
    assert sound.finish == Finish("length") and right_text(sound)
    assert sorted(request.id for request in ended) == [1, 2, 3, 4]
    assert bench.scheduler.stats().failed == 3 and bench.memory.in_use == 0


def test_what_a_failed_step_computed_is_not_cached() -> None:
    bench = Bench()
    bench.add(1, range(20), 4)
    plan = bench.plan()
    bench.scheduler.commit(plan, StepResult({}, {1: RuntimeError("the kernel broke")}))
    assert bench.memory.cached == 0 and bench.memory.free == bench.memory.total


def test_plan_and_commit_take_turns() -> None:
    bench = Bench()
    bench.add(1, range(20), 4)
    plan = bench.plan()
    with pytest.raises(AssertionError, match="has not been committed"):
        bench.scheduler.plan()
    bench.scheduler.commit(plan, bench.executor.run(plan))
    with pytest.raises(AssertionError, match="not the one"):
        bench.scheduler.commit(plan, bench.executor.run(plan))


# ---- aborts


@pytest.mark.parametrize("steps", [0, 1, 3, 6])
def test_an_abort_frees_everything_at_once(steps: int) -> None:
    bench = Bench(page_size=4, token_budget=8, max_running=8)
    request = bench.add(1, range(30), 20)  # waiting, in prefill twice, decoding
    for _ in range(steps):
        bench.step()
    assert bench.scheduler.abort(1)
    assert bench.memory.in_use == 0 and not bench.scheduler.has_work and bench.scheduler.plan() is None
    assert request.finish == Finish("abort") and request.state is RequestState.FINISHED
    assert not bench.scheduler.abort(1) and not bench.scheduler.abort(77)
    bench.memory.check()


def test_an_abort_between_plan_and_commit_is_passed_over_and_leaves_the_plan_readable() -> None:
    bench = Bench()
    doomed, other = bench.add(1, range(30), 5), bench.add(2, range(50, 60), 5)
    plan = bench.plan()
    assert bench.scheduler.abort(1)
    result = bench.executor.run(plan)  # an executor may be reading the page tables just now
    assert bench.scheduler.commit(plan, result) == []
    assert doomed.output == [] and bench.memory.cached == 0
    bench.run()
    assert right_text(other)


def test_an_id_is_free_again_after_its_request() -> None:
    bench = Bench()
    bench.add(1, range(30), 5)
    with pytest.raises(InvalidRequest, match="id 1 is in use"):
        bench.add(1, range(3), 5)
    bench.scheduler.abort(1)
    bench.add(1, range(3), 5)
    bench.run()


# ---- memory runs out


def test_requests_that_can_never_fit_are_refused_with_the_numbers() -> None:
    bench = Bench(pages=10, page_size=4, context=60)
    with pytest.raises(RequestTooLong, match=r"request 1: the prompt has 60 tokens .* context is 60; .* at most 59"):
        bench.add(1, range(60), 5)
    with pytest.raises(RequestTooLong, match=r"request 2: the prompt has 41 tokens and the KV cache holds 40"):
        bench.add(2, range(41), 5)
    assert not bench.scheduler.has_work
    bench.add(3, range(60 - 20), 5)
    bench.run()


def test_output_is_cut_where_context_or_memory_end() -> None:
    bench = Bench(pages=10, page_size=4, context=30)
    by_context = bench.add(1, range(20), 500)
    bench.run()
    assert len(by_context.tokens) == 30 and by_context.finish == Finish("length")
    bench = Bench(pages=10, page_size=4)
    by_memory = bench.add(1, range(20), 500)
    bench.run()
    assert len(by_memory.tokens) == 41 and right_text(by_memory)  # the last token needs no room


def hostile_requests(bench: Bench, count: int, seed: int) -> list[Request]:
    """Each alone nearly fills the memory, and all look short until they are not."""
    rng = random.Random(seed)
    return [
        bench.add(number, [rng.randrange(3) for _ in range(rng.randint(1, 12))], rng.choice([1, 2, 30, 36]))
        for number in range(count)
    ]


@pytest.mark.parametrize("page_size", [1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_a_memory_that_barely_fits_one_request_serves_them_all(page_size: int, seed: int) -> None:
    bench = Bench(48 // page_size, page_size, expected_quantile=0.01, token_budget=16, max_running=8)
    requests = hostile_requests(bench, 40, seed)
    total = sum(len(request.tokens) + request.max_new_tokens for request in requests)
    bench.run(most_steps=total)  # each step serves at least the most senior: no livelock
    assert bench.scheduler.stats().retractions > 0
    assert all(right_text(one) and len(one.output) == one.max_new_tokens for one in requests)


def test_the_most_senior_request_is_never_retracted_and_the_junior_resumes_with_the_same_text() -> None:
    bench = Bench(pages=20, page_size=2, expected_quantile=0.01)
    bench.add(0, [9], 1)
    bench.run()  # teaches it that answers are short
    first, second, third = (bench.add(number, [number] * 8, 20) for number in (1, 2, 3))
    bench.run()
    assert first.retractions == 0 and third.retractions > 0
    assert all(map(right_text, (first, second, third)))


def test_the_lowest_priority_is_retracted_first() -> None:
    bench = Bench(pages=20, page_size=2, expected_quantile=0.01, policy="priority")
    bench.add(0, [9], 1)
    bench.run()
    low, high = bench.add(1, [1] * 10, 24, priority=0), bench.add(2, [2] * 10, 24, priority=1)
    bench.run()
    assert low.retractions > 0 and high.retractions == 0


def test_a_prefill_does_not_push_out_its_seniors_and_two_halves_do_not_block_each_other() -> None:
    bench = Bench(pages=10, page_size=4, token_budget=6, max_running=6, expected_quantile=0.01)
    bench.add(0, [9], 1)
    bench.run()
    requests = [bench.add(number, [number] * 36, 4) for number in (1, 2)]
    bench.run(most_steps=100)
    assert requests[0].retractions == 0 and all(map(right_text, requests))


@pytest.mark.parametrize("pages", [17, 18, 19, 20])  # one of them runs out between the decode and the prefill
def test_who_is_retracted_after_its_chunk_was_planned_is_out_of_the_plan(pages: int) -> None:
    bench = Bench(pages=pages, page_size=1, token_budget=3, policy="priority", expected_quantile=0.01)
    bench.add(0, [9], 1)
    bench.run()
    low = bench.add(1, [1, 1], 14)
    bench.step()
    high = bench.add(2, [2] * 14, 2, priority=1)  # its prompt is computed a little at a time, while the other grows
    bench.run()
    assert low.retractions > 0 and right_text(low) and right_text(high)


def test_pins_yield_when_nothing_else_can_and_only_then() -> None:
    bench = Bench(pages=10, page_size=4)
    bench.add(1, range(20))
    bench.run()
    old, new = bench.memory.pin(range(8)), bench.memory.pin(range(20))
    small = bench.add(2, range(100, 110), 8)
    bench.run()
    assert old.held and new.held and right_text(small)
    large = bench.add(3, range(200, 238), 2)
    bench.run()
    assert right_text(large) and not old.held and not new.held


def test_retracted_pages_are_found_again() -> None:
    bench = Bench(pages=20, page_size=2, expected_quantile=0.01)
    bench.add(0, [9], 1)
    bench.run()
    before = bench.executor.tokens
    requests = [bench.add(number, [number] * 12, 14) for number in (1, 2)]
    bench.run()
    assert sum(request.retractions for request in requests) > 0
    once = sum(request.prompt_length + len(request.output) - 1 for request in requests)
    assert bench.executor.tokens - before < 1.5 * once


# ---- configuration and counts


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_running": 0}, r"max_running .* must be 1 or more, .* got 10, 512, 0, 128 and 128"),
        ({"patience": -1}, "patience 0 or more"),
        ({"context": 0}, "must be 1 or more"),
        ({"token_budget": 0}, "must be 1 or more"),
    ],
)
def test_wrong_configurations_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        SchedulerConfig(**{"context": 10, **wrong})


def test_a_budget_below_max_running_is_the_limit_of_both() -> None:
    bench = Bench(token_budget=3, max_running=50)
    requests = [bench.add(number, [number, 1, 2], 20) for number in range(10)]
    while bench.scheduler.has_work:
        assert sum(length for _, length in bench.step().values()) <= 3 >= bench.scheduler.stats().running
    assert all(map(right_text, requests))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompt": []}, "empty prompt"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"recompute_from": -1}, "recompute_from is -1"),
    ],
)
def test_wrong_requests_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Request(1, **{"prompt": [1], "max_new_tokens": 1, **wrong})  # type: ignore[arg-type]


def test_the_counts_add_up() -> None:
    bench = Bench(page_size=4)
    for number in range(3):
        bench.add(number, [*range(16), number], 4)
    bench.scheduler.abort(2)
    bench.run()
    stats = bench.scheduler.stats()
    assert (stats.finished, stats.aborted, stats.failed, stats.admissions) == (2, 1, 0, 2)
    assert (stats.waiting, stats.running, stats.in_use_pages) == (0, 0, 0)
    assert stats.computed_tokens == bench.executor.tokens == 17 + 1 + 3 + 3 and stats.cached_tokens == 16
    assert stats.free_pages + stats.cached_pages == stats.total_pages == 100
    assert stats.steps == 5
