"""Truncation and drawing: the kept sets against a naive sort, the frequencies by chi-square, the noise by its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ramify.runtime.sampling.truncation import best_first, draw, truncate, uniform

DRAWS = 20_000


def reference(row: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float) -> dict[int, float]:
    """Token to probability, by sorting everything in double precision."""
    order = sorted((int(i) for i in np.flatnonzero(row > -np.inf)), key=lambda i: (-row[i], i))
    if 0 < top_k < len(row):
        order = order[:top_k]
    weight = np.exp((row[order].astype(np.float64) - row.max()) / temperature)
    if top_p < 1.0:
        total, reached = weight.sum(), 0.0
        for count, one in enumerate(weight, 1):
            reached += one
            if reached >= top_p * total:
                order, weight = order[:count], weight[:count]
                break
    kept = weight >= min_p * weight[0]
    weight = weight[kept] / weight[kept].sum()
    return {i: float(p) for i, p in zip(np.array(order)[kept], weight, strict=True)}


def agrees(row: np.ndarray, kept: set[int], temperature: float, top_k: int, top_p: float, min_p: float) -> bool:
    """Equal to the naive set, where a limit that rounding may move either way counts both ways."""
    tight = reference(row, temperature, top_k, top_p * (1 - 1e-5) if top_p < 1 else top_p, min_p * (1 + 1e-5))
    loose = reference(row, temperature, top_k, top_p * (1 + 1e-5) if top_p < 1 else top_p, min_p * (1 - 1e-5))
    needed = {token for token, probability in tight.items() if probability > 1e-30}  # less may be rounded to nothing
    return needed <= kept <= loose.keys()


def kept_set(row: np.ndarray, options: tuple[float, int, float, float]) -> set[int]:
    ids, weight = truncate(row, int(row.argmax()), *options)
    return set((np.flatnonzero(weight) if ids is None else ids).tolist())


@st.composite
def rows(drawn: Any) -> np.ndarray:
    """Peaked, flat and tied rows, with excluded tokens, small and large."""
    generator = np.random.default_rng(drawn(st.integers(0, 2**32)))
    row = generator.normal(size=drawn(st.sampled_from([1, 2, 5, 40, 300, 3000]))) * drawn(
        st.sampled_from([0.01, 1, 5, 40])
    )
    if drawn(st.booleans()):
        row = np.round(row)  # many ties
    if drawn(st.booleans()):
        row[generator.random(len(row)) < 0.5] = -np.inf
        row[generator.integers(len(row))] = 1.0
    return row.astype(np.float32)


@settings(max_examples=400, deadline=None)
@given(
    row=rows(),
    temperature=st.sampled_from([1e-5, 0.1, 0.7, 1.0, 3.0, 100.0]),
    top_k=st.sampled_from([-1, 0, 1, 2, 7, 50, 2000, 10**6]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 1e-9]) | st.floats(0.01, 1.0),
    min_p=st.sampled_from([0.0, 1e-4, 0.05, 0.5, 1.0]) | st.floats(0.0, 1.0),
)
def test_kept_sets(row: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    ids, weight = truncate(row, int(row.argmax()), temperature, top_k, top_p, min_p)
    if ids is None:
        ids = np.flatnonzero(weight)
        weight = weight[ids]
    assert (np.diff(ids) > 0).all()
    assert agrees(row, set(ids.tolist()), temperature, top_k, top_p, min_p)
    np.testing.assert_allclose(
        weight, np.exp((row[ids].astype(np.float64) - row.max()) / temperature), rtol=1e-4, atol=1e-37
    )


@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("digits", [1, 2, 6])  # of the logits: many ties, some, none
def test_top_p_of_many_light_tokens(top_p: float, digits: int) -> None:
    """The limit falls among tokens that are binned, with several in its bin; far below the best, and near it."""
    row = np.random.default_rng(0).normal(size=5000).round(digits).astype(np.float32)
    for peak in (row.max(), row.max() + 12):
        row[77] = peak
        for temperature in (0.5, 1.0, 5.0):
            assert agrees(row, kept_set(row, (temperature, -1, top_p, 0.0)), temperature, -1, top_p, 0.0)


def test_the_comparison_notices_one_token_more_or_less() -> None:
    row = np.random.default_rng(0).normal(size=100).astype(np.float32) * 3
    options = (1.0, 20, 0.9, 0.01)
    kept = kept_set(row, options)
    assert agrees(row, kept, *options)
    assert not agrees(row, kept - {min(kept, key=lambda i: row[i])}, *options)
    assert not agrees(row, kept | {int(row.argmin())}, *options)


@pytest.mark.parametrize("count", [1, 3, 64, 500])
def test_best_first(count: int) -> None:
    row = np.round(np.random.default_rng(1).normal(size=400) * 3).astype(np.float32)
    row[7] = -np.inf
    order = sorted(set(range(400)) - {7}, key=lambda i: (-row[i], i))
    assert best_first(row, count).tolist() == order[:count]


def chi_square(observed: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """The statistic, and the limit that a right sampler exceeds once in 30,000 (Wilson and Hilferty's formula)."""
    seen = expected >= 5
    degrees = max(1, int(seen.sum()) - 1)
    statistic = float(((observed[seen] - expected[seen]) ** 2 / expected[seen]).sum())
    spread = 2 / (9 * degrees)
    return statistic, degrees * (1 - spread + 4 * math.sqrt(spread)) ** 3


def frequencies(row: np.ndarray, drawn: Callable[[int], float], options: tuple[float, int, float, float]) -> np.ndarray:
    best = int(row.argmax())
    tokens = [draw(row, best, drawn(i), *options) for i in range(DRAWS)]
    return np.bincount(tokens, minlength=len(row))


OPTIONS = {
    "plain": (1.0, -1, 1.0, 0.0),
    "hot": (2.0, -1, 1.0, 0.0),
    "cold": (0.5, -1, 1.0, 0.0),
    "top_k": (1.0, 5, 1.0, 0.0),
    "top_p": (1.0, -1, 0.8, 0.0),
    "min_p": (1.0, -1, 1.0, 0.1),
    "all": (0.8, 20, 0.9, 0.02),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("size", [12, 700])  # one block, and several
def test_frequencies(options: tuple[float, int, float, float], size: int) -> None:
    row = (np.random.default_rng(size).normal(size=size) * 2).astype(np.float32)
    row[3] = -np.inf
    expected = np.zeros(size)
    for token, probability in reference(row, *options).items():
        expected[token] = probability * DRAWS
    observed = frequencies(row, lambda position: uniform(11, position), options)
    assert observed[expected == 0].sum() == 0
    statistic, limit = chi_square(observed, expected)
    assert statistic < limit


def test_chi_square_notices_a_temperature_ten_percent_off() -> None:
    row = (np.random.default_rng(12).normal(size=12) * 2).astype(np.float32)
    expected = np.array([reference(row, 1.0, -1, 1.0, 0.0)[token] for token in range(12)]) * DRAWS
    observed = frequencies(row, lambda position: uniform(11, position), (1.1, -1, 1.0, 0.0))
    statistic, limit = chi_square(observed, expected)
    assert statistic > limit


STREAMS: dict[str, Callable[[int], float]] = {
    "positions of one seed": lambda i: uniform(0, i),
    "neighbouring seeds": lambda i: uniform(i, 0),
    "negative seeds": lambda i: uniform(-i, 5),
    "seeds and positions together": lambda i: uniform(i, i),
    "samples of one request": lambda i: uniform(7 + i * 0x9E3779B97F4A7C15, 0),
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_noise_is_uniform_and_does_not_repeat(stream: Callable[[int], float]) -> None:
    values = np.array([stream(i) for i in range(DRAWS)])
    assert ((values >= 0) & (values < 1)).all()
    assert len(set(values.tolist())) == DRAWS
    for observed in (values, (values * 1024) % 1, (values[1:] - values[:-1]) % 1):  # high bits, low bits, neighbours
        statistic, limit = chi_square(np.histogram(observed, 64, (0, 1))[0], np.full(64, len(observed) / 64))
        assert statistic < limit


@pytest.mark.parametrize("noise", [0.0, 0.5, 1 - 2**-53])
def test_the_ends_of_the_noise(noise: float) -> None:
    row = np.full(1000, -np.inf, np.float32)
    row[[300, 600]] = 2.0
    for options in OPTIONS.values():
        assert draw(row, 300, noise, *options) in (300, 600)


def test_last_bits_do_not_swap_tokens() -> None:
    """Two near-equal tokens that trade places in the order of probability leave the draws as they were."""
    row = (-0.3 * np.random.default_rng(0).permutation(500)).astype(np.float32)
    first, second = np.argsort(-row)[:2]
    row[first] = row[second]
    other = row.copy()
    row[first] += 1e-6
    other[second] += 1e-6
    assert row.argmax() == first
    assert other.argmax() == second
    for options in OPTIONS.values():
        noises = [uniform(1, position) for position in range(1000)]
        before = [draw(row, int(first), noise, *options) for noise in noises]
        after = [draw(other, int(second), noise, *options) for noise in noises]
        assert before == after
