"""What the tests of backends share: a tiny engine, and a way to wait for calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ramify

from ...runtime.conftest import tiny_model as tiny_model


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Iterator[ramify.Engine]:
    """An engine on it, in fp32."""
    with ramify.Engine(tiny_model, mode="fp32", cache_tokens=16384, threads=1, progress=False) as engine:
        yield engine
        engine.check()
        assert engine.stats().scheduler.in_use_pages == 0


@pytest.fixture
def wait() -> Callable[..., Any]:
    """Starts a call with a callback, waits for its outcome, and raises its error."""
    return waited


def waited(start: Callable[[Callable[[Any], None]], Any], *, error: bool = False) -> Any:
    ended = threading.Event()
    outcomes: list[Any] = []

    def done(outcome: Any) -> None:
        outcomes.append(outcome)
        ended.set()

    start(done)
    assert ended.wait(60), "the callback was not called"
    (outcome,) = outcomes
    if error:
        assert outcome.error is not None, f"there should be an error, but: {outcome}"
        return outcome.error
    if outcome.error is not None:
        raise outcome.error
    return outcome
