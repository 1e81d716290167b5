"""Nothing is lost, nothing leaks, and no answer depends on what else happened: shown in numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch
from ramify import Engine
from ramify.errors import RequestFailed
from ramify.runtime import ticket
from ramify.runtime.results import Delta
from ramify.runtime.sampling.params import SamplingParams
from ramify.runtime.sampling.sampler import Choice, RowState, Sampler
from ramify.runtime.scheduling.lengths import OutputLengths
from ramify.runtime.stream import Stream
from ramify.runtime.text.detokenizer import Detokenizer, TokenTexts

PROMPT = "The quick brown fox jumps over the lazy dog"
GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


@pytest.fixture
def rash_admission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Admission reserves next to nothing, as if it had learned from other answers: so memory really runs out."""
    monkeypatch.setattr(OutputLengths, "expected", lambda self, generated, maximum: min(maximum, generated + 1))


# -- a storm ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One request of the storm, and how its caller behaves."""

    tokens: list[int]
    max_tokens: int
    abort_after: int | None  # deltas; 0: at once; None: never


def storm(count: int, seed: int) -> list[Call]:
    """Prompts of 1 to 200 tokens that grow out of each other; a fifth of the callers walk away, at every stage."""
    chooser = random.Random(seed)
    prompts: list[list[int]] = [[chooser.randrange(1, 300) for _ in range(40)] for _ in range(8)]
    calls = []
    for _ in range(count):
        base = chooser.choice(prompts)
        keep = chooser.randrange(0, len(base) + 1)
        tokens = [*base[:keep], *(chooser.randrange(1, 300) for _ in range(chooser.randrange(1, 60)))][:200]
        if chooser.random() < 0.1:
            prompts[chooser.randrange(len(prompts))] = tokens
        abort_after = chooser.choice([0, 0, 1, 2, 5, 15, 30]) if chooser.random() < 0.2 else None
        calls.append(Call(tokens, chooser.randrange(1, 40), abort_after))
    return calls


def start(engine: Engine, call: Call) -> Stream:
    """Begin one request; its own callback aborts it after so many deltas."""
    seen = 0
    stream: Stream | None = None

    def count(delta: Delta) -> None:
        nonlocal seen
        seen += 1
        if seen == call.abort_after and stream is not None:
            stream.abort()

    params = GREEDY.replace(max_tokens=call.max_tokens)
    stream = engine.stream(call.tokens, params, on_delta=count)
    if call.abort_after == 0:
        stream.abort()
    return stream


def weather(folder: Path, calls: list[Call], cache_tokens: int, aborts: bool) -> tuple[list[str], list[str], int]:
    """Run the storm: texts, finish reasons and retractions. Every page is back at the end, or `check` raises."""
    with Engine(folder, mode="fp32", cache_tokens=cache_tokens, max_running=64, progress=False) as engine:
        streams = [start(engine, call if aborts else Call(call.tokens, call.max_tokens, None)) for call in calls]
        answers = [stream.result(timeout=600) for stream in streams]
        engine.check()
        stats = engine.stats().scheduler
        assert (stats.in_use_pages, stats.running, stats.waiting) == (0, 0, 0)
        assert stats.free_pages + stats.cached_pages == stats.total_pages
        engine.flush_cache()
        assert engine.stats().scheduler.free_pages == stats.total_pages
        return [one.text for one in answers], [one.finish_reason for one in answers], stats.retractions


def storm_holds(folder: Path, count: int) -> None:
    calls = storm(count, seed=count)
    # 64 requests of 80 tokens and 20 more want some 6,400; an eighth of that is the pool
    expected, _, calm = weather(folder, calls, cache_tokens=64 * 1024, aborts=False)
    texts, reasons, retractions = weather(folder, calls, cache_tokens=800, aborts=True)
    assert calm == 0 and retractions > count // 100
    for call, text, reason, whole in zip(calls, texts, reasons, expected, strict=True):
        if call.abort_after is None:
            assert (text, reason) == (whole, "length")
        else:
            assert whole.startswith(text.rstrip("�"))  # the cut may go through a character
    assert reasons.count("abort") > count // 20


def test_a_small_storm_in_a_pool_eight_times_too_small(tiny_model: Path, rash_admission: None) -> None:
    storm_holds(tiny_model, 600)


@pytest.mark.slow
def test_a_storm_of_ten_thousand_in_a_pool_eight_times_too_small(tiny_model: Path, rash_admission: None) -> None:
    storm_holds(tiny_model, 10_000)


# -- two hundred planted exceptions -----------------------------------------------------------------------------------


class Planted(Exception):
    """The error that is injected, to be told from any other."""


def in_tokenizer(engine: Engine, patch: pytest.MonkeyPatch) -> Callable[[], Stream]:
    encode = engine.tokenizer.encode

    def broken(text: str, **options: bool) -> list[int]:
        if text.startswith("!"):
            raise Planted("tokenizer")
        return encode(text, **options)

    patch.setattr(engine.tokenizer, "encode", broken)
    return lambda: engine.stream("!" + PROMPT, GREEDY)


