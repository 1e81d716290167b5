"""Rotary positions and the write to the cache, in one pass over a step's packed projections.

Floor: for each row (H + 2 Hkv) D numbers read, H D written, and 2 Hkv D written in the cache's type; the tables of cos
and sin (4 D bytes a row) stay in the chip's cache. Operations: 3 D (H + Hkv) a row, nothing beside the bytes.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from ..ops import AttentionSpec
from ..torch_attention import FP8
from .fp8_cache import PLAIN, cache_bits, cache_kind, rounded_to_bits

HEADS_AT_ONCE = 8  # of one program, at most; it never has both queries and keys


def write_kv(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    spec: AttentionSpec,
    scales: torch.Tensor | None = None,
) -> torch.Tensor:
    """[T, (H + 2 Hkv) D] packed projections -> rotated queries [T, H, D]; rotated keys and the values go to `slots`.

    keys and values: one layer's [pages, page_size, Hkv, D], changed in place. cos and sin: [positions, D / 2] fp32, by
    halves. With spec.q_norm or k_norm ([D], fp32) each head is RMS-normalized before it is rotated. A negative slot
    writes nothing: that is how padded rows leave no trace. An fp8 cache gets what is to be stored divided by `scales`
    [2, Hkv] (keys', values'), saturated.
    """
    assert scales is not None or keys.dtype != FP8, "an fp8 cache has scales"
    rows, d = qkv.shape[0], spec.head_dim
    q = torch.empty((rows, spec.heads, d), dtype=qkv.dtype, device=qkv.device)
    together = math.gcd(spec.heads, spec.kv_heads, HEADS_AT_ONCE)
    half = triton.next_power_of_2(d // 2)
    if rows:
        _write_kv[(rows, (spec.heads + 2 * spec.kv_heads) // together)](
            qkv, positions, slots, cos, sin, q, cache_bits(keys), cache_bits(values),
            spec.q_norm if spec.q_norm is not None else cos, spec.k_norm if spec.k_norm is not None else cos,
            cos if scales is None else scales, spec.norm_eps, keys.stride(1), keys.stride(2),
            H=spec.heads, HKV=spec.kv_heads, D=d, HALF=half, TOGETHER=together,
            Q_NORM=spec.q_norm is not None, K_NORM=spec.k_norm is not None, KIND=cache_kind(keys),
            num_warps=max(1, together * half // 256),
        )  # fmt: skip
    return q


@triton.jit
def _write_kv(
    QKV, positions, slots, Cos, Sin, Q, K, V, q_norm, k_norm, Scales, eps, k_slot, k_head,
    H: tl.constexpr, HKV: tl.constexpr, D: tl.constexpr, HALF: tl.constexpr, TOGETHER: tl.constexpr,
    Q_NORM: tl.constexpr, K_NORM: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    first_head = tl.program_id(1) * TOGETHER
    head = first_head + tl.arange(0, TOGETHER)  # [heads]
    slot = tl.load(slots + row).to(tl.int64)
    i = tl.arange(0, HALF)
    inside = (i < D // 2)[None, :]
    written = inside & (slot >= 0)
    source = QKV + row * (H + 2 * HKV) * D + head[:, None] * D + i[None, :]
    left = tl.load(source, mask=inside, other=0.0)  # [heads, D / 2]
    right = tl.load(source + D // 2, mask=inside, other=0.0)
    if first_head >= H + HKV:  # values: they go as they are
        target = V + slot * k_slot + (head - H - HKV)[:, None] * k_head + i[None, :]
        _store(target, left, Scales + head - H, written, KIND)
        _store(target + D // 2, right, Scales + head - H, written, KIND)
    else:
        a = left.to(tl.float32)
        b = right.to(tl.float32)
        if Q_NORM and first_head < H:
            a, b = _normalized(a, b, q_norm, i, eps, D, QKV.dtype.element_ty)
        if K_NORM and first_head >= H:
            a, b = _normalized(a, b, k_norm, i, eps, D, QKV.dtype.element_ty)
        position = tl.load(positions + row).to(tl.int64)
        cos = tl.load(Cos + position * (D // 2) + i, mask=i < D // 2, other=0.0)[None, :]
        sin = tl.load(Sin + position * (D // 2) + i, mask=i < D // 2, other=0.0)[None, :]
        left = (a * cos - b * sin).to(QKV.dtype.element_ty)
        right = (b * cos + a * sin).to(QKV.dtype.element_ty)
        if first_head < H:
            rotated = Q + row * H * D + head[:, None] * D + i[None, :]
            tl.store(rotated, left, mask=inside)
            tl.store(rotated + D // 2, right, mask=inside)
        else:
            target = K + slot * k_slot + (head - H)[:, None] * k_head + i[None, :]
            _store(target, left, Scales + head - H, written, KIND)
            _store(target + D // 2, right, Scales + head - H, written, KIND)


@triton.jit
def _store(target, x, scales, written, KIND: tl.constexpr):
    """Half of some heads [heads, D / 2], in the cache's type; `scales` [heads] are theirs."""
    if KIND == PLAIN:
        tl.store(target, x.to(target.dtype.element_ty), mask=written)
    else:
        scale = tl.broadcast_to(tl.load(scales)[:, None], x.shape)
        tl.store(target, rounded_to_bits(tl.div_rn(x.to(tl.float32), scale)), mask=written)


@triton.jit
def _normalized(a, b, weight, i, eps, D: tl.constexpr, kept: tl.constexpr):
    """Heads' RMS norm, in halves [heads, D / 2], rounded as a separate norm would leave it."""
    scale = 1.0 / tl.sqrt_rn((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / D + eps)[:, None]
    inside = i < D // 2
    a = (a * scale * tl.load(weight + i, mask=inside, other=0.0)[None, :]).to(kept).to(tl.float32)
    b = (b * scale * tl.load(weight + D // 2 + i, mask=inside, other=0.0)[None, :]).to(kept).to(tl.float32)
    return a, b
