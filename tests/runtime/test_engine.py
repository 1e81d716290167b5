"""The engine as its users call it: results, streams, threads, asyncio, errors that stay inside their request."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from pathlib import Path

import numpy as np
import pytest
from ramify import Engine
from ramify.errors import BatchFailed, EngineClosed, InvalidRequest, RequestFailed, RequestTooLong
from ramify.runtime.results import Delta
from ramify.runtime.sampling.params import SamplingParams

PROMPT = "The quick brown fox jumps over the lazy dog"
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)


# -- text -------------------------------------------------------------------------------------------------------------


def test_one_prompt_gives_one_generation_with_its_costs(tiny: Engine) -> None:
    tiny.flush_cache()
    answer = tiny.generate(PROMPT, GREEDY)
    prompt = tiny.tokenizer.encode(PROMPT)
    assert answer.prompt_token_ids == tuple(prompt)
    assert (answer.usage.prompt_tokens, answer.usage.cached_tokens) == (len(prompt), 0)
    assert answer.usage.completion_tokens == len(answer.token_ids) == 24
    assert answer.usage.computed_tokens == len(prompt) + 23  # the last token is chosen, never computed
    assert answer.finish_reason == "length"
    assert answer.text == tiny.tokenizer.decode(answer.token_ids)
    assert answer.timings.total_s >= answer.timings.decode_s > 0
    warm = tiny.generate(PROMPT, GREEDY)
    assert warm.text == answer.text
    assert warm.usage.cached_tokens == (len(prompt) - 1) // 16 * 16 > 0


def test_token_ids_and_text_are_the_same_prompt(tiny: Engine) -> None:
    assert tiny.generate(tiny.tokenizer.encode(PROMPT), GREEDY).text == tiny.generate(PROMPT, GREEDY).text


def test_many_prompts_keep_their_order(tiny: Engine) -> None:
    prompts = [f"{PROMPT} {number}" for number in range(40)]
    together = tiny.generate(prompts, GREEDY)
    assert [one.text for one in together] == [tiny.generate(prompt, GREEDY).text for prompt in prompts]
    assert tiny.generate([], GREEDY) == []


def test_each_prompt_may_have_its_own_params(tiny: Engine) -> None:
    short, long = tiny.generate([PROMPT, PROMPT], [GREEDY.replace(max_tokens=2), GREEDY.replace(max_tokens=9)])
    assert (len(short.token_ids), len(long.token_ids)) == (2, 9)
    with pytest.raises(InvalidRequest, match="2 prompts with 1 params"):
        tiny.generate([PROMPT, PROMPT], [GREEDY])


def test_n_answers_share_the_prompt_and_differ(tiny: Engine) -> None:
    answers = tiny.generate(PROMPT * 3, temperature=1.0, seed=5, n=4, max_tokens=12)
    assert [one.index for one in answers] == [0, 1, 2, 3]
    assert len({one.text for one in answers}) > 1
    again = tiny.generate(PROMPT * 3, temperature=1.0, seed=5, n=4, max_tokens=12)
    assert [one.text for one in answers] == [one.text for one in again]


def test_a_seed_gives_the_same_text_whatever_else_runs(tiny: Engine) -> None:
    params = SamplingParams(temperature=1.2, seed=11, max_tokens=20, top_p=0.9)
    alone = tiny.generate(PROMPT, params)
    crowd = tiny.generate([PROMPT, *(f"{i} {PROMPT}" for i in range(30))], params)
    assert crowd[0].text == alone.text
    assert tiny.generate(PROMPT, params.replace(seed=12)).text != alone.text


def test_max_tokens_defaults_to_the_end_of_the_context(tiny: Engine) -> None:
    answer = tiny.generate(PROMPT, temperature=0, ignore_eos=True)
    assert answer.usage.total_tokens == tiny.config.context_length
    assert answer.finish_reason == "length"


def test_a_prompt_longer_than_a_step_is_prefilled_in_chunks(tiny_model: Path, tiny: Engine) -> None:
    long = PROMPT * 12
    with Engine(tiny_model, mode="fp32", cache_tokens=4096, step_tokens=32, max_running=8, progress=False) as chunked:
        assert chunked.generate(long, GREEDY).text == tiny.generate(long, GREEDY).text
        assert chunked.stats().scheduler.steps > len(tiny.tokenizer.encode(long)) // 32


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_logprobs_are_of_the_tokens_and_agree_with_the_next_token_distribution(tiny: Engine) -> None:
    answer = tiny.generate(PROMPT, GREEDY.replace(logprobs=3, max_tokens=5))
    assert answer.logprobs is not None
    assert [entry.chosen.token for entry in answer.logprobs] == list(answer.token_ids)
    assert all(entry.chosen.rank == 1 and entry.top[0] == entry.chosen for entry in answer.logprobs)
    before = tiny.generate(PROMPT, max_tokens=0)
    assert before.token_ids == () and before.text == ""
    assert before.next_token is not None
    assert before.next_token.logprob(answer.token_ids[0]) == pytest.approx(answer.logprobs[0].chosen.logprob, abs=1e-6)
    assert float(np.exp(before.next_token.logprobs.astype(np.float64)).sum()) == pytest.approx(1.0, abs=1e-5)


def test_prompt_logprobs_are_there_even_when_the_prompt_is_cached(tiny: Engine) -> None:
    tiny.generate(PROMPT, GREEDY)
    cached = tiny.generate(PROMPT, max_tokens=1, temperature=0, prompt_logprobs=2)
    tokens = tiny.tokenizer.encode(PROMPT)
    assert cached.prompt_logprobs is not None and len(cached.prompt_logprobs) == len(tokens)
    assert cached.prompt_logprobs[0] is None
    for position, entry in enumerate(cached.prompt_logprobs[1:], 1):
        assert entry is not None and entry.chosen.token == tokens[position]
        whole = tiny.generate(tokens[:position], max_tokens=0).next_token
        assert whole is not None
        assert entry.chosen.logprob == pytest.approx(whole.logprob(tokens[position]), abs=1e-6)


def test_score_is_the_sum_of_the_continuations_logprobs(tiny: Engine) -> None:
    options = [" and it was told", " count", "!"]
    scores = tiny.score(PROMPT, options)
    for option, score in zip(options, scores, strict=True):
        tokens = tiny.tokenizer.encode(PROMPT + option)
        assert tuple(tokens[-len(score.token_ids) :]) == score.token_ids
        by_hand = 0.0
        for position in range(len(tokens) - len(score.token_ids), len(tokens)):
            distribution = tiny.generate(tokens[:position], max_tokens=0).next_token
            assert distribution is not None
            by_hand += distribution.logprob(tokens[position])
        assert score.total == pytest.approx(by_hand, abs=1e-5)
        assert score.mean == pytest.approx(score.total / len(score.token_ids))


def test_score_computes_the_shared_prefix_once(tiny: Engine) -> None:
    prompt = list(range(5, 5 + 160))
    options = [[200 + i, 7] for i in range(16)]
    tiny.flush_cache()
    before = tiny.stats().scheduler.computed_tokens
    tiny.score(prompt, options)
    # the first tokens cost nothing: the prompt's logits judge them; nor do the last, for nothing follows them
    assert tiny.stats().scheduler.computed_tokens - before == 160 + 16
    tiny.flush_cache()
    before = tiny.stats().scheduler.computed_tokens
    tiny.score(prompt, [[200 + i] for i in range(16)])
    assert tiny.stats().scheduler.computed_tokens - before == 160


def test_score_of_many_prompts(tiny: Engine) -> None:
    nested = tiny.score([PROMPT, "The"], [["a", "b"], [" dog"]])
    assert [len(group) for group in nested] == [2, 1]
    assert nested[1][0].total == pytest.approx(tiny.score("The", [" dog"])[0].total, abs=1e-6)
    for wrong in ([], "text", [""]):
        with pytest.raises(InvalidRequest):
            tiny.score(PROMPT, wrong)


# -- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_adds_up_to_its_result(tiny: Engine) -> None:
    stream = tiny.stream(PROMPT, GREEDY.replace(logprobs=0))
    deltas = list(stream)
    whole = stream.result()
    assert "".join(delta.text for delta in deltas) == whole.text == tiny.generate(PROMPT, GREEDY).text
    assert tuple(token for delta in deltas for token in delta.token_ids) == whole.token_ids
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == "length" and deltas[-1].usage == whole.usage
    assert tuple(entry for delta in deltas for entry in delta.logprobs or ()) == whole.logprobs
    assert len(deltas) == 24
    assert list(stream) == deltas  # again, from the start


def test_a_stop_string_is_never_shown(tiny: Engine) -> None:
    free = tiny.generate(PROMPT, GREEDY)
    stop = free.text[8:12]
    stream = tiny.stream(PROMPT, GREEDY, stop=stop)
    shown = "".join(delta.text for delta in stream)
    assert shown == free.text[: free.text.index(stop)]
    assert (stream.result().finish_reason, stream.result().stop_matched) == ("stop", stop)


def test_leaving_a_stream_early_aborts_it(tiny: Engine) -> None:
    with tiny.stream(PROMPT, temperature=0, ignore_eos=True) as stream:
        for delta in stream:
            assert isinstance(delta, Delta)
            break
    answer = stream.result(timeout=10)
    assert answer.finish_reason == "abort"
    assert 0 < len(answer.token_ids) < tiny.config.context_length - len(answer.prompt_token_ids)
    assert tiny.stats().scheduler.in_use_pages == 0


def test_going_on_from_a_finished_stream_computes_only_what_is_new(tiny: Engine) -> None:
    first = tiny.stream(PROMPT * 4, GREEDY.replace(max_tokens=40)).result()
    more = tiny.extend(first, " and it was told", temperature=0, max_tokens=4).result()
    before = [*first.prompt_token_ids, *first.token_ids]
    assert list(more.prompt_token_ids[: len(before) - 1]) == before[:-1]
    assert tiny.tokenizer.decode(more.prompt_token_ids) == tiny.tokenizer.decode(before) + " and it was told"
    assert more.usage.cached_tokens >= (len(before) - 1) // 16 * 16 - 16
    by_ids = tiny.extend(first, [9, 10], temperature=0, max_tokens=1).result()
    assert by_ids.prompt_token_ids == (*before, 9, 10)


def test_async_twins(tiny: Engine) -> None:
    async def main() -> None:
        one, many = await asyncio.gather(tiny.agenerate(PROMPT, GREEDY), tiny.agenerate([PROMPT] * 3, GREEDY))
        assert one.text == tiny.generate(PROMPT, GREEDY).text
        assert [each.text for each in many] == [one.text] * 3
        pieces = [delta.text async for delta in tiny.stream(PROMPT, GREEDY)]
        assert "".join(pieces) == one.text
        [score] = await tiny.ascore(PROMPT, [" dog"])
        assert score.total == pytest.approx(tiny.score(PROMPT, [" dog"])[0].total)
        task = asyncio.create_task(tiny.agenerate(PROMPT, temperature=0, ignore_eos=True))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert tiny.generate(PROMPT, GREEDY).finish_reason == "length"


def test_many_threads(tiny: Engine) -> None:
    expected = {i: tiny.generate(f"{i} {PROMPT}", GREEDY).text for i in range(12)}
    wrong: list[int] = []

    def work(i: int) -> None:
        texts = [tiny.generate(f"{i} {PROMPT}", GREEDY).text for _ in range(3)]
        wrong.extend(i for text in texts if text != expected[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "empty"),
        (b"bytes", "token ids"),
        (5, "token ids"),
        ([1, 2, -1], "token 2 is -1"),
        ([1, 10**9], "token 1 is 1000000000"),
        ([1, True], "token 1 is True"),
        ([1, 2.0], "token 1 is 2.0"),
        ([float("nan")], "token 0 is nan"),
        ("\ud800", "surrogate"),
    ],
)
def test_a_prompt_that_is_none(tiny: Engine, prompt: object, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        tiny.generate(prompt, GREEDY)  # type: ignore[call-overload]
    assert tiny.generate(PROMPT, GREEDY).text


def test_a_prompt_beyond_the_context(tiny: Engine) -> None:
    with pytest.raises(RequestTooLong, match="512"):
        tiny.generate([5] * 513, GREEDY)
    assert len(tiny.generate([5] * 511, GREEDY).token_ids) == 1


def test_one_bad_row_does_not_stop_the_others(tiny: Engine) -> None:
    prompts = [PROMPT, [5] * 600, "The", [10**7]]
    with pytest.raises(BatchFailed, match="2 of 4") as caught:
        tiny.generate(prompts, GREEDY)
    assert [one.finish_reason for one in caught.value.generations] == ["length", "error", "length", "error"]
    returned = tiny.generate(prompts, GREEDY, errors="return")
    assert returned[0].text == tiny.generate(PROMPT, GREEDY).text
    assert isinstance(returned[1].error, RequestTooLong)
    assert isinstance(returned[3].error, InvalidRequest)


def test_unknown_parameters_and_options_are_named(tiny: Engine, tiny_model: Path) -> None:
    with pytest.raises(InvalidRequest, match="temprature"):
        tiny.generate(PROMPT, temprature=0)
    with pytest.raises(InvalidRequest, match="stepp_tokens"):
        Engine(tiny_model, stepp_tokens=1)
    with pytest.raises(InvalidRequest, match="n=2"):
        tiny.stream(PROMPT, n=2)
    with pytest.raises(InvalidRequest, match="vocabulary"):
        tiny.generate(PROMPT, logit_bias={10**6: 1.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, True, -1, 10**9, 2**63, "1", None, [1]])
@pytest.mark.parametrize("name", ["max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "logprobs", "seed"])
def test_hostile_numbers_are_refused_or_served_and_never_break_the_engine(
    tiny: Engine, name: str, value: object
) -> None:
    try:
        answers = tiny.generate("The", **{"max_tokens": 2, "temperature": 0.5, name: value}, errors="return")
        for answer in answers if isinstance(answers, list) else [answers]:
            assert answer.finish_reason in {"length", "stop"} or isinstance(answer.error, InvalidRequest)
    except InvalidRequest as error:
        assert name in str(error)
    assert len(tiny.generate("The", GREEDY).token_ids) == 24


def test_a_callback_that_raises_fails_its_own_request(tiny: Engine) -> None:
    def explode(delta: Delta) -> None:
        raise ValueError("boom")

    broken = tiny.stream(PROMPT, GREEDY, on_delta=explode)
    sound = tiny.stream(PROMPT, GREEDY)
    with pytest.raises(RequestFailed, match="boom"):
        broken.result(timeout=10)
    assert sound.result(timeout=10).text == tiny.generate(PROMPT, GREEDY).text
    assert tiny.stats().scheduler.in_use_pages == 0


def test_closing_ends_what_is_in_flight_and_refuses_what_comes_after(tiny_model: Path) -> None:
    engine = Engine(tiny_model, mode="fp32", cache_tokens=2048, progress=False)
    streams = [engine.stream(PROMPT, temperature=0, ignore_eos=True) for _ in range(4)]
    engine.close()
    engine.close()
    for stream in streams:
        with contextlib.suppress(EngineClosed):
            assert stream.result(timeout=10).finish_reason == "length"  # it was done before the engine was
    with pytest.raises(EngineClosed):
        engine.generate(PROMPT, GREEDY)
    assert not [thread for thread in threading.enumerate() if thread is engine._loop._thread]


def test_an_engine_that_is_forgotten_ends_its_thread(tiny_model: Path) -> None:
    engine = Engine(tiny_model, mode="fp32", cache_tokens=2048, progress=False)
    thread = engine._loop._thread
    engine.generate(PROMPT, GREEDY)
    del engine
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_salts_keep_tenants_apart(tiny: Engine) -> None:
    tiny.flush_cache()
    params = GREEDY.replace(max_tokens=1)
    prompt = PROMPT * 3
    cold = tiny.generate(prompt, params.replace(cache_salt="a"))
    same = tiny.generate(prompt, params.replace(cache_salt="a"))
    other = tiny.generate(prompt, params.replace(cache_salt="b"))
    nobody = tiny.generate(prompt, params)
    assert [one.usage.cached_tokens > 0 for one in (cold, same, other, nobody)] == [False, True, False, False]


def test_without_the_prefix_cache_nothing_is_reused(tiny_model: Path) -> None:
    with Engine(tiny_model, mode="fp32", cache_tokens=2048, prefix_cache=False, progress=False) as engine:
        answers = [engine.generate(PROMPT * 3, GREEDY) for _ in range(2)]
        assert [one.usage.cached_tokens for one in answers] == [0, 0]
        assert answers[0].text == answers[1].text


def test_an_internal_error_in_a_step_fails_that_step_only(tiny: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tiny.generate(PROMPT, GREEDY).text
    forward, calls = tiny._loop.executor._forward, iter(range(1000))

    def flaky(step: object) -> object:
        if next(calls) == 2:
            raise RuntimeError("the planted fault")
        return forward(step)  # type: ignore[arg-type]

    monkeypatch.setattr(tiny._loop.executor, "_forward", flaky)
    with pytest.raises(RequestFailed, match="planted fault"):
        tiny.generate(PROMPT, GREEDY)
    assert tiny.generate(PROMPT, GREEDY).text == expected
    assert tiny.stats().scheduler.in_use_pages == 0
