"""Constrained answers, forks of them, retractions and aborts all at once: nothing differs from a calm run."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from ramify import Engine
from ramify.runtime.results import Delta, Generation
from ramify.runtime.sampling.params import SamplingParams
from ramify.runtime.scheduling.lengths import OutputLengths

from .constraint_zoo import CONSTRAINTS, FREE, PROMPT, Judge


@pytest.fixture
def rash_admission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Admission reserves next to nothing, so that memory really runs out."""
    monkeypatch.setattr(OutputLengths, "expected", lambda self, generated, maximum: min(maximum, generated + 1))


def wild_params(chooser: random.Random, number: int) -> tuple[SamplingParams, Judge]:
    wanted, obeys = chooser.choice([*CONSTRAINTS, ({}, lambda text: True)])
    more: dict[str, Any] = chooser.choice([{}, {}, {"logprobs": 1}, {"top_p": 0.8}, {"frequency_penalty": 0.5}])
    if chooser.random() < 0.2:
        more = {**more, "jump_forward": False}
    return FREE.replace(seed=number, max_tokens=chooser.choice([3, 20, 60, 120]), **wanted, **more), obeys


def wild(engine: Engine, count: int, seed: int, aborts: bool) -> list[Generation | None]:
    """Constrained and free requests on prompts that share prefixes, some forked from others' answers, some aborted."""
    chooser = random.Random(seed)
    stems = [f"{PROMPT} {chooser.randrange(99)}" for _ in range(5)]
    pending: list[tuple[Any, Judge, bool]] = []
    results: list[Generation | None] = []
    forks = random.Random(seed + 1)
    for number in range(count):
        params, obeys = wild_params(chooser, number)
        dropped = chooser.random() < 0.15
        seen = threading.Event()
        prompt = chooser.choice(stems) + " and" * chooser.randrange(12)

        def heard(delta: Delta, seen: threading.Event = seen) -> None:
            seen.set()

        stream = engine.stream(prompt, params, on_delta=heard)
        late = chooser.random() < 0.5
        if dropped and aborts:
            if late:
                seen.wait(0.05)
            stream.abort()
        pending.append((stream, obeys, dropped))
    for stream, obeys, dropped in pending:
        answer = stream.result(120)
        if answer.finish_reason == "stop":
            assert obeys(answer.text), answer.text
        assert (answer.finish_reason == "abort") <= (dropped and aborts)
        results.append(None if dropped else answer)
        if forks.random() < 0.3:
            params, obeys = wild_params(forks, len(results))
            if dropped:
                continue
            child = engine.extend(answer, " then", params=params).result(120)
            assert child.finish_reason != "stop" or obeys(child.text)
            results.append(child)
    return results


def fuzz(folder: Path, count: int, seed: int) -> int:
    with Engine(folder, mode="fp32", cache_tokens=65536, progress=False) as engine:
        calm = wild(engine, count, seed, aborts=False)
        engine.check()
    with Engine(folder, mode="fp32", cache_tokens=560, max_running=24, step_tokens=64, progress=False) as engine:
        stormy = wild(engine, count, seed, aborts=True)
        engine.check()
        stats = engine.stats()
        assert stats.scheduler.in_use_pages == 0
    for one, other in zip(calm, stormy, strict=True):
        if one is not None and other is not None:
            assert (one.text, one.token_ids, one.finish_reason) == (other.text, other.token_ids, other.finish_reason)
            assert one.logprobs == other.logprobs
    return stats.scheduler.retractions


def test_constrained_forked_retracted_and_aborted_together(tiny_model: Path, rash_admission: None) -> None:
    assert fuzz(tiny_model, 150, seed=1) > 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_constrained_forked_retracted_and_aborted_together_for_longer(
    tiny_model: Path, rash_admission: None, seed: int
) -> None:
    assert fuzz(tiny_model, 500, seed) > 3
