"""Results: a generation reads as its text, shows itself safely, and its numbers add up."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from ramify.runtime.results import Delta, Distribution, Generation, Timings, Usage


def test_a_generation_is_its_text() -> None:
    generation = Generation("a <b> & c", (1, 2), "stop", usage=Usage(5, 3, 2), timings=Timings(total_s=1.5))
    assert str(generation) == f"{generation}" == "a <b> & c"
    shown = generation._repr_html_()
    assert "a &lt;b&gt; &amp; c" in shown
    assert "<b>" not in shown
    assert "5 prompt (3 cached) + 2 tokens, 1.50 s, finished by stop" in shown
    assert str(Delta("x")) == "x"


def test_equal_answers_are_equal_however_long_they_took() -> None:
    one = Generation("a", (1,), "length", timings=Timings(total_s=1.0))
    other = Generation("a", (1,), "length", timings=Timings(total_s=2.0))
    assert one == other
    assert one != dataclasses.replace(other, token_ids=(2,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.text = "b"  # type: ignore[misc]


def test_usage_adds_up() -> None:
    assert Usage(5, 3, 2, 1, 4) + Usage(10, 20, 30, 40, 50) == Usage(15, 23, 32, 41, 54)
    assert Usage(5, 3, 2).total_tokens == 7


QUARTER = pytest.approx(math.log(0.25))


def test_distribution() -> None:
    probabilities = np.array([0.25, 0.5, 0.25, 0.0], np.float32)
    with np.errstate(divide="ignore"):
        distribution = Distribution(np.log(probabilities))
    assert distribution.top(3) == ((1, pytest.approx(math.log(0.5))), (0, QUARTER), (2, QUARTER))
    assert distribution.logprob(3) == -math.inf
    assert distribution.entropy == pytest.approx(1.5 * math.log(2), rel=1e-6)