def in_sampler(engine: Engine, patch: pytest.MonkeyPatch) -> Callable[[], Stream]:
    def broken(row: object) -> None:
        raise Planted("sampler")

    made = engine._intake._sampler.row

    def row(params: SamplingParams, *rest: Any, **named: Any) -> RowState:
        state = made(params, *rest, **named)
        if params.seed == 13:
            state.edit = broken
        return state

    patch.setattr(engine._intake._sampler, "row", row)
    return lambda: engine.stream(PROMPT, GREEDY, seed=13)


class BrokenDetokenizer(Detokenizer):
    """Works for three tokens."""

    def push_bytes(self, data: bytes) -> str:
        self.pushed = getattr(self, "pushed", 0) + 1
        if self.pushed > 3:
            raise Planted("detokenizer")
        return super().push_bytes(data)


def in_detokenizer(engine: Engine, patch: pytest.MonkeyPatch) -> Callable[[], Stream]:
    def make(tokenizer: TokenTexts, *, skip_special_tokens: bool) -> Detokenizer:
        kind = Detokenizer if skip_special_tokens else BrokenDetokenizer
        return kind(tokenizer, skip_special_tokens=skip_special_tokens)

    patch.setattr(ticket, "Detokenizer", make)
    return lambda: engine.stream(PROMPT, GREEDY, skip_special_tokens=False)


def in_callback(engine: Engine, patch: pytest.MonkeyPatch) -> Callable[[], Stream]:
    def broken(delta: Delta) -> None:
        raise Planted("callback")

    return lambda: engine.stream(PROMPT, GREEDY, on_delta=broken)


@pytest.mark.parametrize("plant", [in_tokenizer, in_sampler, in_detokenizer, in_callback])
def test_fifty_exceptions_each_fail_one_request_and_no_other(
    tiny: Engine, plant: Callable[[Engine, pytest.MonkeyPatch], Callable[[], Stream]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {number: tiny.generate(f"{number} {PROMPT}", GREEDY).text for number in range(50)}
    begin = plant(tiny, monkeypatch)
    pairs = [(begin(), tiny.stream(f"{number} {PROMPT}", GREEDY)) for number in range(50)]
    for number, (victim, bystander) in enumerate(pairs):
        with pytest.raises(RequestFailed, match=plant.__name__.removeprefix("in_")) as caught:
            victim.result(timeout=30)
        assert isinstance(caught.value.__cause__, Planted)
        assert bystander.result(timeout=30).text == expected[number]
    tiny.check()
    assert tiny.stats().scheduler.in_use_pages == 0


# -- the same text, however it came about -----------------------------------------------------------------------------


def slices_of_real_text(engine: Engine, count: int) -> list[list[int]]:
    """Different prompts of 20 to 40 tokens, out of Python's own documentation."""
    tokens = engine.tokenizer.encode("\n".join(topics[name] for name in sorted(topics)))
    chooser = random.Random(count)
    starts = chooser.sample(range(len(tokens) - 40), count)
    return [tokens[start : start + chooser.randrange(20, 41)] for start in starts]


def same_in_every_way(model: str | Path, count: int) -> None:
    """Greedy fp32 texts: alone, batched, warm, chunked, retracted."""
    params = GREEDY.replace(max_tokens=6)
    with Engine(model, mode="fp32", cache_tokens=64 * 1024, progress=False) as engine:
        prompts = slices_of_real_text(engine, count)
        batched = engine.generate(prompts, params)
        warm = engine.generate(prompts, params)
        assert all(one.usage.cached_tokens > 0 for one in warm)
        alone = []
        for prompt in prompts:
            engine.flush_cache()
            alone.append(engine.generate(prompt, params))
        assert all(one.usage.cached_tokens == 0 for one in alone)
    with Engine(model, mode="fp32", cache_tokens=16384, step_tokens=12, max_running=8, progress=False) as engine:
        chunked = engine.generate(prompts, params)
        assert engine.stats().scheduler.steps > 2 * count
    with Engine(model, mode="fp32", cache_tokens=128, max_running=32, progress=False) as engine:
        retracted = engine.generate(prompts, params)
        assert engine.stats().scheduler.retractions > count // 20
    expected = [one.token_ids for one in alone]
    for way in (batched, warm, chunked, retracted):
        assert [one.token_ids for one in way] == expected


def test_every_way_to_an_answer_gives_the_same(tiny_model: Path, rash_admission: None) -> None:
    same_in_every_way(tiny_model, 200)


def test_logits_that_depend_on_the_batch_would_be_noticed(
    tiny_model: Path, rash_admission: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sampler.sample

    def swayed(self: Sampler, logits: torch.Tensor, rows: Sequence[RowState], places: Sequence[int]) -> list[Choice]:
        return sample(self, logits + 0.5 * torch.sin(torch.arange(logits.shape[1]) * len(rows)), rows, places)

    monkeypatch.setattr(Sampler, "sample", swayed)
    with pytest.raises(AssertionError, match="assert"):
        same_in_every_way(tiny_model, 60)


@pytest.mark.slow
def test_every_way_to_an_answer_gives_the_same_on_a_thousand_prompts_of_the_real_model(rash_admission: None) -> None:
    same_in_every_way("smollm2", 1000)
