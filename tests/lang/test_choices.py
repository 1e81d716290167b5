"""The three ways to choose are exact, ties go to the first, and what is odd among options is handled or refused."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ramify.errors import InvalidRequest
from ramify.lang.backends.base import OptionScore
from ramify.lang.choices import (
    METHODS,
    checked_options,
    decide,
    greedy_token_selection,
    score_call,
    token_length_normalized,
    unconditional_likelihood_normalized,
)

ROWS = st.lists(
    st.lists(st.floats(-30, 0, width=32), min_size=1, max_size=5),
    min_size=1,
    max_size=6,
)


def row(*logprobs: float, alone: tuple[float, ...] = (), ids: tuple[int, ...] | None = None) -> OptionScore:
    return OptionScore(ids if ids is not None else tuple(range(len(logprobs))), logprobs, alone)


def distinct(rows: list[list[float]]) -> list[OptionScore]:
    """Options that share no token."""
    return [
        OptionScore(tuple(100 * at + place for place in range(len(one))), tuple(one)) for at, one in enumerate(rows)
    ]


def names(count: int) -> list[str]:
    return [f"option {number}" for number in range(count)]


@given(ROWS)
def test_token_length_normalized_is_the_largest_mean(rows: list[list[float]]) -> None:
    decision = decide(names(len(rows)), token_length_normalized, distinct(rows))
    means = [math.fsum(one) / len(one) for one in rows]
    assert decision.index == means.index(max(means))
    assert decision.meta["normalized_prompt_logprobs"] == pytest.approx(means)


@given(ROWS)
def test_greedy_is_what_sglang_computes(rows: list[list[float]]) -> None:
    """Its own steps, with numpy: rows padded with their mean, then column by column the maximum stays."""
    longest = max(map(len, rows))
    matrix = np.array([one + [math.fsum(one) / len(one)] * (longest - len(one)) for one in rows])
    remaining = np.arange(len(rows))
    for column in range(longest):
        remaining = remaining[matrix[remaining, column] == matrix[remaining, column].max()]
    decision = decide(names(len(rows)), greedy_token_selection, distinct(rows))
    assert decision.index == remaining[0]
    assert np.array(decision.meta["greedy_logprob_matrix"]) == pytest.approx(matrix)


@given(ROWS, st.data())
def test_unconditional_is_the_largest_mean_difference(rows: list[list[float]], data: st.DataObject) -> None:
    scores = []
    for score in distinct(rows):
        alone = data.draw(
            st.lists(st.floats(-30, 0, width=32), min_size=len(score.logprobs), max_size=len(score.logprobs))
        )
        scores.append(OptionScore(score.token_ids, score.logprobs, tuple(alone)))
    decision = decide(names(len(rows)), unconditional_likelihood_normalized, scores)
    means = [float(np.mean(np.subtract(score.logprobs, score.alone))) for score in scores]
    assert means[decision.index] == pytest.approx(max(means), abs=1e-9)
    assert decision.meta["normalized_unconditional_prompt_logprobs"] == pytest.approx(means, abs=1e-9)
    assert len(decision.meta["unconditional_token_logprobs"]) == len(rows)


def test_the_methods_differ() -> None:
    """One table on which each method chooses another option."""
    scores = [
        row(-1.0, -9.0, -0.1, alone=(-1.0, -9.0, -0.1), ids=(1, 2, 3)),  # begins best
        row(-2.0, -2.0, alone=(-1.0, -1.0), ids=(4, 5)),  # best on average
        row(-3.0, -4.0, alone=(-9.0, -9.0), ids=(6, 7)),  # gained most from the text
    ]
    options = ["a", "b", "c"]
    assert decide(options, greedy_token_selection, scores).text == "a"
    assert decide(options, token_length_normalized, scores).text == "b"
    assert decide(options, unconditional_likelihood_normalized, scores).text == "c"


def test_ties_go_to_the_first() -> None:
    for method in METHODS.values():
        assert decide(["a", "b"], method, [row(-1.0, alone=(-1.0,)), row(-1.0, alone=(-1.0,))]).text == "a"


def test_options_that_begin_with_each_other() -> None:
    """ " New" and " New York" share a token; what a rounding made of it for one must not decide between them."""
    new, york, jersey = row(-1.0, ids=(1,)), row(-1.0000001, -0.1, ids=(1, 2)), row(-0.9999999, -5.0, ids=(1, 3))
    options = [" New", " New York", " New Jersey"]
    assert decide(options, greedy_token_selection, [new, york, jersey]).text == " New York"
    swapped = decide(options[::-1], greedy_token_selection, [jersey, york, new])
    assert swapped.text == " New York"
    assert decide(options, token_length_normalized, [new, york, jersey]).text == " New York"


def test_equal_options_are_scored_once_and_reported_each() -> None:
    options = ["x", "y", "x"]
    call = score_call(options, token_length_normalized, priority=-3)
    assert call.options == ("x", "y") and not call.alone and call.priority == -3
    decision = decide(options, token_length_normalized, [row(-1.0), row(-2.0)])
    assert (decision.text, decision.index) == ("x", 0)
    assert decision.meta["normalized_prompt_logprobs"] == [-1.0, -2.0, -1.0]
    assert decision.meta["input_token_logprobs"] == [[[-1.0, 0, None]], [[-2.0, 0, None]], [[-1.0, 0, None]]]
    assert score_call(options, unconditional_likelihood_normalized).alone


@pytest.mark.parametrize(
    ("options", "said"),
    [([], "at least one"), ("yes", "list"), (None, "list"), (["a", 3], r"choices\[1\]"), (["a", ""], r"choices\[1\]")],
)
def test_options_that_cannot_be(options: object, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        checked_options(options)


def test_too_many_options() -> None:
    assert len(checked_options(["x"] * 10_000)) == 10_000
    with pytest.raises(InvalidRequest, match="100,000"):
        checked_options(["x"] * 100_001)


def test_impossible_options_lose_and_break_nothing() -> None:
    never = -math.inf
    scores = [row(never, -1.0, alone=(never, -1.0)), row(-20.0, alone=(-1.0,), ids=(9,))]
    for method in METHODS.values():
        assert decide(["a", "b"], method, scores).text == "b"
    assert decide(["a"], token_length_normalized, [row(never)]).text == "a"


def test_scores_that_are_missing() -> None:
    with pytest.raises(InvalidRequest, match="1 scores came back for 2"):
        decide(["a", "b"], token_length_normalized, [row(-1.0)])
    with pytest.raises(InvalidRequest):
        decide(["a"], token_length_normalized, [OptionScore((), ())])
    with pytest.raises(InvalidRequest, match="without the text before"):
        decide(["a"], unconditional_likelihood_normalized, [row(-1.0)])


def test_a_temperature_draws() -> None:
    scores = [row(math.log(0.6), ids=(1,)), row(math.log(0.3), ids=(2,)), row(math.log(0.1), ids=(3,))]
    drawn = Counter(
        decide(["a", "b", "c"], token_length_normalized, scores, temperature=1.0, seed=seed).text
        for seed in range(2000)
    )
    assert drawn["a"] / 2000 == pytest.approx(0.6, abs=0.05) and drawn["c"] / 2000 == pytest.approx(0.1, abs=0.03)
    cold = {decide(["a", "b"], token_length_normalized, scores[:2], temperature=0.01, seed=s).text for s in range(50)}
    assert cold == {"a"}
    with pytest.raises(InvalidRequest, match="cannot sample"):
        decide(["a", "b", "c"], greedy_token_selection, scores, temperature=1.0)
