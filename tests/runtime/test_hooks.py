"""What the language builds on: callbacks that lose no step, scoring that does not block, holds on the cache."""

from __future__ import annotations

import logging
import math
import threading
from pathlib import Path

import pytest
from ramify import Engine
from ramify.errors import EngineClosed, InvalidRequest, RequestFailed, RequestTooLong
from ramify.runtime.results import Delta
from ramify.runtime.sampling.params import SamplingParams
from ramify.runtime.scoring import Scoring
from ramify.runtime.stream import Stream

PROMPT = "The quick brown fox jumps over the lazy dog"
GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)


class Ended:
    """Collects what callbacks say, and from which thread."""

    def __init__(self, count: int = 1) -> None:
        self.seen: list[Stream] = []
        self.threads: set[str] = set()
        self._count = count
        self._all = threading.Event()

    def __call__(self, stream: Stream) -> None:
        self.seen.append(stream)
        self.threads.add(threading.current_thread().name)
        if len(self.seen) >= self._count:
            self._all.set()

    def wait(self) -> list[Stream]:
        assert self._all.wait(30)
        return self.seen


def test_the_callback_comes_once_with_the_result_on_the_engines_thread(tiny: Engine) -> None:
    ended = Ended()
    stream = tiny.submit(PROMPT, GREEDY, on_done=ended)
    assert ended.wait() == [stream] and ended.threads == {"ramify-engine"}
    assert stream.done and stream.result().text == tiny.generate(PROMPT, GREEDY).text
    assert list(stream) == []  # nobody asked for deltas


def test_deltas_come_before_the_end(tiny: Engine) -> None:
    said: list[str] = []

    def heard(delta: Delta) -> None:
        said.append(delta.text)

    ended = Ended()
    stream = tiny.submit(PROMPT, GREEDY, on_done=ended, on_delta=heard)
    ended.wait()
    assert "".join(said) == stream.result().text


@pytest.mark.parametrize("prompt", ["a\ud800b", [], [10**9], [1] * 5000])
def test_a_request_that_fails_calls_back_too(tiny: Engine, prompt: object) -> None:
    ended = Ended()
    stream = tiny.submit(prompt, GREEDY, on_done=ended)  # type: ignore[arg-type]
    ended.wait()
    assert isinstance(stream.error, InvalidRequest | RequestTooLong) and ended.threads == {"ramify-engine"}


def test_a_callback_that_raises_is_logged_and_harms_nobody(tiny: Engine, caplog: pytest.LogCaptureFixture) -> None:
    after = Ended()

    def careless(stream: Stream) -> None:
        tiny.submit(PROMPT, GREEDY, on_done=after)
        raise ValueError("careless")

    with caplog.at_level(logging.ERROR, "ramify"):
        assert tiny.submit(PROMPT, GREEDY, on_done=careless).result(30).text
        after.wait()
    assert "careless" in caplog.text


def test_a_chain_of_callbacks_loses_no_step(tiny_model: Path) -> None:
    """Ten answers of six tokens, each submitted when the one before ends: sixty steps, not one more."""
    ended = Ended(10)
    with Engine(tiny_model, mode="fp32", cache_tokens=4096, progress=False) as engine:

        def go_on(stream: Stream) -> None:
            ended(stream)
            if len(ended.seen) < 10:
                before = stream.result(0)
                engine.submit([*before.prompt_token_ids, *before.token_ids, 7], GREEDY, on_done=go_on)

        release = threading.Event()
        engine._loop.tell(lambda: release.wait(10))  # both are there before the first step
        busy = engine.submit("another request keeps the engine stepping", GREEDY.replace(max_tokens=90), on_done=print)
        engine.submit(PROMPT, GREEDY, on_done=go_on)
        release.set()
        ended.wait()
        busy.result(30)
        # the busy one takes 90 steps; the chain hides in them (it starts at most one step later)
        assert engine.stats().steps <= 91


def test_a_failed_submission_does_not_cost_what_its_callback_submits_a_step(tiny_model: Path) -> None:
    with Engine(tiny_model, mode="fp32", cache_tokens=4096, progress=False) as engine:
        after = Ended()
        release = threading.Event()
        engine._loop.tell(lambda: release.wait(10))
        busy = engine.submit(PROMPT, GREEDY.replace(max_tokens=20), on_done=print)
        engine.submit([1] * 5000, GREEDY, on_done=lambda _: engine.submit(PROMPT, GREEDY, on_done=after))
        release.set()
        after.wait()
        busy.result(30)
        assert engine.stats().steps <= 21  # both began in the same step (or waited one for their shared page)


def test_a_forks_children_are_admitted_together_and_share(tiny_model: Path) -> None:
    with Engine(tiny_model, mode="fp32", cache_tokens=4096, progress=False) as engine:
        stem = list(range(5, 5 + 160))
        ended = Ended(9)
        streams = engine.submit_many(
            [[*stem, 200 + i] for i in range(7)] + [[*stem, 250]],
            [GREEDY] * 7 + [SamplingParams(n=2, max_tokens=6, ignore_eos=True, seed=3)],
            on_done=ended,
        )
        ended.wait()
        assert len(streams) == 9 and [one.result().index for one in streams[-2:]] == [0, 1]
        stats = engine.stats()
        # 160 tokens of the stem once, each child's own first token and what it writes
        assert stats.computed_tokens <= 160 + 9 * (1 + 6) + 16 * 2
        assert stats.steps <= 6 + 10 + 2  # one page of the stem after the other, then all together
    with pytest.raises(InvalidRequest, match="submit_many"):
        tiny_n(tiny_model)


