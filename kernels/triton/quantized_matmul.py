"""Products with packed weights on tensor cores: 4 bits a weight, and 8 bits on both sides.

    int4_matmul    blocks of 32 weights with a scale and a minimum, which become the activations' type in the tile
    w8a8_matmul    int8 times int8 into int32, a scale for each output and for each GROUP activations of a row

Floor: the packed weights once, x once for each column of tiles; 2 M N K operations.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .flat_matmul import WIDE, in_tiles, rows_of_tile
from .gemv import EXPONENT, low_half, whole
from .quantize_rows import GROUP


def int4_matmul(
    x: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    block_n: int = 64,
    block_k: int = 64,
    splits: int = 1,
    warps: int = 4,
    stages: int = 3,
) -> torch.Tensor:
    """x [M, K] times W [N, K] transposed, + bias [N]: [M, N] in x's type, rounded once.

    packed [N, K / 2] uint8, two neighbouring weights in a byte, the first one low; scales [N, K / 32, 2], fp16: a
    weight is scales[.., 0] * nibble + scales[.., 1].
    """
    return in_tiles(
        _int4, x, len(packed), (packed, scales.view(torch.int32), bias), EXPONENT,
        block_n=block_n, block_k=block_k, splits=splits, warps=warps, stages=stages,
    )  # fmt: skip


@triton.jit(do_not_specialize=["exponent"])
def _int4(
    X, Packed, Scales, Bias, Out, M, N, K, blocks, exponent,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(2)
    rows = (m < M)[:, None]
    columns = (n < N)[:, None]
    x_at = X + m[:, None].to(tl.int64) * K
    packed_at = Packed + n[:, None].to(tl.int64) * (K // 2)
    scales_at = Scales + n[:, None].to(tl.int64) * (K // 32)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in range(split * blocks, tl.minimum((split + 1) * blocks, tl.cdiv(K, BLOCK_K))):
        k = block * BLOCK_K + tl.arange(0, BLOCK_K)
        byte = block * (BLOCK_K // 2) + tl.arange(0, BLOCK_K // 2)
        group = block * (BLOCK_K // 32) + tl.arange(0, BLOCK_K // 32)
        x = tl.load(x_at + k[None, :], mask=rows & (k < K)[None, :], other=0.0)  # [M, K]
        both = tl.load(packed_at + byte[None, :], mask=columns & (byte < K // 2)[None, :], other=0)  # [N, K / 2]
        pair = tl.load(scales_at + group[None, :], mask=columns & (group < K // 32)[None, :], other=0)  # [N, K / 32]
        both = tl.reshape(both.to(tl.int32), [BLOCK_N, BLOCK_K // 32, 16])
        scale, minimum = low_half(pair)[:, :, None], low_half(pair >> 16)[:, :, None]
        low = whole(both & 0x0F, exponent) * scale + minimum
        high = whole(both & 0xF0, exponent) * (scale * 0.0625) + minimum  # times 16 as they lie
        w = tl.trans(tl.reshape(tl.interleave(low, high), [BLOCK_N, BLOCK_K]))  # [K, N]
        if WIDE or X.dtype.element_ty == tl.float32:
            total = tl.dot(x.to(tl.float32), w, total, input_precision="ieee")
        else:
            total = tl.dot(x, w.to(X.dtype.element_ty), total)
    _finish(total, Bias, Out, m, n, M, N, split, SPLIT)


def int4_unpacked(packed: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weights themselves, [N, K] in `dtype`. Floor: reads what is packed, writes the result, once each."""
    n, k = len(packed), 2 * packed.shape[1]
    out = torch.empty((n, k), dtype=dtype, device=packed.device)
    if n:
        _int4_unpacked[(n, triton.cdiv(k // 2, 512))](
            packed, scales.view(torch.int32), out, k, EXPONENT, BLOCK=512, num_warps=4
        )
    return out


@triton.jit(do_not_specialize=["exponent"])
def _int4_unpacked(Packed, Scales, Out, K, exponent, BLOCK: tl.constexpr):
    n = tl.program_id(0).to(tl.int64)
    byte = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = byte < K // 2
    both = tl.load(Packed + n * (K // 2) + byte, mask=inside, other=0).to(tl.int32)
    pair = tl.load(Scales + n * (K // 32) + byte // 16, mask=inside, other=0)
    scale, minimum = low_half(pair), low_half(pair >> 16)
    low = whole(both & 0x0F, exponent) * scale + minimum
    high = whole(both & 0xF0, exponent) * (scale * 0.0625) + minimum
    k = tl.program_id(1) * 2 * BLOCK + tl.arange(0, 2 * BLOCK)
    tl.store(Out + n * K + k, tl.interleave(low, high).to(Out.dtype.element_ty), mask=k < K)


def w8a8_matmul(
    x: torch.Tensor,
    x_scales: torch.Tensor,
    weight: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    dtype: torch.dtype,
    block_n: int = 64,
    warps: int = 8,
    stages: int = 3,
) -> torch.Tensor:
    """x [M, K] int8 with x_scales [M, groups] (see `quantize_rows`) times weight [N, K] int8 with scales [N], + bias:
    [M, N] in `dtype`."""
    (m, k), n = x.shape, len(weight)
    out = torch.empty((m, n), dtype=dtype, device=x.device)
    block_m = max(32, rows_of_tile(m))
    if m and n:
        _w8a8[(triton.cdiv(m, block_m), triton.cdiv(n, block_n))](
            x, x_scales, weight, scales, bias, out, m, n, k,
            BLOCK_M=block_m, BLOCK_N=block_n, GROUP=GROUP, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return out


@triton.jit
def _w8a8(
    X, XScales, W, Scales, Bias, Out, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    j = tl.arange(0, GROUP)
    rows = (m < M)[:, None]
    columns = (n < N)[None, :]
    groups = tl.cdiv(K, GROUP)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for group in range(groups):
        k = group * GROUP + j
        x = tl.load(X + m[:, None].to(tl.int64) * K + k[None, :], mask=rows & (k < K)[None, :], other=0)
        w = tl.load(W + n[None, :].to(tl.int64) * K + k[:, None], mask=columns & (k < K)[:, None], other=0)
        scale = tl.load(XScales + m * groups + group, mask=m < M, other=0.0)
        total += tl.dot(x, w, out_dtype=tl.int32).to(tl.float32) * scale[:, None]
    total *= tl.load(Scales + n, mask=n < N, other=0.0)[None, :]
    _finish(total, Bias, Out, m, n, M, N, 0, False)


@triton.jit
def _finish(total, Bias, Out, m, n, M, N, split, SPLIT: tl.constexpr):
    inside = (m < M)[:, None] & (n < N)[None, :]
    place = m[:, None].to(tl.int64) * N + n[None, :]
    if SPLIT:
        tl.store(Out + split.to(tl.int64) * M * N + place, total, mask=inside)
    else:
        if Bias is not None:
            total += tl.load(Bias + n, mask=n < N, other=0.0)[None, :]
        tl.store(Out + place, total.to(Out.dtype.element_ty), mask=inside)
