"""Constrained generations: every output obeys, whatever else happens, and forced text costs no steps."""

from __future__ import annotations

import re
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from ramify import Engine, grammars
from ramify.errors import EngineClosed, GrammarError, GrammarTooLarge, InvalidRequest
from ramify.runtime.grammar_desk import GrammarDesk
from ramify.runtime.results import Delta, Generation
from ramify.runtime.sampling import sampler
from ramify.runtime.sampling.constraint import Constraint
from ramify.runtime.sampling.params import SamplingParams

from .constraint_zoo import CONSTRAINTS, FREE, PERSON, PROMPT, Judge, schema


@pytest.mark.parametrize("jump", [True, False])
@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda one: next(iter(one[0])))
def test_every_finished_answer_obeys(tiny: Engine, constraint: tuple[dict[str, Any], Judge], jump: bool) -> None:
    wanted, obeys = constraint
    answers = tiny.generate(PROMPT, FREE, **wanted, n=20, seed=1, jump_forward=jump)
    finished = [one for one in answers if one.finish_reason == "stop"]
    assert len(finished) >= 15, [one.finish_reason for one in answers]
    for one in finished:
        assert obeys(one.text), one.text
        assert tiny.tokenizer.decode(one.token_ids) == one.text
    assert all(one.finish_reason == "length" for one in answers if one not in finished)
    assert any(one.usage.forced_tokens for one in answers) <= jump


def test_it_ends_when_nothing_may_follow_and_is_cut_by_max_tokens(tiny: Engine) -> None:
    answer = tiny.generate(PROMPT, regex="[a-z]{3}", temperature=0)
    assert answer.finish_reason == "stop" and len(answer.text) == 3 and answer.usage.completion_tokens <= 3
    cut = tiny.generate(PROMPT, json_schema=PERSON, max_tokens=4, temperature=0)
    assert cut.finish_reason == "length" and cut.usage.completion_tokens == 4
    whole = tiny.generate(PROMPT, json_schema=PERSON, temperature=0, max_tokens=300)
    assert whole.text.startswith(cut.text)
    exact = tiny.generate(PROMPT, json_schema=PERSON, temperature=0, max_tokens=whole.usage.completion_tokens)
    assert exact.finish_reason == "stop" and exact.text == whole.text


def test_the_end_token_is_allowed_exactly_where_the_text_is_complete(tiny: Engine) -> None:
    for seed in range(10):
        answer = tiny.generate(PROMPT, regex="(ab)+", temperature=1.0, seed=seed, logit_bias={0: 100.0}, max_tokens=50)
        assert answer.text == "ab" and answer.finish_reason == "stop"  # the end is what the model wants most
    endless = tiny.generate(PROMPT, regex="(ab)+", temperature=0, ignore_eos=True, logit_bias={0: 100.0}, max_tokens=9)
    assert endless.finish_reason == "length" and 0 not in endless.token_ids
    late = tiny.generate(PROMPT, regex="(ab)+", temperature=0, min_tokens=6, logit_bias={0: 100.0}, max_tokens=50)
    assert late.finish_reason == "stop" and len(late.token_ids) in (6, 7)
    # a text that is complete ends even before min_tokens: nothing else could follow
    assert tiny.generate(PROMPT, regex="abc", min_tokens=30, max_tokens=50).text == "abc"


def test_a_refusal_is_the_error_of_one_request_alone(tiny: Engine) -> None:
    bad = tiny.submit(PROMPT, regex="(", on_done=lambda _: None)
    fine = tiny.submit(PROMPT, regex="abc", on_done=lambda _: None)
    assert fine.result(30).text == "abc"
    with pytest.raises(GrammarError):
        bad.result(30)
    with pytest.raises(GrammarError):
        tiny.generate(PROMPT, json_schema={"type": "object", "required": ["a"], "properties": {"a": False}})
    with pytest.raises(InvalidRequest, match="regex and json_schema"):
        tiny.generate(PROMPT, regex="a", json_schema={})
    tiny.check()


