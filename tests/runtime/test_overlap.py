"""Overlap on: the texts of overlap off, on a device that is late with everything, whatever else happens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ramify import Engine, grammars
from ramify.errors import EngineClosed, GrammarTooLarge, InvalidRequest, RequestFailed
from ramify.kernels.ops import Compute
from ramify.kernels.triton.compute import TritonCompute
from ramify.kernels.triton.rehearsal import Rehearsal
from ramify.runtime import device_executor, loading
from ramify.runtime.batch import Batch, ragged
from ramify.runtime.device_executor import DeviceExecutor
from ramify.runtime.results import Delta, Generation
from ramify.runtime.sampling.params import SamplingParams
from ramify.runtime.sampling.sampler import RowState
from ramify.runtime.scheduling.config import SchedulerStats
from ramify.runtime.scheduling.lengths import OutputLengths
from ramify.runtime.scheduling.plan import Plan

from .constraint_zoo import CONSTRAINTS, PERSON, PROMPT
from .late_device import LateCompute
from .test_constrained import Faulty
from .test_constrained_storm import wild

GREEDY = SamplingParams(temperature=0, max_tokens=24)


@pytest.fixture
def rash_admission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Admission reserves next to nothing, so that memory really runs out."""
    monkeypatch.setattr(OutputLengths, "expected", lambda self, generated, maximum: min(maximum, generated + 1))


@pytest.fixture(scope="module", autouse=True)
def late_device() -> Iterator[None]:
    """Every engine of this module runs on a device that is late."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "compute", lambda *_, **__: LateCompute())
        yield


def engine(folder: Path, overlap: bool, **options: Any) -> Engine:
    settings = {"cache_tokens": 8192, "step_tokens": 96, **options}
    return Engine(folder, mode="fp32", progress=False, overlap=overlap, **settings)


def same(folder: Path, ask: Callable[[Engine], Any], **options: Any) -> tuple[Any, Engine]:
    """What `ask` gets with overlap, once it was the same without; and the engine with it, which is closed."""
    answers = []
    for overlap in (False, True):
        with engine(folder, overlap, **options) as one:
            answers.append(ask(one))
            one.check()
            assert one.stats().scheduler.in_use_pages == 0
    assert answers[0] == answers[1]
    return answers[1], one


class Near(float):
    """A number that equals its neighbours: torch adds in another order when the batch is another."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(float(self) - float(other)) < 1e-3

    __hash__ = None  # type: ignore[assignment]  # not for dictionaries


def told(answer: Generation) -> tuple[Any, ...]:
    """All of an answer that must not depend on the order of work."""

    def numbers(entries: Any) -> Any:
        return entries and [
            one and [(entry.token, entry.rank, Near(entry.logprob)) for entry in (one.chosen, *one.top)]
            for one in entries
        ]

    return (
        answer.text, answer.token_ids, answer.finish_reason, answer.stop_matched, numbers(answer.logprobs),
        numbers(answer.prompt_logprobs), answer.usage.forced_tokens,
        answer.next_token and [Near(one) for one in answer.next_token.logprobs.tolist()],
    )  # fmt: skip


MIXED: dict[str, SamplingParams] = {
    "plain": GREEDY,
    "one token": GREEDY.replace(max_tokens=1),
    "log-probabilities": GREEDY.replace(logprobs=3),
    "its own log-probabilities": GREEDY.replace(logprobs=0),
    "prompt log-probabilities": GREEDY.replace(prompt_logprobs=2, logprobs=1),
    "stop strings": GREEDY.replace(stop=["e", "1", " "], max_tokens=40),
    "kept stop": GREEDY.replace(stop_regex="[a-z]{2}", include_stop=True),
    "stop tokens late": GREEDY.replace(stop_token_ids=range(40, 200), min_tokens=9),
    "endless": GREEDY.replace(ignore_eos=True, max_tokens=60),
    "penalties": GREEDY.replace(repetition_penalty=1.3, frequency_penalty=0.4, presence_penalty=0.2),
    "biases": GREEDY.replace(logit_bias={5: 8.0, 9: -100.0, 11: float("-inf")}, min_tokens=4),
    "distribution": GREEDY.replace(max_tokens=0),
}


