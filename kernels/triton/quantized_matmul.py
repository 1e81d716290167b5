"""Products with packed weights: 4 bits and 8 bits a weight, and 8 bits on both sides.

    int4_matmul    blocks of 32 weights with a scale and a minimum, in GGUF's own Q4_0/Q4_1 order: nothing is repacked
    int8_matmul    one scale for each output; weights become the activations' type in the tile
    w8a8_matmul    int8 times int8 into int32, one scale for each row of both

Few rows are bound by the weights' bytes, so the width K is cut into `splits` and the parts are added afterwards, in a
fixed order. Floor: the packed weights once, 2 M N K operations.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.knobs import runtime

WIDE = tl.constexpr(bool(runtime.interpret))  # Triton's interpreter multiplies bf16 wrongly: there, products are fp32
BLOCK = 32  # weights that share a scale and a minimum in 4 bits


def int4_matmul(
    x: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor, minima: torch.Tensor, *, splits: int = 1
) -> torch.Tensor:
    """x [M, K] times W [N, K] transposed -> [M, N]. Byte j of a block of 16 holds weights j (low) and j + 16 (high).

    packed [N, K / 2] uint8; scales and minima [N, K / 32], fp16: weight = scale * nibble + minimum.
    """
    m, k = x.shape
    n = len(packed)
    parts = torch.empty((splits, m, n), dtype=torch.float32, device=x.device)
    block_m, block_n, warps = tile(m)
    if m and n:
        _int4[(triton.cdiv(m, block_m), triton.cdiv(n, block_n), splits)](
            x, packed, scales, minima, parts, m, n, k, triton.cdiv(k // 32, splits),
            BLOCK_M=block_m, BLOCK_N=block_n, num_warps=warps, num_stages=3,
        )  # fmt: skip
    return _summed(parts, x.dtype)


@triton.jit
def _int4(
    X, Packed, Scales, Minima, Parts, M, N, K, blocks,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(2)
    j = tl.arange(0, 16)
    rows = (m < M)[:, None]
    columns = (n < N)[None, :]
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in range(split * blocks, tl.minimum((split + 1) * blocks, K // 32)):
        low = tl.load(X + m[:, None].to(tl.int64) * K + block * 32 + j[None, :], mask=rows, other=0.0)  # [M, 16]
        high = tl.load(X + m[:, None].to(tl.int64) * K + block * 32 + 16 + j[None, :], mask=rows, other=0.0)
        bytes_at = Packed + n[None, :].to(tl.int64) * (K // 2) + block * 16 + j[:, None]
        both = tl.load(bytes_at, mask=columns, other=0)  # [16, N]
        scale = tl.load(Scales + n.to(tl.int64) * (K // 32) + block, mask=n < N, other=0.0).to(tl.float32)
        minimum = tl.load(Minima + n.to(tl.int64) * (K // 32) + block, mask=n < N, other=0.0).to(tl.float32)
        # nibbles are exact in every type, so the scale is applied once to the block's product, in fp32
        if WIDE or X.dtype.element_ty == tl.float32:
            w_low = (both & 15).to(tl.float32)
            w_high = (both >> 4).to(tl.float32)
            part = tl.dot(low.to(tl.float32), w_low, input_precision="ieee")
            part = tl.dot(high.to(tl.float32), w_high, part, input_precision="ieee")
        else:
            part = tl.dot(low, (both & 15).to(X.dtype.element_ty))
            part = tl.dot(high, (both >> 4).to(X.dtype.element_ty), part)
        sums = tl.sum(low.to(tl.float32), 1) + tl.sum(high.to(tl.float32), 1)  # [M]
        total += part * scale[None, :] + sums[:, None] * minimum[None, :]
    target = Parts + split.to(tl.int64) * M * N + m[:, None].to(tl.int64) * N + n[None, :]
    tl.store(target, total, mask=rows & columns)


def int8_matmul(x: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor, *, splits: int = 1) -> torch.Tensor:
    """x [M, K] times W [N, K] transposed, W = scales[:, None] * weight (int8): [M, N]. scales: fp32."""
    m, k = x.shape
    n = len(weight)
    parts = torch.empty((splits, m, n), dtype=torch.float32, device=x.device)
    block_m, block_n, warps = tile(m)
    if m and n:
        _int8[(triton.cdiv(m, block_m), triton.cdiv(n, block_n), splits)](
            x, weight, scales, scales, parts, m, n, k, triton.cdiv(triton.cdiv(k, 64), splits),
            BLOCK_M=block_m, BLOCK_N=block_n, BOTH=False, num_warps=warps, num_stages=3,
        )  # fmt: skip
    return _summed(parts, x.dtype)


def w8a8_matmul(
    x: torch.Tensor, x_scales: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """(x_scales[:, None] * x) times (scales[:, None] * weight) transposed, x [M, K] and weight [N, K] int8: [M, N]."""
    m, k = x.shape
    n = len(weight)
    parts = torch.empty((1, m, n), dtype=torch.float32, device=x.device)
    block_m, block_n, warps = tile(m)
    if m and n:
        _int8[(triton.cdiv(m, block_m), triton.cdiv(n, block_n), 1)](
            x, weight, scales, x_scales, parts, m, n, k, triton.cdiv(k, 64),
            BLOCK_M=max(32, block_m), BLOCK_N=block_n, BOTH=True, num_warps=warps, num_stages=3,
        )  # fmt: skip
    return _summed(parts, dtype)


@triton.jit
def _int8(
    X, W, Scales, XScales, Parts, M, N, K, blocks,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BOTH: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(2)
    j = tl.arange(0, 64)
    rows = (m < M)[:, None]
    columns = (n < N)[None, :]
    if BOTH:
        total = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
    else:
        total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in range(split * blocks, tl.minimum((split + 1) * blocks, tl.cdiv(K, 64))):
        at = block * 64 + j
        x = tl.load(X + m[:, None].to(tl.int64) * K + at[None, :], mask=rows & (at < K)[None, :], other=0)
        w = tl.load(W + n[None, :].to(tl.int64) * K + at[:, None], mask=columns & (at < K)[:, None], other=0)
        if BOTH:
            total = tl.dot(x, w, total, out_dtype=tl.int32)
        elif WIDE or X.dtype.element_ty == tl.float32:
            total = tl.dot(x.to(tl.float32), w.to(tl.float32), total, input_precision="ieee")
        else:
            total = tl.dot(x, w.to(X.dtype.element_ty), total)
    result = total.to(tl.float32) * tl.load(Scales + n, mask=n < N, other=0.0)[None, :]
    if BOTH:
        result *= tl.load(XScales + m, mask=m < M, other=0.0)[:, None]
    target = Parts + split.to(tl.int64) * M * N + m[:, None].to(tl.int64) * N + n[None, :]
    tl.store(target, result, mask=rows & columns)


def tile(rows: int) -> tuple[int, int, int]:
    """Rows and columns of a tile, and its warps: tensor cores want 16 rows at least."""
    return (16, 64, 4) if rows <= 16 else (64, 64, 8) if rows <= 64 else (128, 64, 8)


def _summed(parts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The splits' parts added, first to last."""
    return (parts[0] if len(parts) == 1 else parts.sum(0)).to(dtype)
