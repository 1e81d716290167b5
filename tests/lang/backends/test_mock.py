"""Mock and NullBackend: scripted and made-up answers, constraints, counts, latency, failures."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any

import pytest
from ramify.errors import BackendError
from ramify.lang.backends.alarm import Alarm
from ramify.lang.backends.base import BackendStream, GenerateCall, Outcome
from ramify.lang.backends.mock import Mock, NullBackend
from ramify.lang.choices import METHODS, decide, score_call
from ramify.lang.sampling import Constraint, Sampling

from .conftest import waited

SHORT = Sampling(max_new_tokens=5)


def generate(stream: BackendStream, sampling: Sampling = SHORT, **call: Any) -> Outcome:
    return waited(lambda done: stream.generate(GenerateCall(sampling, **call), done))


def said(backend: Mock, text: str = "Hello") -> BackendStream:
    stream = backend.stream()
    stream.append(text)
    return stream


def test_what_it_makes_up_depends_on_the_prompt_and_the_seed_alone() -> None:
    first = generate(said(Mock())).texts
    assert generate(said(Mock())).texts == first
    assert generate(said(Mock(), "Other")).texts != first
    assert generate(said(Mock()), Sampling(max_new_tokens=5, seed=1)).texts != first
    several = generate(said(Mock()), Sampling(max_new_tokens=5, n=3)).texts
    assert len(set(several)) == 3 and several[0] == first[0]


def test_lengths() -> None:
    assert len(generate(said(Mock()), Sampling(max_new_tokens=2)).texts[0].split()) == 2
    assert generate(said(Mock()), Sampling(max_new_tokens=2)).metas[0]["finish_reason"]["type"] == "length"
    assert len(generate(said(Mock()), Sampling(min_new_tokens=30)).texts[0].split()) == 30


@pytest.mark.parametrize("seed", range(5))
def test_constraints_are_obeyed(seed: int) -> None:
    sampling = Sampling(seed=seed)
    text = generate(said(Mock()), sampling, constraint=Constraint("regex", r"[-+]?[0-9]+(\.[0-9]{2})?")).texts[0]
    assert re.fullmatch(r"[-+]?[0-9]+(\.[0-9]{2})?", text)
    assert generate(said(Mock()), sampling, constraint=Constraint("choices", ("a", "b"))).texts[0] in ("a", "b")
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "s": {"type": "array", "items": {"type": "string"}}},
        "required": ["n", "s"],
        "additionalProperties": False,
    }
    value = json.loads(generate(said(Mock()), sampling, constraint=Constraint("json_schema", schema)).texts[0])
    assert isinstance(value["n"], int) and all(isinstance(one, str) for one in value["s"])


def test_a_script_in_order() -> None:
    backend = Mock(["one", BackendError("planned"), "three stop four"])
    stream = said(backend)
    assert generate(stream).texts == ("one",)
    assert str(waited(lambda done: stream.generate(GenerateCall(SHORT), done), error=True)) == "planned"
    outcome = generate(stream, Sampling(stop=("stop", "zzz")))
    assert outcome.texts == ("three ",) and outcome.metas[0]["finish_reason"] == {"type": "stop", "matched": "stop"}
    error = waited(lambda done: stream.generate(GenerateCall(SHORT), done), error=True)
    assert "used up at call 3" in str(error) and "three" in str(error)


def test_a_script_by_the_prompt() -> None:
    backend = Mock({"capital": "Paris", "year": ["1889", "1900"]})
    stream = said(backend, "The capital? ")
    assert generate(stream).texts == ("Paris",)
    stream.append(" And the year? ")
    assert [generate(stream).texts[0] for _ in range(3)] == ["1889", "1900", "1900"], "the last one stays"
    other = said(backend, "Who?")
    assert "none of its 2 keys" in str(waited(lambda done: other.generate(GenerateCall(SHORT), done), error=True))


def test_a_script_that_computes() -> None:
    def reply(prompt: str, call: Any) -> str:
        if "fail" in prompt:
            raise ValueError("of mine")
        return prompt.upper() + str(call.sampling.max_new_tokens)

    backend = Mock(reply)
    assert generate(said(backend, "hi ")).texts == ("HI 5",)
    error = waited(lambda done: said(backend, "fail").generate(GenerateCall(SHORT), done), error=True)
    assert isinstance(error, ValueError)
    with pytest.raises(BackendError, match="list of replies"):
        Mock("hello")


def test_a_select_takes_a_reply_by_every_method() -> None:
    options = ("no", "yes, and a long one", "yes")
    for method in METHODS.values():
        backend = Mock(["yes"])
        call = score_call(options, method)
        told = waited(lambda done, b=backend, c=call: said(b).score(c, done))
        assert decide(options, method, told.scores).text == "yes"
    call = score_call(options, METHODS["token_length_normalized"])
    error = waited(lambda done: said(Mock(["maybe"])).score(call, done), error=True)
    assert "not one of the options" in str(error)
    assert waited(lambda done: said(Mock()).score(call, done)) == waited(lambda done: said(Mock()).score(call, done))


def test_it_counts_and_keeps() -> None:
    backend = Mock(keep=2)
    stream = said(backend)
    for _ in range(3):
        generate(stream)
    waited(stream.warm)
    stream.fork(4)
    stream.close()
    backend.flush_cache()
    expected = {"calls": 4, "generate": 3, "warm": 1, "fork": 4, "close": 1, "flush_cache": 1}
    assert backend.counts == expected
    assert [call.index for call in backend.calls] == [2, 3]
    assert backend.calls[0].prompt.startswith("Hello ") and backend.calls[0].prompt != backend.calls[1].prompt


def test_conversations() -> None:
    backend = Mock(["Hi!"])
    stream = backend.stream()
    assert stream.start_role("user") == "USER: "
    stream.append("Hello")
    assert stream.end_role("user") == "\n"
    stream.start_role("assistant")
    generate(stream)
    stream.end_role("assistant")
    assert backend.calls[0].prompt == "USER: Hello\nASSISTANT:"
    assert backend.calls[0].messages == [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": ""}]
    generate_after = stream.fork(1)[0]
    assert generate_after is not stream


def test_forks_go_their_own_ways() -> None:
    backend = Mock(lambda prompt, call: f"[{prompt}]")
    one, two = said(backend, "a").fork(2)
    one.append("1")
    assert generate(one).texts == ("[a1]",) and generate(two).texts == ("[a]",)


def test_latency_failures_and_cancelling() -> None:
    backend = Mock(latency=0.05, failures={1: BackendError("planned")})
    stream = said(backend)
    began = time.monotonic()
    generate(stream)
    assert time.monotonic() - began >= 0.05
    assert "planned" in str(waited(lambda done: stream.generate(GenerateCall(SHORT), done), error=True))
    outcomes: list[Outcome] = []
    cancel = stream.generate(GenerateCall(SHORT), outcomes.append)
    cancel()
    cancel()
    assert [outcome.metas[0]["finish_reason"]["type"] for outcome in outcomes] == ["abort"]
    time.sleep(0.1)
    assert len(outcomes) == 1, "a cancelled call does not end again"
    assert [Mock(failures=lambda index: None).failure(0)] == [None]


def test_many_latencies_need_one_thread() -> None:
    backend, left = Mock(latency=0.05), threading.Semaphore(0)
    before = threading.active_count()
    for number in range(300):
        said(backend, str(number)).generate(GenerateCall(SHORT), lambda _: left.release())
    assert threading.active_count() <= before + 1
    for _ in range(300):
        assert left.acquire(timeout=10)


def test_streaming_adds_up() -> None:
    heard: list[str] = []
    call = GenerateCall(SHORT, stream=True)
    outcome = waited(lambda done: said(Mock()).generate(call, done, heard.append))
    assert "".join(heard) == outcome.texts[0] and len(heard) == 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_alarm_outlives_what_it_calls() -> None:
    alarm, rung = Alarm(), threading.Event()

    def broken() -> None:
        raise ValueError("of the test")

    alarm.call_later(0.0, broken)
    alarm.call_later(0.02, rung.set)
    assert rung.wait(5)
    rung.clear()
    time.sleep(0.02)  # its thread has ended by now
    alarm.call_later(0.0, rung.set)
    assert rung.wait(5)


def test_null_answers_at_once() -> None:
    backend = NullBackend()
    stream = backend.stream()
    stream.append("x")
    outcomes: list[Any] = []
    cancel = stream.generate(GenerateCall(Sampling(n=2)), outcomes.append)
    assert outcomes[0].texts == (" ok", " ok"), "before generate returns"
    cancel()
    call = score_call(("a", "b"), METHODS["unconditional_likelihood_normalized"])
    stream.score(call, outcomes.append)
    assert decide(("a", "b"), METHODS["unconditional_likelihood_normalized"], outcomes[1].scores).text == "a"
    assert len(stream.fork(3)) == 3 and isinstance(stream.cannot("see"), BackendError)