def test_every_kind_of_request_gets_the_same_answer(tiny_model: Path) -> None:
    constrained = [GREEDY.replace(max_tokens=60, **wanted) for wanted, _ in CONSTRAINTS]
    beside: list[dict[str, Any]] = [
        {"logprobs": 2}, {"jump_forward": False}, {"min_tokens": 30}, {"stop": ['"a']}, {"frequency_penalty": 0.5},
    ]  # fmt: skip
    more = [GREEDY.replace(json_schema=PERSON, max_tokens=60, **one) for one in beside]
    params = [*MIXED.values(), *constrained, *more]
    prompts = [PROMPT[: 10 + 7 * number % 30] for number in range(len(params))]

    def ask(one: Engine) -> list[Any]:
        together = [told(answer) for answer in one.generate(prompts, params)]
        alone = [told(one.generate(prompt, own)) for prompt, own in zip(prompts, params, strict=True)]
        assert together == alone
        return together

    answers, _ = same(tiny_model, ask)
    assert {answer[2] for answer in answers} == {"stop", "length"} and any(answer[6] for answer in answers)


def test_streams_forks_and_answers_that_go_on(tiny_model: Path) -> None:
    def ask(one: Engine) -> list[Any]:
        heard: list[list[Delta]] = [[] for _ in range(6)]
        streams = [
            one.stream(PROMPT[number:], params, on_delta=heard[number].append)
            for number, params in enumerate([*MIXED.values()][:6])
        ]
        answers = [stream.result(60) for stream in streams]
        for deltas, answer in zip(heard, answers, strict=True):
            assert "".join(delta.text for delta in deltas) == answer.text
            assert tuple(token for delta in deltas for token in delta.token_ids) == answer.token_ids
        forks = one.generate(PROMPT, GREEDY, n=4, seed=3)
        longer = [one.extend(answer, " and then", params=GREEDY).result(60) for answer in (*answers, *forks)]
        return [told(answer) for answer in (*answers, *forks, *longer)]

    same(tiny_model, ask)


def test_rows_that_the_host_must_see_do_not_hold_the_device_up(tiny_model: Path) -> None:
    params = GREEDY.replace(ignore_eos=True, max_tokens=40)
    with engine(tiny_model, True) as one:
        grounded: list[bool] = []
        sound = one._loop.executor.launch  # type: ignore[attr-defined]

        def launch(*given: Any) -> Any:
            flight = sound(*given)
            grounded.append(flight.grounded)
            return flight

        one._loop.executor.launch = launch  # type: ignore[attr-defined]
        steady = one.stream(PROMPT, params)
        one.score(PROMPT, [" fox", " dog and cat", "!"])
        one.generate(PROMPT, params, prompt_logprobs=1)
        assert steady.result(30).text and not any(grounded)
        one.generate("x" * 200, GREEDY, prompt_logprobs=1)  # many rows at once
        assert any(grounded)


def test_scores_are_the_same(tiny_model: Path) -> None:
    def ask(one: Engine) -> Any:
        scores = one.score([PROMPT, PROMPT[:9]], [[" fox", " dog and cat", "!"], [" a", " quick brown fox"]])
        return [[(score.token_ids, [Near(number) for number in score.logprobs]) for score in row] for row in scores]

    same(tiny_model, ask)


def test_retractions_change_no_text(tiny_model: Path, rash_admission: None) -> None:
    prompts = [f"{number} {PROMPT}"[: 20 + number] for number in range(30)]

    def ask(one: Engine) -> list[Any]:
        answers = [told(answer) for answer in one.generate(prompts, GREEDY.replace(ignore_eos=True, max_tokens=40))]
        retracted.append(one.stats().scheduler.retractions)
        return answers

    retracted: list[int] = []
    answers, _ = same(tiny_model, ask, cache_tokens=256, max_running=16)
    with engine(tiny_model, True) as roomy:
        assert ask(roomy) == answers
    assert retracted[0] > 5 and retracted[1] > 5 and not retracted[2]