def tiny_n(folder: Path) -> None:
    with Engine(folder, mode="fp32", cache_tokens=1024, progress=False) as engine:
        engine.submit(PROMPT, n=2, on_done=print)


def test_the_engine_can_be_asked_from_a_callback(tiny: Engine) -> None:
    found: list[int] = []
    ended = Ended()

    def ask(stream: Stream) -> None:
        found.append(tiny.stats().steps)
        tiny.check()
        ended(stream)

    tiny.submit(PROMPT, GREEDY, on_done=ask)
    ended.wait()
    assert found[0] > 0


def test_when_the_engine_closes_every_callback_comes(tiny_model: Path) -> None:
    engine = Engine(tiny_model, mode="fp32", cache_tokens=4096, progress=False)
    ended = Ended(20)
    engine.submit_many([PROMPT] * 20, GREEDY.replace(max_tokens=400), on_done=ended)
    engine.close()
    assert all(isinstance(stream.error, EngineClosed) for stream in ended.wait())
    with pytest.raises(EngineClosed):
        engine.submit(PROMPT, GREEDY, on_done=ended)


# -- scoring ----------------------------------------------------------------------------------------------------------


def scored(engine: Engine, *arguments: object, cancel: bool = False) -> Scoring:
    done = threading.Event()
    handle = engine.submit_score(*arguments, on_done=lambda _: done.set())  # type: ignore[arg-type]
    if cancel:
        handle.cancel()
        handle.cancel()
    assert done.wait(30)
    assert handle.done
    return handle


def test_scoring_without_blocking_gives_what_score_gives(tiny: Engine) -> None:
    options = [" and it was told", " count", "!"]
    handle = scored(tiny, PROMPT, options)
    assert list(handle.scores()) == tiny.score(PROMPT, options)
    assert handle.usage.prompt_tokens > 0 and handle.error is None


def test_scoring_can_be_cancelled_and_fails_alone(tiny: Engine) -> None:
    handle = scored(tiny, PROMPT * 8, [" and it was told"] * 40 + ["!"], cancel=True)
    with pytest.raises(RequestFailed, match="cancelled"):
        handle.scores()
    too_long = scored(tiny, [5] * 600, [[6, 7]])
    assert isinstance(too_long.error, RequestTooLong)
    with pytest.raises(InvalidRequest):
        tiny.submit_score(PROMPT, [], print)


# -- holds ------------------------------------------------------------------------------------------------------------


def fill(engine: Engine, start: int) -> None:
    """An unrelated request of 160 tokens: ten pages."""
    engine.generate([(start * 37 + i) % 290 + 5 for i in range(160)], max_tokens=1, temperature=0)


def cached(engine: Engine, tokens: list[int]) -> int:
    return engine._loop.call(lambda: engine._loop.scheduler.memory.match(tokens, None, len(tokens)).length).result()


def test_held_tokens_outlive_others_and_go_in_the_order_of_their_next_use(tiny_model: Path) -> None:
    with Engine(tiny_model, mode="fp32", cache_tokens=40 * 16, progress=False) as engine:
        first, second = list(range(10, 10 + 96)), list(range(120, 120 + 96))
        for tokens in (first, second):
            engine.generate(tokens, max_tokens=1, temperature=0)
        soon, later = engine.hold(first, next_use=1), engine.hold(second, next_use=9)
        for start in range(12):
            fill(engine, start)
        assert (cached(engine, first), cached(engine, second)) == (96, 96) and soon.tokens == 96
        engine.check()
        long = [(7 * i) % 290 + 5 for i in range(500)]  # 32 pages of 40: something held must go
        engine.generate(long, max_tokens=1, temperature=0)
        assert cached(engine, first) == 96 > cached(engine, second)
        engine.check()
        soon.next_use = math.inf
        later.release()
        later.release()
        for start in range(12):
            fill(engine, start)
        assert cached(engine, first) == cached(engine, second) == 0
        engine.check()
        before = engine.stats().recomputed_tokens
        engine.generate([*first, 5], max_tokens=1, temperature=0)
        assert engine.stats().recomputed_tokens - before == 96
        engine.flush_cache()  # what was told to go is not missed
        engine.generate([*first, 5], max_tokens=1, temperature=0)
        assert engine.stats().recomputed_tokens - before == 96


@pytest.mark.parametrize("switched_off", [True, False])
def test_without_a_hold_they_are_evicted(tiny_model: Path, switched_off: bool) -> None:
    """The control for the test above; and an engine that is told to ignore holds is no better."""
    with Engine(tiny_model, mode="fp32", cache_tokens=40 * 16, holds=not switched_off, progress=False) as engine:
        first = list(range(10, 10 + 96))
        engine.generate(first, max_tokens=1, temperature=0)
        if switched_off:
            engine.hold(first)
        for start in range(12):
            fill(engine, start)
        assert cached(engine, first) == 0


def test_a_hold_of_nothing_and_wrong_numbers(tiny: Engine) -> None:
    with tiny.hold([299, 298]) as hold:
        tiny.check()
        assert hold.tokens == 0
    for wrong in (-1, math.nan, True, "soon"):
        with pytest.raises(InvalidRequest, match="next_use"):
            tiny.hold([1], next_use=wrong)  # type: ignore[arg-type]
