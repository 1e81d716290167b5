"""Sampling parameters: good values are kept, and every bad one is refused by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ramify.errors import InvalidRequest, RamifyError
from ramify.runtime.sampling.params import SamplingParams

COUNTS = ("max_tokens", "min_tokens", "top_k", "seed", "n", "logprobs", "prompt_logprobs", "prompt_logprobs_start")
NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
FLAGS = ("include_stop", "ignore_eos", "skip_special_tokens")
NONSENSE = (math.nan, math.inf, -math.inf, True, "1", b"1", [], {}, object(), 1j, 10**400, 2**63, -(2**63) - 1)

BAD: list[tuple[str, Any]] = [
    *((name, value) for name in COUNTS for value in (*NONSENSE, 1.0, 0.5)),
    *((name, value) for name in NUMBERS for value in (*NONSENSE, None, 10**9, -3)),
    *((name, value) for name in FLAGS for value in (None, 0, 1, "true")),
    *((name, -2) for name in COUNTS if name != "seed"),
    ("min_tokens", None),
    ("n", 0),
    ("n", 129),
    ("n", 10**9),
    ("top_p", 0.0),
    ("repetition_penalty", 0.0),
    ("logprobs", 65),
    ("prompt_logprobs", 10**9),
    *(("priority", value) for value in (None, 1.5, True, 2**31, math.nan)),
    *(("cache_salt", value) for value in (1, "", "x" * 257, b"salt", "\ud800")),
    *(("stop", value) for value in (None, 1, "", [""], ["a"] * 65, "x" * 1001, ["a", 1], b"a", {"a": 1}, "\udcff")),
    *(("stop_token_ids", value) for value in (None, 1, "12", [-1], [True], [1.0], [2**31], [0] * 1025, {1: 2}, [[1]])),
    *(("logit_bias", value) for value in (None, 1, [(1, 2.0)], {-1: 1.0}, {1: math.nan}, {1: math.inf}, {1: 100.5})),
    *(("logit_bias", value) for value in ({1: True}, {True: 1.0}, {1.5: 1.0}, {"x": 1}, {"-1": 1}, {"²": 1})),
    ("logit_bias", {2**63: 1}),
    ("logit_bias", dict.fromkeys(range(4097), 1.0)),
    *(("stop_regex", value) for value in (1, "", "x" * 1001, "(", "a{999999999}", "a*", "(?=a)b", r"(a)\1", "^a")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: repr(value)[:30])
def test_bad_values_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SamplingParams(**{name: value})
    message = str(caught.value)
    assert name in message
    assert len(message) < 300, "an error does not repeat a megabyte of input"
    assert isinstance(caught.value, ValueError)


GOOD: list[tuple[str, Any, Any]] = [
    ("max_tokens", 0, 0),
    ("max_tokens", np.int64(5), 5),
    ("temperature", 0, 0.0),
    ("temperature", np.float32(0.5), 0.5),
    ("top_k", 0, 0),
    ("seed", -1, -1),
    ("seed", 2**63 - 1, 2**63 - 1),
    ("stop", "a", ("a",)),
    ("stop", ["b", "a", "b"], ("b", "a")),
    ("stop_token_ids", [3, 1, 3], (3, 1)),
    ("stop_token_ids", {7}, (7,)),
    ("logit_bias", {"5": -100, 6: -math.inf}, {5: -100.0, 6: -math.inf}),
    ("stop_regex", r"\n\d+", r"\n\d+"),
    ("logprobs", 64, 64),
]


@pytest.mark.parametrize(("name", "value", "kept"), GOOD, ids=lambda value: repr(value)[:30])
def test_good_values_are_kept(name: str, value: Any, kept: Any) -> None:
    result = getattr(SamplingParams(**{name: value}), name)
    assert result == kept
    assert type(result) is type(kept)


def test_the_caller_keeps_what_it_gave() -> None:
    bias = {1: 2.0}
    params = SamplingParams(logit_bias=bias)
    bias[1] = math.nan
    assert params.logit_bias == {1: 2.0}


def test_min_tokens_within_max_tokens() -> None:
    assert SamplingParams(max_tokens=3, min_tokens=3).min_tokens == 3
    with pytest.raises(InvalidRequest, match=r"min_tokens=4.*max_tokens=3"):
        SamplingParams(max_tokens=3, min_tokens=4)


def test_greedy() -> None:
    assert SamplingParams(temperature=0).greedy
    assert SamplingParams(temperature=1e-300).greedy
    assert not SamplingParams(temperature=0.01).greedy


def test_replace_checks_again() -> None:
    params = SamplingParams(temperature=0.5, stop=["a"])
    assert params.replace(top_p=0.9) == SamplingParams(temperature=0.5, stop="a", top_p=0.9)
    with pytest.raises(InvalidRequest, match="top_p"):
        params.replace(top_p=2)
    with pytest.raises(InvalidRequest, match="tempersture"):
        params.replace(tempersture=2)


def test_hashable() -> None:
    assert len({SamplingParams(), SamplingParams(), SamplingParams(n=2), SamplingParams(logit_bias={1: 2})}) == 3


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first draw of a text loads tables
@given(st.dictionaries(st.sampled_from(SamplingParams.__slots__), JUNK, max_size=3))
def test_nothing_else_is_ever_raised(values: dict[str, Any]) -> None:
    try:
        params = SamplingParams(**values)
    except RamifyError as error:
        assert isinstance(error, InvalidRequest)
    else:
        assert params.replace() == params