def storm(folder: Path, seed: int, count: int, **options: Any) -> tuple[list[Generation | None], SchedulerStats]:
    with engine(folder, True, **options) as one:
        results = wild(one, count, seed, aborts="max_running" in options)
        one.check()
        stats = one.stats().scheduler
        assert stats.in_use_pages == 0
        return results, stats


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_constrained_forked_retracted_and_aborted_together(tiny_model: Path, rash_admission: None, seed: int) -> None:
    calm, _ = storm(tiny_model, seed, 90, cache_tokens=65536)
    stormy, stats = storm(tiny_model, seed, 90, cache_tokens=320, max_running=32, step_tokens=64)
    for one, other in zip(calm, stormy, strict=True):
        if one is not None and other is not None:
            assert (one.text, one.token_ids, one.finish_reason) == (other.text, other.token_ids, other.finish_reason)
    assert stats.retractions > 0 and stats.aborted > 0


# ---- the order of work


def test_the_next_step_is_launched_before_the_last_one_is_read(tiny_model: Path) -> None:
    with engine(tiny_model, True) as one:
        log = one._model.compute.log  # type: ignore[attr-defined]
        one.generate([PROMPT, "another prompt"], GREEDY.replace(ignore_eos=True, max_tokens=50))
        steady = log[log.index("read") - 1 :]
        assert steady[0] == "launch"
        waits = [index for index, what in enumerate(steady) if what == "read"]
        assert len(waits) >= 50
        assert sum(steady[index - 1] == "launch" for index in waits) >= 49  # all but the last


def test_an_engine_at_rest_holds_nothing(tiny_model: Path) -> None:
    with engine(tiny_model, True) as one:
        for number in range(20):
            stream = one.stream(f"{number} {PROMPT}", GREEDY.replace(ignore_eos=True, max_tokens=200))
            next(iter(stream))
            stream.abort()
            assert one.stats().scheduler.in_use_pages == 0  # the abort and the question may come together
            assert stream.result(10).finish_reason == "abort"
        one.check()


def test_closing_does_not_wait_for_answers(tiny_model: Path) -> None:
    one = engine(tiny_model, True)
    streams = [one.stream(PROMPT[number:], GREEDY.replace(ignore_eos=True, max_tokens=400)) for number in range(3)]
    deltas = iter(streams[0])
    next(deltas)
    one.close()
    for stream in streams:
        with pytest.raises(EngineClosed):
            stream.result(10)


