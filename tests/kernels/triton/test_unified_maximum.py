"""The unified maximum: the same results, also where the guess was wrong; wrong ones without the second computation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl
from ramify.kernels.ops import AttentionSpec
from ramify.kernels.triton import decode_attention as decoding

from .attention_cases import SPEC, Case, ragged
from .close import BOUND

TYPES = [torch.float32, torch.bfloat16, torch.float16]
ONE = replace(SPEC, heads=2, kv_heads=1)


def case(dtype: torch.dtype, device: torch.device, spec: AttentionSpec = ONE, fp8: bool = False) -> Case:
    """Decoding sequences, two of which share a prefix."""
    return Case.of(ragged([1, 1, 1], [100, 110, 35], 16, [0, 4, 0]), spec, 16, dtype, device, fp8)


def overflow(case: Case) -> Case:
    """Scores of several hundred, of either sign, in units of log 2."""
    case.q.mul_(400)
    return case


def slight_overflow(case: Case) -> Case:
    """Scores of some tens: too many for weights in fp16 only."""
    case.q.mul_(12)
    return case


def underflow(case: Case) -> Case:
    """All scores far below zero: every weight would vanish."""
    case.q[...] = 4.0
    seen = case.keys.isfinite()
    case.keys[seen] = -case.keys[seen].abs() * 8
    return case


@pytest.mark.parametrize("dtype", TYPES)
def test_it_is_the_online_softmax(dtype: torch.dtype, device: torch.device) -> None:
    assert case(dtype, device).error(unified=1) <= BOUND[dtype]


def test_with_caps_and_fp8(device: torch.device) -> None:
    assert case(torch.bfloat16, device, replace(ONE, softcap=20.0), fp8=True).error(unified=1) <= BOUND[torch.bfloat16]


@pytest.mark.parametrize("wrong", [overflow, slight_overflow, underflow])
@pytest.mark.parametrize("dtype", TYPES)
def test_rows_that_stray_are_computed_again(
    wrong: Callable[[Case], Case], dtype: torch.dtype, device: torch.device
) -> None:
    strayed = wrong(case(dtype, device))
    assert strayed.error(unified=1) <= 10 * BOUND[dtype]


@triton.jit
def _never(highest, kept: tl.constexpr):  # type: ignore[no-untyped-def] - Triton's own types
    return tl.full(highest.shape, 0, tl.int1)


@pytest.mark.skipif(
    "torch.cuda.is_available()", reason="a compiled kernel keeps the function that it was compiled with"
)
@pytest.mark.parametrize("wrong", [overflow, slight_overflow, underflow])
def test_without_the_second_computation_they_are_wrong(
    wrong: Callable[[Case], Case], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "outside", _never)
    strayed = wrong(case(torch.float16, device))
    assert not strayed.error(unified=1) <= 10 * BOUND[torch.float16]
    assert strayed.error(unified=0) <= 10 * BOUND[torch.float16]
    assert case(torch.float16, device).error(unified=1) <= BOUND[torch.float16]  # nothing strays: nothing is wrong
