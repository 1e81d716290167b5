"""Who comes in, in which order: policies, siblings that wait for a shared prefix, ageing, and learnt lengths."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ramify.runtime.cache.memory import KVMemory
from ramify.runtime.clock import ManualClock
from ramify.runtime.scheduling.admission import Admission
from ramify.runtime.scheduling.config import SchedulerConfig
from ramify.runtime.scheduling.finish import Finish
from ramify.runtime.scheduling.lengths import OutputLengths
from ramify.runtime.scheduling.policies import look_up
from ramify.runtime.scheduling.rehearsal import RehearsalExecutor
from ramify.runtime.scheduling.request import Request
from ramify.runtime.scheduling.scheduler import Scheduler


class Bench:
    """A scheduler, its memory and the executor without a model."""

    def __init__(self, pages: int, page_size: int, **config: object) -> None:
        self.memory = KVMemory(pages, page_size)
        settings = {"context": 100_000, **config}
        self.scheduler = Scheduler(self.memory, SchedulerConfig(**settings), ManualClock())  # type: ignore[arg-type]
        self.executor = RehearsalExecutor(pages, page_size)
        self.admitted: list[int] = []

    def add(self, number: int, prompt: Sequence[int], max_new_tokens: int = 0, **rest: object) -> Request:
        request = Request(number, prompt, max_new_tokens=max_new_tokens, **rest)  # type: ignore[arg-type]
        self.scheduler.add(request)
        return request

    def step(self) -> bool:
        plan = self.scheduler.plan()
        if plan is None:
            return False
        self.admitted += [chunk.request.id for chunk in plan.chunks if chunk.request.id not in self.admitted]
        self.scheduler.commit(plan, self.executor.run(plan))
        return True

    def run(self) -> None:
        while self.step():
            pass
        self.memory.check()


# ---- depth first


def random_tree(rng: random.Random) -> list[list[int]]:
    """The prompts of a random request tree in depth-first order; each ends in a token of its own."""
    prompts: list[list[int]] = []

    def grow(stem: list[int], depth: int) -> None:
        for child in range(rng.randint(1, 4)):
            branch = [*stem, child, *(rng.randrange(1000) for _ in range(rng.randint(0, 8)))]
            if depth == 0 or rng.random() < 0.2:
                prompts.append([*branch, 10_000 + len(prompts)])
            else:
                grow(branch, depth - 1)

    grow([], rng.randint(1, 4))
    return prompts


def unique_tokens(prompts: Sequence[Sequence[int]]) -> int:
    return len({tuple(prompt[: stop + 1]) for prompt in prompts for stop in range(len(prompt))})


def hits(prompts: Sequence[Sequence[int]], policy: str) -> int:
    """Cached tokens with a memory that holds just the longest prompt."""
    bench = Bench(max(map(len, prompts)), 1, policy=policy, max_running=1, window=10_000, patience=1_000_000)
    for number, prompt in enumerate(prompts):
        bench.add(number, prompt)
    bench.run()
    assert bench.executor.tokens + bench.scheduler.stats().cached_tokens == sum(map(len, prompts))
    return bench.scheduler.stats().cached_tokens


def test_depth_first_reaches_every_hit_there_is_on_300_trees_and_arrival_order_does_not() -> None:
    rng = random.Random(0)
    possible = by_arrival = 0
    for _ in range(300):
        prompts = random_tree(rng)
        best = sum(map(len, prompts)) - unique_tokens(prompts)
        assert hits(prompts, "fcfs") == best  # they arrive in depth-first order
        rng.shuffle(prompts)
        assert hits(prompts, "lpm") == hits(prompts, "dfs-weight") == best  # these find such an order themselves
        possible += best
        by_arrival += hits(prompts, "fcfs")
    assert by_arrival < 0.75 * possible


# ---- siblings


def compute_family(page_size: int, budget: int, prompts: Sequence[Sequence[int]], memory: int = 4000) -> int:
    bench = Bench(memory, page_size, token_budget=budget, max_running=min(budget, 64))
    for number, prompt in enumerate(prompts):
        bench.add(number, prompt)
    bench.run()
    return bench.executor.tokens


def unavoidable_tokens(page_size: int, prompts: Sequence[Sequence[int]]) -> int:
    """Each different whole page once, and of each prompt what its whole pages but the last token leave over."""
    pages = {tuple(prompt[: stop + page_size]) for prompt in prompts for stop in usable_pages(page_size, prompt)}
    tails = sum(len(prompt) - len(usable_pages(page_size, prompt)) * page_size for prompt in prompts)
    return len(pages) * page_size + tails


def usable_pages(page_size: int, prompt: Sequence[int]) -> range:
    return range(0, (len(prompt) - 1) // page_size * page_size, page_size)


families = st.lists(
    st.tuples(st.integers(0, 40), st.lists(st.integers(0, 3), min_size=1, max_size=30)), min_size=1, max_size=12
).map(lambda parts: [[*range(100, 100 + stem), *own, 1000 + n] for n, (stem, own) in enumerate(parts)])


@given(families, st.integers(1, 8), st.integers(1, 100))
@settings(deadline=None)
def test_a_shared_prefix_is_computed_once_whoever_comes_first(
    prompts: list[list[int]], page_size: int, budget: int
) -> None:
    assert compute_family(page_size, budget, prompts) == unavoidable_tokens(page_size, prompts)


def test_without_waiting_for_siblings_it_is_computed_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [[*range(1000), 5000 + number] for number in range(64)]
    assert compute_family(16, 512, prompts) == unavoidable_tokens(16, prompts) == 992 + 64 * 9

    def never_waits(admission: Admission, request: Request) -> bool:
        look_up(admission._memory, request)
        return False

    monkeypatch.setattr(Admission, "_waits_for_sibling", never_waits)
    assert compute_family(16, 512, prompts) > 2000


def test_siblings_come_in_as_soon_as_the_pages_are_there_and_others_do_not_wait() -> None:
    bench = Bench(400, 4, token_budget=64)
    for number in range(3):
        bench.add(number, [*range(40), 100 + number], max_new_tokens=2)
    bench.add(3, [7, 7, 7], max_new_tokens=2)
    bench.step()
    assert bench.admitted == [0, 3]
    bench.step()
    assert sorted(bench.admitted) == [0, 1, 2, 3]


def test_nobody_waits_for_a_page_that_it_could_not_use() -> None:
    bench = Bench(400, 4, policy="fcfs")
    bench.add(0, [1, 1, 1, 1, 2, 2, 2, 2, 3])
    bench.run()
    bench.add(1, [5] * 12)
    bench.add(2, [5] * 4)  # its only page holds its last token, which must be computed
    bench.add(3, [1, 1, 1, 1, 5, 5, 5, 5, 9])  # the same page as request 1, but after another one
    bench.step()
    assert bench.admitted == [0, 1, 2, 3]


def test_a_sibling_of_an_aborted_prefill_goes_on_by_itself() -> None:
    bench = Bench(400, 4, token_budget=8, max_running=8)
    bench.add(0, [*range(40), 1])
    second = bench.add(1, [*range(40), 2])
    bench.step()
    bench.step()
    assert bench.admitted == [0]
    assert bench.scheduler.abort(0)
    bench.step()
    assert bench.admitted == [0, 1] and second.cached_tokens == 16
    bench.run()


# ---- policies


def order_of(
    policy: str, requests: Sequence[tuple[int, Sequence[int], int]], cached: Sequence[Sequence[int]] = ()
) -> list[int]:
    bench = Bench(400, 1, policy=policy, max_running=1)
    for number, prompt in enumerate(cached):
        bench.add(1000 + number, prompt)
    bench.run()
    bench.admitted.clear()
    for number, prompt, priority in requests:
        bench.add(number, prompt, priority=priority)
    bench.run()
    return bench.admitted


def test_the_policies_order_the_same_queue_differently() -> None:
    requests = [(1, [50, 1], 0), (2, [10, 11, 12, 1], 0), (3, [20, 2], 5), (4, [20, 3], 0), (5, [10, 4], 5)]
    cached = [[10, 11, 12, 13], [20, 21, 22, 23, 24]]
    assert order_of("fcfs", requests, cached) == [1, 2, 3, 4, 5]
    assert order_of("priority", requests, cached) == [3, 5, 1, 2, 4]
    assert order_of("lpm", requests, cached) == [2, 3, 4, 5, 1]
    # Three wait below [20 ...], so it comes before the deeper match of request 2, and is finished before that.
    requests.append((6, [20, 5], 0))
    assert order_of("dfs-weight", requests, cached) == [3, 4, 6, 2, 5, 1]


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no policy 'best'; choose from lpm, dfs-weight, fcfs, priority"):
        SchedulerConfig(context=10, policy="best")  # type: ignore[arg-type]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one with each look-up in the tree."""
    seen: list[object] = []
    sound = KVMemory.match

    def counted(*arguments: object) -> object:
        seen.append(arguments[2])
        return sound(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(KVMemory, "match", counted)
    return seen


@pytest.mark.parametrize("policy", ["lpm", "dfs-weight"])
def test_planning_looks_at_the_head_of_a_long_queue_only(policy: str, looks: list[object]) -> None:
    bench = Bench(40_000, 4, policy=policy, window=32, max_running=8)
    for number in range(3000):
        bench.add(number, [number, 1, 2, 3, 4], max_new_tokens=3)
    bench.step()
    assert 8 <= len(looks) <= 32 + 2 * 8
    looks.clear()
    bench.step()  # every slot is taken: nothing to look for
    assert not looks


@pytest.mark.parametrize("policy", ["lpm", "dfs-weight"])
def test_a_queue_full_of_siblings_is_not_looked_through_again_for_everybody_behind_it(
    policy: str, looks: list[object]
) -> None:
    bench = Bench(40_000, 4, policy=policy, window=32, max_running=64)
    for number in range(32):
        bench.add(number, [*range(600), number])
    for number in range(32, 200):
        bench.add(number, [number, 1, 2, 3, 4])
    bench.step()
    assert len(looks) <= 4 * 32


# ---- ageing


def wait_of_the_cold_one(policy: str, patience: int, older: int, newcomers: int = 300) -> int:
    """Admissions before that of a request which the policy likes least, among older and newer ones that it prefers."""
    bench = Bench(2000, 1, policy=policy, patience=patience, max_running=2, token_budget=64)
    bench.add(-1, [*range(100), 1], max_new_tokens=1, priority=1)
    bench.run()
    bench.admitted.clear()
    for number in range(older):
        bench.add(-10 - number, [*range(100), -number], max_new_tokens=1, priority=1)
    cold = bench.add(-2, [7, 8, 9], max_new_tokens=1)
    for number in range(newcomers):
        bench.add(2 * number, [*range(100), 2 * number], max_new_tokens=1, priority=1)
        bench.add(2 * number + 1, [*range(100), 2 * number + 1], max_new_tokens=1, priority=1)
        bench.step()
        if cold.admitted_at is not None:
            break
    bench.run()
    return bench.admitted.index(-2)


@pytest.mark.parametrize("policy", ["lpm", "dfs-weight", "priority"])
@pytest.mark.parametrize("patience", [0, 5, 40])
@pytest.mark.parametrize("older", [0, 7])
def test_nobody_is_passed_over_more_often_than_patience_allows(policy: str, patience: int, older: int) -> None:
    wait = wait_of_the_cold_one(policy, patience, older)
    assert abs(wait - (older + patience)) <= 1 and wait <= older + patience


@pytest.mark.parametrize("policy", ["lpm", "dfs-weight", "priority"])
def test_without_ageing_it_would_starve(policy: str) -> None:
    assert wait_of_the_cold_one(policy, patience=1_000_000, older=0) >= 600


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=60),
    st.sampled_from(["lpm", "dfs-weight", "priority"]),
    st.integers(0, 6),
    st.integers(1, 4),
)
@settings(deadline=None)
def test_the_bound_holds_for_everybody(
    arrivals: list[tuple[int, int, int]], policy: str, patience: int, max_running: int
) -> None:
    """A request that finds q others waiting is at most the (q + patience + 1)th to be admitted from then on."""
    bench = Bench(2000, 1, policy=policy, patience=patience, max_running=max_running)
    found: dict[int, int] = {}
    for number, (steps, kind, length) in enumerate(arrivals):
        found[number] = len(bench.admitted) + bench.scheduler.stats().waiting
        bench.add(number, [kind] * (5 * kind + 1) + [100 + number], max_new_tokens=length, priority=kind)
        for _ in range(steps if number % 3 else 0):
            bench.step()
    bench.run()
    for place, number in enumerate(bench.admitted):
        assert place <= found[number] + patience


