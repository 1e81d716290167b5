"""The split of decoding over workers: everything once, in even shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ramify.kernels.triton.plan import SplitPlan, split_plan

RNG = np.random.default_rng(5)
BATCHES = {
    "constant": np.full(32, 8192),
    "one of 64k": np.array([65536]),
    "Zipf": np.minimum(65536, 64 * RNG.zipf(1.3, 64)),
    "one long among short": np.array([65536] + [256] * 63),
    "many": np.full(500, 1000),
}


def covered(plan: SplitPlan, first: list[int], context: list[int]) -> bool:
    """Whether the pieces of each sequence, in the order of its rows, are its keys, each once."""
    for s, (low, high) in enumerate(zip(first, context, strict=True)):
        at = low
        for p in range(plan.merge_start[s], plan.merge_start[s + 1]):
            if plan.sequence[p] != s or plan.key_start[p] != at or plan.key_stop[p] <= at:
                return False
            at = plan.key_stop[p]
        if at != high:
            return False
    dealt = plan.worker_start[0] == 0 and plan.worker_start[-1] == len(plan.sequence)
    return bool(dealt and (np.diff(plan.worker_start) >= 0).all())


@pytest.mark.parametrize("workers", [1, 16, 132, 264])
@pytest.mark.parametrize("name", BATCHES)
def test_no_worker_does_much_more_than_an_even_share(name: str, workers: int) -> None:
    context = BATCHES[name].astype(np.int32)
    plan = split_plan(np.zeros(len(context), np.int32), context, workers)
    assert covered(plan, [0] * len(context), context.tolist())
    assert plan.makespan <= 1.15 * context.sum() / workers


def test_without_splitting_the_bar_is_missed() -> None:
    whole = split_plan(np.zeros(64, np.int32), BATCHES["one long among short"].astype(np.int32), 132, granule=65536)
    assert whole.makespan > 1.15 * BATCHES["one long among short"].sum() / 132


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 700)), max_size=20),
    st.integers(1, 40),
    st.sampled_from([1, 16, 64]),
)
def test_every_key_is_read_once(spans: list[tuple[int, int]], workers: int, granule: int) -> None:
    first = [low for low, _ in spans]
    context = [low + length for low, length in spans]
    plan = split_plan(np.array(first, np.int32), np.array(context, np.int32), workers, granule)
    assert covered(plan, first, context)
    shifted = SplitPlan(plan.worker_start, plan.sequence, plan.key_start + 1, plan.key_stop, plan.merge_start)
    assert not spans or not covered(shifted, first, context)
