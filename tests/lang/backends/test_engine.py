"""Programs' streams on the embedded engine: token truth, forks, scores, what is reported."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import ramify
from ramify.errors import InvalidRequest
from ramify.lang.backends.base import BackendStream, GenerateCall, Outcome, ScoreCall
from ramify.lang.backends.engine import EngineBackend, EngineStream
from ramify.lang.sampling import Constraint, Sampling

from .conftest import waited

PAGE = 16  # tokens; prefixes are shared page by page
LONG = "The quick brown fox jumps over the lazy dog, and it was told: count to 12345"
GREEDY = Sampling(max_new_tokens=6, temperature=0.0)


@pytest.fixture(scope="module")
def backend(tiny: ramify.Engine) -> EngineBackend:
    return EngineBackend(tiny)


def generate(stream: BackendStream, sampling: Sampling = GREEDY, **call: Any) -> Outcome:
    return waited(lambda done: stream.generate(GenerateCall(sampling, **call), done))


def test_a_stream_gives_what_the_engine_gives(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The quick ")
    stream.append("brown fox")
    outcome = generate(stream)
    expected = backend.engine.generate("The quick brown fox", max_tokens=6, temperature=0)
    assert outcome.texts == (expected.text,)
    assert outcome.metas[0]["prompt_tokens"] == len(expected.prompt_token_ids)
    assert outcome.metas[0]["completion_tokens"] == 6
    assert outcome.metas[0]["finish_reason"] == {"type": "length", "length": 6}


def test_a_stream_goes_on_from_its_tokens(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The quick brown fox jumps over")
    first = generate(stream)
    before = stream.tokens()
    expected = backend.engine.generate("The quick brown fox jumps over", max_tokens=6, temperature=0)
    whole = (*expected.prompt_token_ids, *expected.token_ids)
    assert before == whole[: len(before)] and len(whole) - len(before) <= 3, "only half a character is left out"
    stream.append(" and it was told")
    second = generate(stream)
    assert second.metas[0]["cached_tokens"] >= (len(before) - 3) // PAGE * PAGE
    assert stream.tokens()[: len(before) - 2] == before[:-2], "only the meeting point is encoded anew"
    assert first.texts[0] + " and it was told" + second.texts[0] in backend.engine.tokenizer.decode(stream.tokens())


def test_a_stop_within_a_token_leaves_text_and_tokens_agreeing(backend: EngineBackend) -> None:
    tokenizer = backend.engine.tokenizer
    whole = backend.engine.generate("The lazy", max_tokens=12, temperature=0)
    for at in range(1, min(12, len(whole.text))):
        stop = whole.text[at : at + 2]
        stream = backend.stream()
        stream.append("The lazy")
        outcome = generate(stream, Sampling(max_new_tokens=12, temperature=0.0, stop=stop))
        text = outcome.texts[0]
        assert text == whole.text[: whole.text.index(stop)]
        decoded = b"".join(map(tokenizer.token_bytes, stream.tokens())).decode(errors="replace")
        assert decoded == "The lazy" + text


def test_forks_share_what_was_computed(backend: EngineBackend) -> None:
    backend.engine.flush_cache()
    stream = backend.stream()
    stream.append(LONG)
    warm = waited(stream.warm)
    computed = warm.metas[0]["usage"]["computed_tokens"]
    assert computed == len(stream.tokens()) // PAGE * PAGE, "a part of a page is shared with nobody"
    assert stream.warm(lambda _: None) is None, "there is nothing left to prefill"
    children = stream.fork(4)
    for number, child in enumerate(children):
        child.append(f" {number}")
    costs = [generate(child).metas[0]["usage"]["computed_tokens"] for child in children]
    assert all(cost <= PAGE + 3 + 6 for cost in costs), costs


def test_without_warming_the_forks_would_compute_more(backend: EngineBackend) -> None:
    """The control for the test above: a cold cache costs every child its prefix."""
    backend.engine.flush_cache()
    stream = backend.stream()
    stream.append(LONG)
    (child,) = stream.fork(1)
    assert generate(child).metas[0]["usage"]["computed_tokens"] > PAGE + 3 + 6


def test_what_follows_is_prefilled_when_the_generation_ends(backend: EngineBackend) -> None:
    backend.engine.flush_cache()
    stream = backend.stream()
    stream.append("The quick brown fox")
    generate(stream)
    stream.append(" jumps over the lazy dog, and it was told:")
    stream.ahead()
    second = generate(stream).metas[0]
    assert second["cached_tokens"] >= second["prompt_tokens"] - PAGE


def test_n_answers(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The")
    outcome = generate(stream, Sampling(max_new_tokens=4, temperature=1.0, n=3, seed=1))
    assert len(outcome.texts) == len(outcome.metas) == 3
    assert len(set(outcome.texts)) > 1
    decoded = b"".join(map(backend.engine.tokenizer.token_bytes, stream.tokens())).decode(errors="replace")
    assert decoded == "The" + outcome.texts[0], "the stream goes on from the first"


def test_the_next_tokens_distribution(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The quick")
    sampling = Sampling(max_new_tokens=0, top_logprobs_num=3, return_logprob=True, return_text_in_logprobs=True)
    outcome = generate(stream, sampling)
    (top,) = outcome.metas[0]["output_top_logprobs"]
    best = backend.engine.generate("The quick", max_tokens=1, temperature=0, logprobs=3).logprobs[0].top
    assert [entry[1] for entry in top] == [one.token for one in best]
    assert [entry[0] for entry in top] == pytest.approx([one.logprob for one in best])
    assert [entry[2] for entry in top] == [one.text for one in best]
    assert outcome.texts == ("",)


def test_reported_logprobs(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The quick")
    plain = Sampling(max_new_tokens=3, temperature=0.0, return_logprob=True, logprob_start_len=0, top_logprobs_num=2)
    meta = generate(stream, plain).metas[0]
    assert len(meta["output_token_logprobs"]) == 3
    assert meta["input_token_logprobs"][0][0] is None
    assert len(meta["input_token_logprobs"]) == meta["prompt_tokens"]
    assert [len(top) for top in meta["output_top_logprobs"]] == [2, 2, 2]
    assert all(len(entry) == 3 and entry[2] is None for entry in meta["output_token_logprobs"])


def test_deltas_add_up_to_the_text(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The quick")
    heard: list[str] = []
    call = GenerateCall(Sampling(max_new_tokens=20, temperature=0.0), stream=True)
    outcome = waited(lambda done: stream.generate(call, done, heard.append))
    assert "".join(heard) == outcome.texts[0]
    assert len(heard) > 3


def test_an_error_stays_in_its_call(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The quick")
    bad = GenerateCall(Sampling(temperature=-1.0))
    assert isinstance(waited(lambda done: stream.generate(bad, done), error=True), InvalidRequest)
    lone = backend.stream()
    lone.append("\ud800")
    assert isinstance(waited(lambda done: lone.generate(GenerateCall(GREEDY), done), error=True), InvalidRequest)
    long = backend.stream()
    long.append("word " * 2000)
    assert isinstance(waited(lambda done: long.generate(GenerateCall(GREEDY), done), error=True), InvalidRequest)
    empty = backend.stream()
    error = waited(lambda done: empty.generate(GenerateCall(GREEDY), done), error=True)
    assert "give some text" in str(error) or "at least one" in str(error)
    assert generate(stream).texts[0]


def test_cancelling_gives_what_there_was(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The quick")
    ended, began = threading.Event(), threading.Event()
    outcomes: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        ended.set()

    call = GenerateCall(Sampling(max_new_tokens=400, temperature=0.0, ignore_eos=True), stream=True)
    cancel = stream.generate(call, done, lambda _: began.set())
    assert began.wait(30)
    cancel()
    assert ended.wait(30)
    cancel()
    (outcome,) = outcomes
    assert outcome.metas[0]["finish_reason"]["type"] == "abort"
    assert len(outcome.texts[0]) > 0 and outcome.metas[0]["completion_tokens"] < 400


def test_a_constraint_is_obeyed(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("A number: ")
    outcome = generate(
        stream, Sampling(max_new_tokens=20, temperature=1.0, seed=3), constraint=Constraint("regex", "[0-9]{3}")
    )
    assert outcome.texts[0].isdigit() and len(outcome.texts[0]) == 3
    outcome = generate(stream, constraint=Constraint("choices", ("yes", "no")))
    assert outcome.texts[0] in ("yes", "no")


# -- scores -------------------------------------------------------------------------------------------------------


def score(stream: EngineStream, *options: str, alone: bool = False) -> Any:
    return waited(lambda done: stream.score(ScoreCall(options, alone), done))


def test_scores_are_the_engines(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The quick brown")
    options = (" fox", " dog", " fox jumps over")
    told = score(stream, *options)
    expected = backend.engine.score("The quick brown", options)
    for mine, theirs in zip(told.scores, expected, strict=True):
        assert mine.token_ids == theirs.token_ids
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-5)


def test_an_option_that_joins_the_texts_last_token_is_scored_from_there(backend: EngineBackend) -> None:
    tokenizer = backend.engine.tokenizer
    text = "The quick brown fox jumps ov"
    stream = backend.stream()
    stream.append(text)
    told = score(stream, "er", "!").scores
    whole = [tuple(tokenizer.encode(text + option)) for option in ("er", "!")]
    before = tuple(tokenizer.encode(text))
    assert whole[0][: len(before)] != before, "this test needs an option that joins"
    start = min(next(i for i in range(99) if ids[i : i + 1] != before[i : i + 1]) for ids in whole)
    assert [row.token_ids for row in told] == [ids[start:] for ids in whole], "both from the same place on"
    assert stream.tokens() == before, "scoring changes nothing"


def test_options_alone(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The quick brown")
    told = score(stream, " fox", " dog jumps", alone=True).scores
    for row in told:
        assert len(row.alone) == len(row.logprobs)
    again = score(stream, " fox", " dog jumps").scores
    assert [row.alone for row in again] == [(), ()]
    for one, other in zip(again, told, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_a_thousand_options_share_the_prefix(backend: EngineBackend) -> None:
    backend.engine.flush_cache()
    stream = backend.stream()
    stream.append(LONG * 3)
    options = tuple(f" {number:04d}" for number in range(1000))
    told = score(stream, *options)
    prompt, longest = len(stream.tokens()), max(len(row.token_ids) for row in told.scores)
    assert len(told.scores) == 1000
    assert longest >= 3, "an option is several tokens"
    assert told.usage["computed_tokens"] <= prompt + 200 * (PAGE + longest), "the prompt once, and few requests more"
    assert prompt + 200 * (PAGE + longest) < 1000 * prompt / 8, "without sharing it is the prompt each time"


# -- roles --------------------------------------------------------------------------------------------------------


def test_roles_of_a_model_without_a_template(backend: EngineBackend) -> None:
    stream = backend.stream()
    assert stream.start_role("user") == "USER: "
    stream.append("Hi <eos>")
    assert stream.end_role("user") == "\n"
    assert stream.start_role("assistant") == "ASSISTANT:"
    outcome = generate(stream)
    stream.end_role("assistant")
    tokenizer = backend.engine.tokenizer
    assert tokenizer.token_id("<eos>") not in stream.tokens(), "what people write stays text"
    assert tokenizer.decode(stream.tokens()) == f"USER: Hi <eos>\nASSISTANT:{outcome.texts[0]}\n"


# -- holds --------------------------------------------------------------------------------------------------------


def test_hints_hold_and_close_releases(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append("The quick brown fox jumps over the lazy dog")
    waited(stream.warm)
    stream.hint(next_use=3)
    hold = stream._hold
    assert hold is not None and hold.next_use == 3
    stream.hint(next_use=1)
    assert stream._hold is hold and hold.next_use == 1
    stream.close()
    stream.close()
    assert stream._hold is None


def test_a_program_that_comes_further_holds_more(backend: EngineBackend) -> None:
    stream = backend.stream()
    stream.append(LONG)
    waited(stream.warm)
    stream.hint(next_use=3)
    first = stream._hold
    stream.append(LONG)
    waited(stream.warm)
    stream.hint(next_use=2)
    backend.engine.check()  # what was asked for before has happened now
    assert first is not None and stream._hold is not None and stream._hold is not first
    assert (stream._hold.tokens or 0) > (first.tokens or 0)
    stream.hint(next_use=None)
    assert stream._hold is None


# -- SGLang's Runtime ---------------------------------------------------------------------------------------------


def test_a_runtime_is_a_backend_of_its_own(tiny_model: Path) -> None:
    with pytest.warns(UserWarning, match="tp_size, log_level mean nothing"):
        runtime = ramify.Runtime(
            model_path=tiny_model, tp_size=1, log_level="error", schedule_policy="fcfs", max_total_tokens=2048,
            disable_radix_cache=True, mode="fp32", threads=1, progress=False,
        )  # fmt: skip
    with runtime:
        options = runtime.engine.options
        assert (options.policy, options.cache_tokens, options.prefix_cache) == ("fcfs", 2048, False)
        assert runtime.endpoint is runtime and runtime.get_tokenizer() is runtime.engine.tokenizer
        made = runtime.generate("The quick", {"max_new_tokens": 3, "temperature": 0})
        assert made.usage.completion_tokens == 3
        assert "tiny" in str(runtime.server_info()["model_path"]) and runtime.count_tokens("The quick") > 0
        runtime.flush_cache()
    runtime.shutdown()
    stream = runtime.stream()
    stream.append("The")
    assert "closed" in str(waited(lambda done: stream.generate(GenerateCall(GREEDY), done), error=True))
    with pytest.raises(InvalidRequest, match="no option"):
        ramify.Runtime(model_path=tiny_model, temperature=3)