def test_an_overdue_request_that_does_not_fit_yet_is_waited_for() -> None:
    bench = Bench(30, 1, policy="lpm", patience=2, token_budget=64)
    bench.add(0, [1] * 10, max_new_tokens=10)
    bench.step()
    bench.add(1, [2] * 25, max_new_tokens=2)  # fits only after request 0
    for number in range(2, 30):
        bench.add(number, [1, 1, number], max_new_tokens=1)
    bench.run()
    assert bench.admitted.index(1) <= 1 + 2
    assert len(bench.admitted) == 30


# ---- learnt lengths


class StopsAfter:
    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def accept(self, request: Request, new_tokens: Sequence[int]) -> Finish | None:
        return Finish("stop") if len(request.output) >= self.tokens else None


def test_admission_learns_that_answers_are_shorter_than_allowed() -> None:
    bench = Bench(200, 4, max_running=64)
    widths = []
    for number in range(200):
        bench.add(number, [number, 2, 3], max_new_tokens=700, stopper=StopsAfter(5))
    while bench.step():
        widths.append(bench.scheduler.stats().running)
    assert max(widths[:4]) <= 6  # 128 tokens are expected of each at first
    assert max(widths) >= 40
    assert bench.scheduler.stats().retractions == 0


def test_expected_lengths_are_a_quantile_of_those_that_got_as_far() -> None:
    lengths = OutputLengths(quantile=0.5, window=4, first_guess=100)
    assert lengths.expected(0, 30) == 30 and lengths.expected(0, 1000) == 100 and lengths.expected(80, 1000) == 160
    for length in (1000, 10, 20, 30, 40):  # the window drops the first
        lengths.observe(length)
    assert lengths.expected(0, 1000) == 30
    assert lengths.expected(25, 1000) == 40
    assert lengths.expected(40, 1000) == 80
    assert lengths.expected(40, 50) == 50
    with pytest.raises(ValueError, match="quantile"):
        OutputLengths(quantile=0)