def test_a_refusal_says_what_is_wrong_and_not_where_it_was_found_out(tiny: Engine) -> None:
    with pytest.raises(GrammarError, match="never closed") as caught:
        tiny.generate("x", regex="a(", max_tokens=2)
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    assert not [entry for entry in caught.traceback if "futures" in str(entry.path)]


@pytest.mark.parametrize("jump", [True, False])
def test_an_answer_that_was_cut_goes_on_where_it_was(tiny: Engine, jump: bool) -> None:
    wanted, obeys = schema(PERSON)
    params = FREE.replace(seed=5, jump_forward=jump, **wanted)
    answer = tiny.generate(PROMPT, params.replace(max_tokens=4))
    text = answer.text
    for _ in range(60):
        assert not text.endswith("\ufffd")
        answer = tiny.extend(answer, "", params=params.replace(max_tokens=7, continues=text)).result(30)
        text += answer.text
        if answer.finish_reason == "stop":
            break
    assert obeys(text)
    with pytest.raises(InvalidRequest, match="does not allow"):
        tiny.generate(PROMPT, params.replace(continues="[1"))
    with pytest.raises(InvalidRequest, match="needs the constraint"):
        SamplingParams(continues="x")


class Faulty(grammars.Grammar):
    """A grammar whose matcher breaks after some steps, as one may that grows beyond its limits."""

    def matcher(self, vocabulary: grammars.Vocabulary) -> Any:
        sound, left = super().matcher(vocabulary), iter(range(5))

        class Matcher:
            def __getattr__(self, name: str) -> Any:
                return getattr(sound, name)

            def allowed(self, limit: int = 256) -> Any:
                if next(left, None) is None:
                    raise GrammarTooLarge("this grammar has grown beyond its limits")
                return sound.allowed(limit)

        return Matcher()


def test_a_grammar_that_breaks_on_the_way_ends_its_request_alone(tiny: Engine) -> None:
    sound = grammars.regex("[ab]{40}")
    faulty = Faulty(sound.program, "regex", "[ab]{40}")
    streams = tiny.submit_many(
        [PROMPT] * 3, [FREE.replace(grammar=one) for one in (sound, faulty, sound)], on_done=lambda _: None
    )
    assert [len(streams[i].result(30).text) for i in (0, 2)] == [40, 40]
    with pytest.raises(GrammarTooLarge):
        streams[1].result(30)
    tiny.check()


def test_a_compiled_grammar_may_be_given_and_shared(tiny: Engine) -> None:
    grammar = grammars.regex("x{3,9}")
    answers = tiny.generate([PROMPT] * 8, grammar=grammar, max_tokens=40)
    assert all(re.fullmatch("x{3,9}", one.text) for one in answers)


def test_company_changes_nothing(tiny: Engine) -> None:
    constrained = [FREE.replace(seed=seed, **wanted) for seed, (wanted, _) in enumerate(CONSTRAINTS)]
    free = [SamplingParams(temperature=0.9, seed=seed, max_tokens=30) for seed in range(6)]
    alone = [tiny.generate(PROMPT, params) for params in constrained + free]
    together = tiny.generate([PROMPT] * 13, [*constrained, *free])
    assert [one.text for one in together] == [one.text for one in alone]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]


def test_few_allowed_tokens_give_the_same_choice_as_the_whole_row(
    tiny: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 1.0},
        {"top_k": 3},
        {"top_p": 0.7, "logit_bias": {7: 3.0}},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.4},
        {"min_tokens": 5},
        {"logprobs": 2},
    ]

    def answers() -> list[Any]:
        wanted = [{"max_tokens": 40, "seed": 3, **one, **way} for one, _ in CONSTRAINTS for way in ways]
        return [
            one.token_ids for one in tiny.generate([PROMPT] * len(wanted), [SamplingParams(**one) for one in wanted])
        ]

    few = answers()
    monkeypatch.setattr(sampler, "FEW", 0)
    assert few == answers()


# -- waiting for a grammar --------------------------------------------------------------------------------------------