def test_callbacks_on_the_host_are_heard(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that only the host can edit, among others that it never sees."""

    def ask(one: Engine) -> list[Any]:
        made = one._intake._sampler.row

        def row(params: SamplingParams, *rest: Any, **named: Any) -> RowState:
            state = made(params, *rest, **named)
            if params.seed == 13:
                state.edit = lambda values: values.__setitem__(slice(0, 100), -50.0)
            return state

        monkeypatch.setattr(one._intake._sampler, "row", row)
        params = [GREEDY.replace(seed=13 if number % 3 == 0 else 1, logprobs=1) for number in range(9)]
        return [told(answer) for answer in one.generate([PROMPT[number:] for number in range(9)], params)]

    answers, _ = same(tiny_model, ask)
    assert all(min(answer[1]) >= 100 for answer in answers[::3])


# ---- what goes wrong


def test_a_step_that_fails_on_the_device_ends_its_requests_alone(tiny_model: Path) -> None:
    with engine(tiny_model, True) as one:
        device = one._model.compute
        expected = one.generate(PROMPT, GREEDY).text
        stream = one.stream(PROMPT, GREEDY.replace(ignore_eos=True, max_tokens=300))
        deltas = iter(stream)
        next(deltas)
        device.broken = RuntimeError("the device has a fault")  # type: ignore[attr-defined]
        with pytest.raises(RequestFailed, match="the device has a fault"):
            stream.result(30)
        device.broken = None  # type: ignore[attr-defined]
        assert one.generate(PROMPT, GREEDY).text == expected
        one.check()
        assert one.stats().scheduler.in_use_pages == 0


@pytest.mark.parametrize("half", ["launch", "choose"])
def test_an_error_in_either_half_ends_its_requests_alone(
    tiny_model: Path, half: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(tiny_model, True) as one:
        expected = one.generate(PROMPT, GREEDY).text
        sound, calls = getattr(one._loop.executor, half), iter(range(1000))

        def flaky(*given: Any) -> Any:
            if next(calls) == 7:
                raise RuntimeError("a planted fault")
            return sound(*given)

        monkeypatch.setattr(one._loop.executor, half, flaky)
        streams = [one.stream(PROMPT[number:], GREEDY.replace(ignore_eos=True, max_tokens=40)) for number in range(4)]
        failed = [stream for stream in streams if stream.wait(30) and stream.error is not None]
        assert failed and all("a planted fault" in str(stream.error) for stream in failed)
        assert one.generate(PROMPT, GREEDY).text == expected
        one.check()
        assert one.stats().scheduler.in_use_pages == 0


def test_a_grammar_that_breaks_on_the_way_ends_its_request_alone(tiny_model: Path) -> None:
    sound = grammars.regex("[ab]{40}")
    faulty = Faulty(sound.program, "regex", "[ab]{40}")
    with engine(tiny_model, True) as one:
        streams = one.submit_many(
            [PROMPT] * 3, [GREEDY.replace(grammar=given, max_tokens=99) for given in (sound, faulty, sound)],
            on_done=lambda _: None,
        )  # fmt: skip
        assert [len(streams[number].result(30).text) for number in (0, 2)] == [40, 40]
        with pytest.raises(GrammarTooLarge):
            streams[1].result(30)
        one.check()


def test_nothing_allowed_is_an_error_of_one_request(tiny_model: Path) -> None:
    with engine(tiny_model, True) as one:
        everything = {token: float("-inf") for token in range(one.config.vocab_size)}
        banned = one.stream(PROMPT, GREEDY.replace(logit_bias=everything))
        fine = one.stream(PROMPT, GREEDY)
        with pytest.raises(RequestFailed, match="no token is allowed"):
            banned.result(30)
        assert fine.result(30).text == one.generate(PROMPT, GREEDY).text


# ---- a device without memory


@pytest.mark.parametrize("half", ["launch", "choose"])
def test_a_device_without_memory_gets_smaller_steps_and_the_texts_stay(tiny_model: Path, half: str) -> None:
    prompts = [f"{number} {PROMPT}" for number in range(12)]

    def ask(one: Engine) -> list[Any]:
        return [told(answer) for answer in one.generate(prompts, GREEDY.replace(ignore_eos=True))]

    expected, _ = same(tiny_model, ask)
    with engine(tiny_model, True) as one:
        device = one._model.compute
        if half == "launch":
            device.most_tokens = 6  # type: ignore[attr-defined]
        else:
            device.most_draws = 3  # type: ignore[attr-defined]
        assert ask(one) == expected
        assert one.stats().scheduler.retractions > 0 and one.stats().scheduler.failed == 0
        one.check()


def test_alone_and_still_too_much_is_a_clear_error(tiny_model: Path) -> None:
    with engine(tiny_model, True) as one:
        one._model.compute.most_tokens = 0  # type: ignore[attr-defined]
        with pytest.raises(RequestFailed, match="no memory left for even one token"):
            one.generate(PROMPT, GREEDY)
        one._model.compute.most_tokens = 10**9  # type: ignore[attr-defined]
        assert one.generate(PROMPT, GREEDY).text
        one.check()


# ---- our own kernels


@pytest.mark.slow
@pytest.mark.parametrize("recorded", [True, False])
def test_our_kernels_give_the_same_in_the_interpreter(
    tiny_model: Path, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draws made by the kernels, steps that follow them, and decode steps that are replayed."""
    params = [
        GREEDY.replace(max_tokens=5, logprobs=2), GREEDY.replace(max_tokens=8), GREEDY.replace(max_tokens=0),
        GREEDY.replace(max_tokens=4, regex="[a-z]{3}[0-9]"), GREEDY.replace(max_tokens=5, temperature=1, seed=3),
    ]  # fmt: skip
    places: list[Callable[[], Compute]] = [
        LateCompute,
        lambda: TritonCompute("fp32", torch.device("cpu"), recorder=Rehearsal() if recorded else None),
    ]
    answers = []
    for place in places:
        monkeypatch.setattr(loading, "compute", lambda *_, place=place, **__: place())
        with engine(tiny_model, True) as one:
            answers.append([told(answer) for answer in one.generate([PROMPT[-9 - 3 * n :] for n in range(5)], params)])
            one.check()
    assert answers[0] == answers[1]


# ---- the option


def test_overlap_needs_a_device_that_chooses(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(tiny_model, mode="fp32", cache_tokens=512, progress=False) as one:
        assert not one._loop.scheduler.config.overlap  # the host's own cores: nothing to gain

    class Host(LateCompute):
        chooses = False

    monkeypatch.setattr(loading, "compute", lambda *_, **__: Host())
    with pytest.raises(InvalidRequest, match="overlap=True"):
        engine(tiny_model, True)


# ---- what these tests would see


def follow_the_neighbour(plan: Plan, *rest: Any, draws: dict[int, int] | None = None, **named: Any) -> Batch:
    if draws:
        draws = {request_id: (draw + 1) % len(draws) for request_id, draw in draws.items()}
    return ragged(plan, *rest, draws=draws, **named)


def test_following_the_wrong_draw_would_be_seen(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_executor, "ragged", follow_the_neighbour)
    with pytest.raises(AssertionError):
        same(tiny_model, lambda one: [told(answer) for answer in one.generate([PROMPT, "x", "y"], GREEDY)])


def test_masks_made_before_the_commit_would_be_seen(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound_launch, sound_look = DeviceExecutor.launch, DeviceExecutor._look

    def early(self: DeviceExecutor, plan: Plan, before: Any) -> Any:
        sound_look(self, [self._tickets[chunk.request.id] for chunk in plan.chunks if chunk.samples])
        return sound_launch(self, plan, before)

    monkeypatch.setattr(DeviceExecutor, "launch", early)
    monkeypatch.setattr(DeviceExecutor, "_look", lambda self, tickets: {})
    with engine(tiny_model, True) as one, pytest.raises((AssertionError, RequestFailed)):
        answer = one.generate(PROMPT, GREEDY, regex="([a-z][0-9]){9}", jump_forward=False)
        assert re.fullmatch("([a-z][0-9]){9}", answer.text)


def test_logits_that_are_read_before_they_are_home_would_be_seen(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = DeviceExecutor.choose

    def hasty(self: DeviceExecutor, flight: Any, live: Any) -> None:
        sound(self, flight, live)
        flight.seen = [(one, rows.clone()) for one, rows in flight.seen]

    monkeypatch.setattr(DeviceExecutor, "choose", hasty)
    with pytest.raises(AssertionError):
        same(tiny_model, lambda one: [told(one.generate(PROMPT[n:], GREEDY, prompt_logprobs=1)) for n in range(9)])


def test_logits_that_are_read_too_late_would_be_seen(tiny_model: Path) -> None:
    device = LateCompute()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "compute", lambda *_, **__: device)
        with engine(tiny_model, True) as one:
            one.generate(PROMPT, GREEDY)
            first = device.launched[-2]
            assert torch.isnan(first).all() and not torch.isnan(device.launched[-1]).any()
