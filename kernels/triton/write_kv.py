"""Rotary positions and the write to the cache, in one pass over a step's packed projections.

Floor: reads q, k and v once, writes q once and k and v once to their pages; the tables of cos and sin stay in cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..ops import AttentionSpec


def write_kv(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    spec: AttentionSpec,
) -> torch.Tensor:
    """[T, (H + 2 Hkv) D] packed projections -> rotated queries [T, H, D]; rotated keys and the values go to `slots`.

    keys and values: one layer's [pages, page_size, Hkv, D], changed in place. cos and sin: [positions, D / 2] fp32, by
    halves. With spec.q_norm or k_norm ([D], fp32) each head is RMS-normalized before it is rotated. A negative slot
    writes nothing: that is how padded rows leave no trace.
    """
    rows, d = qkv.shape[0], spec.head_dim
    q = torch.empty((rows, spec.heads, d), dtype=qkv.dtype, device=qkv.device)
    if rows:
        _write_kv[(rows, spec.heads + 2 * spec.kv_heads)](
            qkv, positions, slots, cos, sin, q, keys, values,
            spec.q_norm if spec.q_norm is not None else cos, spec.k_norm if spec.k_norm is not None else cos,
            spec.norm_eps, keys.stride(1), keys.stride(2),
            H=spec.heads, HKV=spec.kv_heads, D=d, HALF=triton.next_power_of_2(d // 2),
            Q_NORM=spec.q_norm is not None, K_NORM=spec.k_norm is not None, num_warps=1,
        )  # fmt: skip
    return q


@triton.jit
def _write_kv(
    QKV, positions, slots, Cos, Sin, Q, K, V, q_norm, k_norm, eps, k_slot, k_head,
    H: tl.constexpr, HKV: tl.constexpr, D: tl.constexpr, HALF: tl.constexpr,
    Q_NORM: tl.constexpr, K_NORM: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    slot = tl.load(slots + row).to(tl.int64)
    i = tl.arange(0, HALF)
    inside = i < D // 2
    source = QKV + row * (H + 2 * HKV) * D + head * D
    first = tl.load(source + i, mask=inside, other=0.0)  # [D / 2]
    second = tl.load(source + D // 2 + i, mask=inside, other=0.0)
    if head >= H + HKV:  # a value: it goes as it is
        target = V + slot * k_slot + (head - H - HKV) * k_head
        tl.store(target + i, first.to(V.dtype.element_ty), mask=inside & (slot >= 0))
        tl.store(target + D // 2 + i, second.to(V.dtype.element_ty), mask=inside & (slot >= 0))
    else:
        a = first.to(tl.float32)
        b = second.to(tl.float32)
        if Q_NORM and head < H:
            a, b = _normalized(a, b, q_norm, i, inside, eps, D, QKV.dtype.element_ty)
        if K_NORM and head >= H:
            a, b = _normalized(a, b, k_norm, i, inside, eps, D, QKV.dtype.element_ty)
        position = tl.load(positions + row).to(tl.int64)
        cos = tl.load(Cos + position * (D // 2) + i, mask=inside, other=0.0)
        sin = tl.load(Sin + position * (D // 2) + i, mask=inside, other=0.0)
        left = (a * cos - b * sin).to(QKV.dtype.element_ty)
        right = (b * cos + a * sin).to(QKV.dtype.element_ty)
        if head < H:
            target = Q + (row * H + head) * D
            tl.store(target + i, left, mask=inside)
            tl.store(target + D // 2 + i, right, mask=inside)
        else:
            target = K + slot * k_slot + (head - H) * k_head
            tl.store(target + i, left.to(K.dtype.element_ty), mask=inside & (slot >= 0))
            tl.store(target + D // 2 + i, right.to(K.dtype.element_ty), mask=inside & (slot >= 0))


@triton.jit
def _normalized(a, b, weight, i, inside, eps, D: tl.constexpr, kept: tl.constexpr):
    """One head's RMS norm, in halves, rounded as a separate norm would leave it."""
    scale = 1.0 / tl.sqrt_rn((tl.sum(a * a, 0) + tl.sum(b * b, 0)) / D + eps)
    a = (a * scale * tl.load(weight + i, mask=inside, other=0.0)).to(kept).to(tl.float32)
    b = (b * scale * tl.load(weight + D // 2 + i, mask=inside, other=0.0)).to(kept).to(tl.float32)
    return a, b
