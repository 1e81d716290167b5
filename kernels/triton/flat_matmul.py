"""Products of few rows with plain, 8-bit and fp8 weights, cut along the width: flat, as FlashDecoding++ calls them.

A tile has as many rows as there are (16 at least), so the weights are read once. Few rows make few tiles: the width K
is cut into `splits`, whose parts are added in a fixed order. Loads run ahead of the products by `stages`.
Floor: the weights once, x once for each column of tiles, the result once; 2 M N K operations.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.knobs import runtime

WIDE = tl.constexpr(bool(runtime.interpret))  # Triton's interpreter multiplies bf16 wrongly: there, products are fp32
FP8 = torch.float8_e4m3fn


def flat_matmul(
    x: torch.Tensor,
    weight: torch.Tensor,
    scales: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    block_n: int = 64,
    block_k: int = 64,
    splits: int = 1,
    warps: int = 4,
    stages: int = 4,
) -> torch.Tensor:
    """x [M, K] times W [N, K] transposed, + bias [N]: [M, N] in x's type, rounded once.

    The weight is of x's type, or int8 or e4m3 with fp32 scales [N] (W = scales[:, None] * weight); x is not rounded.
    """
    return in_tiles(
        _flat, x, len(weight), (bits(weight), scales, bias),
        block_n=block_n, block_k=block_k, splits=splits, warps=warps, stages=stages,
    )  # fmt: skip


def in_tiles(
    kernel: Any,
    x: torch.Tensor,
    n: int,
    operands: tuple[torch.Tensor | None, ...],
    *more: int,
    block_n: int,
    block_k: int,
    splits: int,
    warps: int,
    stages: int,
) -> torch.Tensor:
    """The product [M, n] of a kernel whose programs make a tile each, of one of `splits` parts of K, which are added up
    in order. `operands` are the weight, its scales and the bias; `more` is what else the kernel takes."""
    (m, k), bias = x.shape, operands[-1]
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    target = out if splits == 1 else torch.empty((splits, m, n), dtype=torch.float32, device=x.device)
    block_m = rows_of_tile(m)
    if m and n:
        kernel[(triton.cdiv(m, block_m), triton.cdiv(n, block_n), splits)](
            x.contiguous(), *operands, target, m, n, k, triton.cdiv(triton.cdiv(k, block_k), splits), *more,
            BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=block_k, SPLIT=splits > 1,
            num_warps=warps if block_m <= 64 else 2 * warps, num_stages=stages,
        )  # fmt: skip
        if splits > 1:
            add_parts(target, bias, out)
    return out


@triton.jit
def _flat(
    X, W, Scales, Bias, Out, M, N, K, blocks,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(2)
    j = tl.arange(0, BLOCK_K)
    rows = (m < M)[:, None]
    columns = (n < N)[None, :]
    x_at = X + m[:, None].to(tl.int64) * K
    w_at = W + n[None, :].to(tl.int64) * K
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in range(split * blocks, tl.minimum((split + 1) * blocks, tl.cdiv(K, BLOCK_K))):
        k = block * BLOCK_K + j
        x = tl.load(x_at + k[None, :], mask=rows & (k < K)[None, :], other=0.0)  # [M, K]
        w = tl.load(w_at + k[:, None], mask=columns & (k < K)[:, None], other=0)  # [K, N]
        if WIDE or X.dtype.element_ty == tl.float32:
            total = tl.dot(enlarged(x.to(tl.float32), W), as_float(w), total, input_precision="ieee")
        else:
            total = tl.dot(enlarged(x, W), as_half(w, X.dtype.element_ty), total)
    if Scales is not None:
        total *= tl.load(Scales + n, mask=n < N, other=0.0)[None, :] * shrunk(X, W)
    place = m[:, None].to(tl.int64) * N + n[None, :]
    if SPLIT:
        tl.store(Out + split.to(tl.int64) * M * N + place, total, mask=rows & columns)
    else:
        if Bias is not None:
            total += tl.load(Bias + n, mask=n < N, other=0.0)[None, :]
        tl.store(Out + place, total.to(Out.dtype.element_ty), mask=rows & columns)


# e4m3 comes as bytes, so that GPUs without fp8 (before sm_89) read it too: its bits are moved to where a wider type has
# them, which is the value itself by another exponent: times 2^-120 in fp32 and bf16, 2^-8 in fp16, subnormal ones
# included (where hardware took those for zeros, it would err by less than 2^-14 of a row's largest weight). What is
# missing is made up by x, times 2^64 where that is exact, and by the scale: no work for each weight.


@triton.jit
def as_float(w):
    """Weights as fp32, exactly; e4m3 is 2^-120 of itself."""
    if w.dtype == tl.uint8:
        moved = (w.to(tl.int8, bitcast=True).to(tl.int32) << 20) & -0x78100000  # the mask's bits: 0x87F00000
        wide = moved.to(tl.float32, bitcast=True)
    else:
        wide = w.to(tl.float32)
    return wide


@triton.jit
def as_half(w, dtype: tl.constexpr):
    """Weights as bf16 or fp16, exactly; e4m3 is 2^-120 or 2^-8 of itself."""
    if w.dtype == tl.uint8:
        moved = w.to(tl.int8, bitcast=True).to(tl.int16)
        if dtype == tl.bfloat16:
            half = ((moved << 4) & -0x7810).to(tl.bfloat16, bitcast=True)  # 0x87F0
        else:
            half = ((moved << 7) & -0x4080).to(tl.float16, bitcast=True)  # 0xBF80
    else:
        half = w.to(dtype)
    return half


@triton.jit
def enlarged(x, W):
    """x, times 2^64 where the weights are e4m3 and x's type has that range."""
    if W.dtype.element_ty == tl.uint8 and x.dtype != tl.float16:
        x *= 18446744073709551616.0
    return x


@triton.jit
def shrunk(X, W):
    """What a product of `enlarged` x and weights by `as_float` or `as_half` must be multiplied by."""
    if W.dtype.element_ty != tl.uint8:
        factor = 1.0
    elif X.dtype.element_ty == tl.float16 and not WIDE:
        factor = 256.0
    else:
        factor = 72057594037927936.0  # 2^56
    return factor


def add_parts(parts: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor) -> None:
    """out = the sum of parts [splits, M, N], first to last, + bias. Floor: each of them once."""
    splits, m, n = parts.shape
    block = 256
    _add_parts[(m, triton.cdiv(n, block))](parts, bias, out, m, n, splits, BLOCK=block, num_warps=4)


@triton.jit
def _add_parts(Parts, Bias, Out, M, N, splits, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    total = tl.zeros([BLOCK], tl.float32)
    at = Parts + row * N + n
    for _ in range(splits):
        total += tl.load(at, mask=inside, other=0.0)
        at += M * N
    if Bias is not None:
        total += tl.load(Bias + n, mask=inside, other=0.0)
    tl.store(Out + row * N + n, total.to(Out.dtype.element_ty), mask=inside)


def rows_of_tile(rows: int) -> int:
    """Rows of a tile: tensor cores want 16 at least, and more than 128 do not fit the registers."""
    return int(min(128, max(16, triton.next_power_of_2(rows))))


def bits(weight: torch.Tensor) -> torch.Tensor:
    """The weight as kernels take it: fp8 as bytes."""
    return weight.view(torch.uint8) if weight.dtype == FP8 else weight