class SlowCompiler:
    """Holds back what is compiled until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        sound = GrammarDesk.grammar

        def grammar(desk: GrammarDesk, constraint: Constraint) -> Future[Any]:
            late: Future[Any] = Future()
            compiling = sound(desk, constraint)

            def wait() -> None:
                assert self.gate.wait(30)
                late.set_result(compiling.result(30))

            threading.Thread(target=wait, daemon=True).start()
            return late

        monkeypatch.setattr(GrammarDesk, "grammar", grammar)


def test_the_prompt_is_prefilled_while_the_grammar_is_compiled(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowCompiler(monkeypatch)
    with Engine(tiny_model, mode="fp32", cache_tokens=4096, step_tokens=16, progress=False) as engine:
        prompt = engine.tokenizer.encode(PROMPT * 4)
        waiting = [engine.stream(prompt, regex="[ab]{9}", seed=seed) for seed in range(3)]
        other = engine.generate("something else", max_tokens=40, ignore_eos=True)  # goes on meanwhile
        assert len(other.token_ids) == 40 and not any(one.done for one in waiting)
        before = engine.stats()
        assert before.computed_tokens >= len(prompt) - 1 + 40
        slow.gate.set()
        assert all(re.fullmatch("[ab]{9}", one.result(30).text) for one in waiting)
        after = engine.stats()
        # each has its last prompt token and nine letters to compute, whether they become ready together or not
        assert after.computed_tokens - before.computed_tokens <= 3 * (9 + 1)


def test_a_request_that_waits_can_be_aborted_and_closed(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCompiler(monkeypatch)
    engine = Engine(tiny_model, mode="fp32", cache_tokens=4096, progress=False)
    first, second = (engine.stream(PROMPT, regex="a+b") for _ in range(2))
    first.abort()
    assert first.result(30).finish_reason == "abort" and first.result().text == ""
    engine.check()
    slow.gate.set()
    assert second.result(30).text.startswith("a")
    slow.gate.clear()
    third = engine.stream(PROMPT, regex="a+c")
    engine.close()
    with pytest.raises(EngineClosed):
        third.result(30)
    slow.gate.set()


# -- jump-forward -----------------------------------------------------------------------------------------------------


def listen(engine: Engine, params: SamplingParams) -> tuple[list[Delta], Generation]:
    stream = engine.stream(PROMPT, params)
    return list(stream), stream.result()


@pytest.mark.parametrize("logprobs", [None, 2])
@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda one: next(iter(one[0])))
def test_a_stream_tells_what_became_of_its_tokens(
    tiny: Engine, constraint: tuple[dict[str, Any], Judge], logprobs: int | None
) -> None:
    for seed in range(5):
        deltas, answer = listen(tiny, FREE.replace(seed=seed, max_tokens=60, logprobs=logprobs, **constraint[0]))
        assert "".join(delta.text for delta in deltas) == answer.text
        assert "\ufffd" not in "".join(delta.text for delta in deltas[:-1])
        tokens: list[int] = []
        entries: list[Any] = []
        for delta in deltas:
            assert delta.replaces <= len(tokens)
            del tokens[len(tokens) - delta.replaces :], entries[len(entries) - delta.replaces :]
            tokens += delta.token_ids
            entries += delta.logprobs or ()
        assert tuple(tokens) == answer.token_ids
        if logprobs is not None:
            assert tuple(entries) == answer.logprobs and len(entries) == len(tokens)


def test_forced_tokens_have_the_models_own_log_probabilities(tiny: Engine) -> None:
    for seed in range(6):
        answer = tiny.generate(PROMPT, FREE.replace(seed=seed, max_tokens=80, logprobs=1, json_schema=PERSON))
        assert answer.usage.forced_tokens > 5 and answer.logprobs is not None
        everything = [*answer.prompt_token_ids, *answer.token_ids]
        again = tiny.generate(everything, max_tokens=0, prompt_logprobs=1, cache_salt="fresh")
        assert again.prompt_logprobs is not None
        expected = again.prompt_logprobs[len(answer.prompt_token_ids) :]
        for mine, right in zip(answer.logprobs, expected, strict=True):
            assert right is not None and mine.chosen.token == right.chosen.token
            assert mine.chosen.logprob == right.chosen.logprob


def test_forced_text_takes_no_steps_and_is_counted(tiny_model: Path) -> None:
    with Engine(tiny_model, mode="fp32", cache_tokens=4096, progress=False) as engine:
        engine.generate(PROMPT, json_schema=PERSON, max_tokens=2)
        for jump in (True, False):
            before = engine.stats()
            answer = engine.generate(
                PROMPT, FREE.replace(seed=4, max_tokens=300, json_schema=PERSON, jump_forward=jump)
            )
            assert answer.finish_reason == "stop"
            steps = engine.stats().steps - before.steps
            usage = answer.usage
            assert engine.stats().forced_tokens - before.forced_tokens == usage.forced_tokens
            if jump:
                assert usage.forced_tokens > 10
                assert steps == usage.completion_tokens - usage.forced_tokens
            else:
                assert usage.forced_tokens == 0 and steps == usage.completion_tokens
        before = engine.stats()
        certain = engine.generate(PROMPT, choices=["jumps over the lazy dog"])
        assert certain.text == "jumps over the lazy dog" and engine.stats().steps == before.steps
        assert engine.tokenizer.encode_continuation(certain.text) == list(certain.token_ids)


def test_an_engine_may_be_told_not_to_jump(tiny_model: Path) -> None:
    with Engine(tiny_model, mode="fp32", cache_tokens=1024, jump_forward=False, progress=False) as engine:
        assert engine.generate(PROMPT, choices=["lazy dog"]).usage.forced_tokens == 0
        assert engine.generate(PROMPT, choices=["lazy dog"], jump_forward=True).usage.forced_tokens > 0
    with pytest.raises(InvalidRequest, match="jump_forward"):
        SamplingParams(jump_forward=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("stop", [["lazy"], ["zy d"], ["over the la", "dog"], ["g"], ["nowhere"]])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("logprobs", [None, 0])
def test_stops_and_limits_hold_within_forced_text(
    tiny: Engine, stop: list[str], include: bool, logprobs: int | None
) -> None:
    more = {"choices": ["jumps over the lazy dog"], "stop": stop, "include_stop": include, "logprobs": logprobs}
    jumped = tiny.generate(PROMPT, temperature=0, **more)
    plain = tiny.generate(PROMPT, temperature=0, jump_forward=False, **more)
    assert (jumped.text, jumped.finish_reason, jumped.stop_matched) == (plain.text, "stop", plain.stop_matched)
    if jumped.stop_matched:
        assert str(jumped.stop_matched) in tiny.tokenizer.decode(
            jumped.token_ids
        )  # and the stop's last token is the last
        assert str(jumped.stop_matched) not in tiny.tokenizer.decode(jumped.token_ids[:-1])
    if logprobs is not None:
        assert jumped.logprobs is not None and len(jumped.logprobs) == len(jumped.token_ids)
    whole = len(tiny.tokenizer.encode_continuation("jumps over the lazy dog"))
    for limit in range(1, whole + 1):
        cut = tiny.generate(PROMPT, max_tokens=limit, choices=["jumps over the lazy dog"], logprobs=logprobs)
        assert len(cut.token_ids) <= limit
        assert "jumps over the lazy dog".startswith(cut.text)
        assert cut.finish_reason == ("stop" if cut.text.endswith("dog") else "length")


def test_a_wrong_mask_would_be_noticed(tiny: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: tokens chosen against the grammar end their request with an error and harm no other."""
    monkeypatch.setattr(sampler.RowState, "look", lambda self: None)
    stream = tiny.stream(PROMPT, regex="[ab]{9}", temperature=0)
    with pytest.raises(Exception, match="not allowed by the grammar"):
        stream.result(30)
    assert tiny.generate(PROMPT, temperature=0, max_tokens=3).finish_reason == "length"
