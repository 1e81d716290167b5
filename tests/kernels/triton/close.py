"""How near a kernel must come to its twin, by the type that it works in."""

from __future__ import annotations

import torch

BOUND = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of the largest value; bf16 has 8 bits


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference by the largest value; infinite when a poisoned element was left, or a NaN made."""
    if found.shape != expected.shape or not torch.equal(found.isnan(), expected.isnan()):
        return float("inf")
    same = found == expected  # infinities too
    difference = torch.where(same, 0.0, (found.double() - expected.double()).abs())
    return float(difference.max() / expected.double().abs().nan_to_num(0, 0, 0).max().clamp_min(1e-3))


def assert_close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    if found.numel():
        assert error(found, expected) <= BOUND[dtype]
