"""Norms, gates, rows, rotary positions and the write to the cache against their twins."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from ramify.kernels import twins
from ramify.kernels.ops import AttentionSpec
from ramify.kernels.torch_attention import rotate
from ramify.kernels.triton.rows import gated, rms_norm, take_rows
from ramify.kernels.triton.write_kv import write_kv

from .close import BOUND, assert_close, error

TYPES = [torch.float32, torch.bfloat16, torch.float16]
SIZES = [(0, 64), (1, 1), (3, 576), (5, 577), (2, 2048)]


def normal(*shape: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "width"), SIZES)
def test_rms_norm(rows: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
    x, weight = normal(rows, width, dtype=dtype, device=device), normal(width, dtype=torch.float32, device=device)
    assert_close(rms_norm(x, weight, 1e-5), twins.rms_norm(x, weight, 1e-5), dtype)
    residual = normal(rows, width, dtype=dtype, device=device, seed=1)
    expected_sum = residual.clone()
    expected = twins.rms_norm(x, weight, 1e-5, expected_sum)
    assert_close(rms_norm(x, weight, 1e-5, residual), expected, dtype)
    assert_close(residual, expected_sum, dtype)


def test_a_norm_without_its_epsilon_is_seen(device: torch.device) -> None:
    x, weight = normal(2, 64, dtype=torch.float32, device=device) * 1e-2, torch.ones(64, device=device)
    assert error(rms_norm(x, weight, 0.0), twins.rms_norm(x, weight, 1e-5)) > BOUND[torch.float32]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("gate", ["silu", "gelu_tanh"])
@pytest.mark.parametrize(("rows", "width"), SIZES)
def test_gated(
    rows: int, width: int, gate: Literal["silu", "gelu_tanh"], dtype: torch.dtype, device: torch.device
) -> None:
    x = normal(rows, 2 * width, dtype=dtype, device=device)
    assert_close(gated(x, gate), twins.gated(x, gate), dtype)


def test_the_other_gate_is_seen(device: torch.device) -> None:
    x = normal(2, 64, dtype=torch.float32, device=device)
    assert error(gated(x, "silu"), twins.gated(x, "gelu_tanh")) > BOUND[torch.float32]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scale", [1.0, 24.0, 0.3])
def test_take_rows(dtype: torch.dtype, scale: float, device: torch.device) -> None:
    table = normal(50, 1500, dtype=dtype, device=device)
    index = torch.tensor([3, 49, 0, 3], dtype=torch.int32, device=device)
    assert_close(take_rows(table, index, scale), twins.take_rows(table, index, scale), dtype)
    assert take_rows(table, index[:0], scale).shape == (0, 1500)
    assert error(take_rows(table, index.flip(0), scale), twins.take_rows(table, index, scale)) > BOUND[dtype]


SPEC = AttentionSpec(layer=0, heads=4, kv_heads=2, head_dim=24, scale=1.0, rope=0)


def written(spec: AttentionSpec, dtype: torch.dtype, device: torch.device, *, planted: bool = False) -> float:
    """The largest error of write_kv in queries, keys and values; a negative slot must leave no trace."""
    rows, d = 6, spec.head_dim
    qkv = normal(rows, (spec.heads + 2 * spec.kv_heads) * d, dtype=dtype, device=device)
    positions = torch.tensor([0, 1, 5, 9, 2, 3], dtype=torch.int32, device=device)
    slots = torch.tensor([3, 17, 8, -1, 30, 0], dtype=torch.int32, device=device)
    angles = normal(16, d // 2, dtype=torch.float32, device=device, seed=2)
    cos, sin = angles.cos(), angles.sin()
    keys = torch.full((2, 16, spec.kv_heads, d), 7.0, dtype=dtype, device=device)
    values = keys.clone()
    q = write_kv(qkv, positions + int(planted), slots, cos, sin, keys, values, spec)

    queries, k, v = qkv.view(rows, -1, d).split([spec.heads, spec.kv_heads, spec.kv_heads], dim=1)
    if spec.q_norm is not None:
        queries = twins.rms_norm(queries, spec.q_norm, spec.norm_eps)
    if spec.k_norm is not None:
        k = twins.rms_norm(k, spec.k_norm, spec.norm_eps)
    tables = (cos[positions.long()][:, None], sin[positions.long()][:, None])
    expected_keys, expected_values = torch.full_like(keys, 7.0), torch.full_like(values, 7.0)
    real = slots >= 0
    expected_keys.flatten(0, 1)[slots[real].long()] = rotate(k, *tables)[real]
    expected_values.flatten(0, 1)[slots[real].long()] = v[real]
    return max(error(q, rotate(queries, *tables)), error(keys, expected_keys), error(values, expected_values))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("head_dim", [24, 64, 256])
def test_write_kv(dtype: torch.dtype, normed: bool, head_dim: int, device: torch.device) -> None:
    spec = replace(SPEC, head_dim=head_dim)
    if normed:
        weight = normal(head_dim, dtype=torch.float32, device=device, seed=3)
        spec = replace(spec, q_norm=weight, k_norm=weight.flip(0))
    assert written(spec, dtype, device) <= BOUND[dtype]


def test_a_wrong_position_is_seen(device: torch.device) -> None:
    assert written(SPEC, torch.float32, device, planted=True) > BOUND[torch.float32]
