"""Products of one to four rows: every weight is read once and multiplied in fp32, without tensor cores.

Tensor cores work on 16 rows at least; with one row, fifteen sixteenths of that would be thrown away. Here a program has
a few outputs and goes along the whole width, so nothing is cut and nothing need be added afterwards. Tiles are such
that a thread's weights and its x come to it as it needs them: no exchange between threads before the last sum.
Floor: the weights once; 2 M N K operations.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .flat_matmul import as_float, bits, enlarged

MOST_ROWS = 4


def gemv(
    x: torch.Tensor,
    weight: torch.Tensor,
    scales: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    block_n: int = 4,
    block_k: int = 1024,
    warps: int = 4,
) -> torch.Tensor:
    """As `flat_matmul`, for at most MOST_ROWS rows."""
    (m, k), n = x.shape, len(weight)
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    if m and n:
        unit = 8 if k % 8 == 0 else 1
        _gemv[(triton.cdiv(n, block_n),)](
            x.contiguous(), bits(weight), scales, bias, out, m, n, k, k // unit,
            ROWS=triton.next_power_of_2(m), BLOCK_N=block_n, BLOCK_K=block_k, UNIT=unit, num_warps=warps,
        )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["units"])
def _gemv(
    X, W, Scales, Bias, Out, M, N, K, units,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    m = tl.arange(0, ROWS)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    j = tl.arange(0, BLOCK_K)
    # rows are known to be aligned to 8 weights and no more, so a thread takes 8 of them even if they are 8 bytes: as it
    # takes 8 of x, and what they are multiplied by is in the same thread
    w_at = W + n[None, :, None].to(tl.int64) * (units * UNIT)
    total = tl.zeros([ROWS, BLOCK_N, BLOCK_K], tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + j
        inside = (k < K)[None, None, :]
        w = tl.load(w_at + k[None, None, :], mask=(n < N)[None, :, None] & inside, other=0)
        x = tl.load(X + m[:, None, None] * K + k[None, None, :], mask=(m < M)[:, None, None] & inside, other=0.0)
        total += enlarged(x.to(tl.float32), W) * as_float(w)
    total = tl.sum(total, 2)
    if W.dtype.element_ty == tl.uint8:
        total *= 72057594037927936.0  # 2^56
    _store(total, Scales, Bias, Out, m, n, M, N)


def int4_gemv(
    x: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    block_n: int = 8,
    words: int = 128,
    warps: int = 4,
) -> torch.Tensor:
    """As `int4_matmul`, for at most MOST_ROWS rows; `words` of 8 weights of a row at a time."""
    (m, k), n = x.shape, len(packed)
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    if m and n:
        _int4_gemv[(triton.cdiv(n, block_n),)](
            x.contiguous(), packed.view(torch.int32), scales.view(torch.int32), bias, out, m, n, k, k // 8,
            EXPONENT, ROWS=triton.next_power_of_2(m), BLOCK_N=block_n, WORDS=words, num_warps=warps,
        )  # fmt: skip
    return out


EXPONENT = (
    0x4B000000  # fp32 2^23. As an argument, and not a constant, it is joined to a nibble by one instruction, not two
)


@triton.jit(do_not_specialize=["length", "exponent"])
def _int4_gemv(
    X, Packed, Scales, Bias, Out, M, N, K, length, exponent,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    m = tl.arange(0, ROWS)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    columns = (n < N)[None, :, None]
    # rows are known to be aligned to a word and no more, so neighbouring threads take neighbouring words, and 8 of x
    words_at = Packed + n[None, :, None].to(tl.int64) * length
    scales_at = Scales + n[None, :, None].to(tl.int64) * (length // 4)
    x_at = X + m[:, None, None, None] * K + tl.arange(0, 8)[None, None, None, :]
    total = tl.zeros([ROWS, BLOCK_N, WORDS], tl.float32)
    for start in range(0, length, WORDS):
        word = start + tl.arange(0, WORDS)
        inside = word < length
        w = tl.load(words_at + word[None, None, :], mask=columns & inside[None, None, :], other=0)
        pair = tl.load(scales_at + (word // 4)[None, None, :], mask=columns & inside[None, None, :], other=0)
        given = (m < M)[:, None, None, None] & inside[None, None, :, None]
        x = tl.load(x_at + word[None, None, :, None] * 8, mask=given, other=0.0).to(tl.float32)
        x0, x1, x2, x3, x4, x5, x6, x7 = _eight(x, ROWS, WORDS)  # [ROWS, 1, WORDS] each
        # a nibble is multiplied where it lies in its word, as 16^i times itself, so x is first divided by 16^i
        part = x0 * _nibble(w, exponent, 0)
        part += x1 * 0.0625 * _nibble(w, exponent, 1)
        part += x2 * 0.00390625 * _nibble(w, exponent, 2)
        part += x3 * 0.000244140625 * _nibble(w, exponent, 3)
        part += x4 * 0.0000152587890625 * _nibble(w, exponent, 4)
        part += x5 * 0.00390625 * _nibble(w >> 12, exponent, 2)  # a mantissa has no room for the upper ones
        part += x6 * 0.000244140625 * _nibble(w >> 12, exponent, 3)
        part += x7 * 0.0000152587890625 * _nibble(w >> 12, exponent, 4)
        sums = ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7))
        total += part * low_half(pair) + sums * low_half(pair >> 16)
    _store(tl.sum(total, 2), None, Bias, Out, m, n, M, N)


@triton.jit
def _nibble(word, exponent, i: tl.constexpr):
    """Nibble i (0 to 4) of a word, times 16^i, as fp32."""
    return whole(word & (15 << (4 * i)), exponent)


@triton.jit
def whole(bits, exponent):
    """A whole number below 2^23 as fp32, without a conversion: its bits are laid into the mantissa of 2^23."""
    return (bits | exponent).to(tl.float32, bitcast=True) - 8388608.0


@triton.jit
def low_half(pair):
    """The fp16 number in the lower half of a word, as fp32."""
    return (pair & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def _eight(x, ROWS: tl.constexpr, WORDS: tl.constexpr):
    """[ROWS, 1, WORDS, 8] -> eight of [ROWS, 1, WORDS], without an exchange between threads."""
    even, odd = tl.split(tl.reshape(x, [ROWS, 1, WORDS, 4, 2]))
    x04, x26 = tl.split(tl.reshape(even, [ROWS, 1, WORDS, 2, 2]))
    x15, x37 = tl.split(tl.reshape(odd, [ROWS, 1, WORDS, 2, 2]))
    x0, x4 = tl.split(x04)
    x2, x6 = tl.split(x26)
    x1, x5 = tl.split(x15)
    x3, x7 = tl.split(x37)
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def _store(total, Scales, Bias, Out, m, n, M, N):
    inside = (m < M)[:, None] & (n < N)[None, :]
    place = m[:, None] * N + n[None, :]
    if Scales is not None:
        total *= tl.load(Scales + n, mask=n < N, other=0.0)[None, :]
    if Bias is not None:
        total += tl.load(Bias + n, mask=n < N, other=0.0)[None, :]
    tl.store(Out + place, total.to(Out.dtype.element_ty), mask=inside)
