"""Cascade attention: what sequences share is read once, and changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ramify.kernels.ops import Step
from ramify.kernels.triton.cascade_plan import cascade_plan

from .attention_cases import SPEC, ragged, run

TREES = {  # contexts, pages shared with the first sequence
    "all alike": ([200, 210, 222, 205], [0, 8, 8, 8]),
    "three levels": ([300, 310, 290, 305, 320, 150], [0, 16, 16, 8, 8, 4]),
    "one is a prefix of another": ([128, 160, 200], [0, 8, 8]),
    "nothing shared": ([50, 60, 70], [0, 0, 0]),
    "too short to be worth it": ([50, 60], [0, 1]),
}


@pytest.mark.parametrize("name", TREES)
def test_a_shared_prefix_changes_nothing_but_the_bytes_read(name: str, device: torch.device) -> None:
    contexts, shared = TREES[name]
    step = ragged([1] * len(contexts), contexts, 16, shared)
    assert run(step, SPEC, 16, torch.float32, device) <= 1e-5


@pytest.mark.parametrize("window", [None, 40])
def test_branches_whose_chunks_share_a_prefix(window: int | None, device: torch.device) -> None:
    """Prefill reads the same pages for all of them; a branch of one token is decoding's."""
    step = ragged([3, 20, 1], [70, 90, 66], 16, [0, 4, 4])
    assert run(step, replace(SPEC, window=window), 16, torch.float32, device) <= 1e-5


def distinct_keys(step: Step, page_size: int) -> int:
    """The keys that a batch needs, each counted once however many read it."""
    found = set()
    for s, length in enumerate(step.context.tolist()):
        table = step.pages[step.page_start[s] :]
        found |= {(int(table[position // page_size]), position % page_size) for position in range(length)}
    return len(found)


def test_a_tree_reads_its_prefix_once() -> None:
    step = ragged([1] * 32, [2048 + 64 + 7 * i for i in range(32)], 16, [0] + [128] * 31)
    plan = cascade_plan(step, np.arange(32, dtype=np.int32), 16, workers=8)
    needed = distinct_keys(step, 16)
    assert needed < step.context.sum() / 9
    assert plan.keys_read <= 1.05 * needed


def test_a_deep_tree_reads_every_level_once() -> None:
    shared = [0, *([64] * 15), *([32] * 16)]  # two families under one root, the first one deeper
    step = ragged([1] * 32, [1024 + 100 + i for i in range(32)], 16, shared)
    plan = cascade_plan(step, np.arange(32, dtype=np.int32), 16, workers=8)
    assert plan.keys_read <= 1.05 * distinct_keys(step, 16)
