"""The plain torch twin: what it says it runs, its two attentions against the definition, and bf16 against fp32."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ramify.kernels import torch_compute
from ramify.kernels.ops import AttentionSpec, CacheShape, Step
from ramify.kernels.torch_attention import fused_attention, softmax_attention, visible
from ramify.kernels.torch_compute import TorchCompute

from .triton.tiny import Dense

SPEC = AttentionSpec(layer=0, heads=6, kv_heads=2, head_dim=8, scale=0.3, rope=0)


def by_definition(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, first: int, window: int | None, softcap: float | None
) -> torch.Tensor:
    """One query, one head, one key after the other, in double precision; q [n, H, D], k and v [C, Hkv, D]."""
    out = torch.zeros_like(q, dtype=torch.float64)
    for i in range(len(q)):
        position = first + i
        low = 0 if window is None else max(0, position - window + 1)
        for head in range(q.shape[1]):
            shared = head // (q.shape[1] // k.shape[1])
            scores = [float(q[i, head].double() @ k[j, shared].double()) * SPEC.scale for j in range(low, position + 1)]
            if softcap is not None:
                scores = [softcap * math.tanh(score / softcap) for score in scores]
            weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
            out[i, head] = weights @ v[low : position + 1, shared].double()
    return out


@pytest.mark.parametrize("window", [None, 1, 3, 7, 50])
@pytest.mark.parametrize(("first", "keys"), [(0, 9), (5, 9), (8, 9), (0, 1)])
def test_attention_is_the_definition(first: int, keys: int, window: int | None) -> None:
    torch.manual_seed(first + keys)
    q, k, v = torch.randn(keys - first, 6, 8), torch.randn(keys, 2, 8), torch.randn(keys, 2, 8)
    low = 0 if window is None else max(0, first - window + 1)
    mask = visible(first - low, keys - low, window, q.device)
    expected = by_definition(q, k, v, first, window, None)
    for attend in (fused_attention, softmax_attention):
        torch.testing.assert_close(attend(q, k[low:], v[low:], mask, SPEC).double(), expected, rtol=1e-5, atol=1e-6)


def test_softcap_is_the_definition() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(4, 6, 8) * 5, torch.randn(9, 2, 8), torch.randn(9, 2, 8)
    got = softmax_attention(q, k, v, visible(5, 9, 3, q.device), replace(SPEC, softcap=2.0))
    torch.testing.assert_close(got.double(), by_definition(q, k, v, 5, 3, 2.0), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(got.double(), by_definition(q, k, v, 5, 3, None), rtol=1e-2)


@pytest.mark.parametrize("asked", ["int8", "int4"])
@pytest.mark.parametrize(("fast", "runs"), [(True, "bf16"), (False, "fp32")])
def test_summary_tells_what_runs(monkeypatch: pytest.MonkeyPatch, asked: str, fast: bool, runs: str) -> None:
    monkeypatch.setattr(torch_compute, "bf16_is_fast", lambda device: fast)
    compute = TorchCompute(asked)  # type: ignore[arg-type]
    assert compute.mode == runs
    assert f"{runs} on cpu" in compute.summary and f"{asked} was asked for" in compute.summary
    assert "asked for" not in TorchCompute("bf16").summary
    assert TorchCompute("bf16").mode == "bf16"  # asked for by name, it runs, fast or not


def test_bf16_is_near_fp32_and_not_the_same() -> None:
    torch.manual_seed(0)
    table, weight, bias = torch.randn(10, 32), torch.randn(16, 32), torch.randn(16)
    step = Step(
        tokens=np.array([3, 1, 4], dtype=np.int32),
        positions=np.arange(3, dtype=np.int32),
        query_start=np.array([0, 3], dtype=np.int32),
        context=np.array([3], dtype=np.int32),
        pages=np.array([0], dtype=np.int32),
        page_start=np.array([0, 1], dtype=np.int32),
        logit_rows=np.array([0, 2], dtype=np.int32),
    )

    def run(mode: torch_compute.Mode) -> torch.Tensor:
        compute = TorchCompute(mode)
        embedding = compute.ops.embedding(Dense(table))
        linear = compute.ops.linear([Dense(weight[:5]), Dense(weight[5:])], [bias[:5], bias[5:]], name="head")
        compute.allocate(CacheShape(layers=1, kv_heads=1, head_dim=2, page_size=4, pages=1))
        assert compute.bytes_per_page(CacheShape(1, 1, 2, 4, 1)) == 2 * 4 * 2 * (4 if mode == "fp32" else 2)
        return compute.compile(lambda ops: ops.matmul(ops.select(ops.embed(embedding, 0.5)), linear))(step)

    exact = run("fp32")
    torch.testing.assert_close(exact, table[[3, 4]] * 0.5 @ weight.T + bias)
    near = run("bf16")
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    assert (near - exact).norm() / exact.norm() < 0.01
