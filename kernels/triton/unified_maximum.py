"""Softmax with one maximum for all, guessed beforehand (FlashDecoding++, arXiv 2311.01282): a variant of `attend`.

Online softmax rescales what it has whenever a larger score comes. With the maximum fixed at `UNIFIED`, blocks only
add up: no rescaling, and no product waits for a maximum. A guess too low overflows and one too high loses all digits,
so the true maximum is kept beside it, and a tile with a row outside of the safe range is computed again by `attend`.

It can win where arithmetic decides: many readers to a piece (trees), wide heads. Where memory does (flat batches), and
where scores stray (a head that is computed twice), it cannot. Off in the tuning table until it has been timed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .attention_tile import LOG2_E, mix, rows_of, scores_of, slots_of

UNIFIED = tl.constexpr(0.0)  # the guess, in units of log 2: scores of models lie around zero
SAFE_HALF = tl.constexpr(15.0)  # 2^15 fits fp16
LOST_HALF = tl.constexpr(4.0)  # in fp16 a row whose weights are all below 2^-4 loses digits
SAFE_WIDE = tl.constexpr(64.0)  # sums of 2^64 over any context fit fp32 and bf16


@triton.jit
def attend_unified(
    q, K, V, table, begin, end, scale, cap, k_slot,
    BLOCK_M: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, BLOCK_N: tl.constexpr,
    CAPPED: tl.constexpr, EXACT: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Queries [M, D] over keys begin .. end - 1, all seen: (highest score [M], total [M], mixed [M, D]).

    total and mixed are relative to 2^UNIFIED; where `outside` says so of `highest` they are worth nothing.
    """
    factor = LOG2_E if CAPPED else scale * LOG2_E
    highest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    mixed = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    n = begin + tl.arange(0, BLOCK_N)
    slot = slots_of(table, n, begin, end, PAGE)
    for at in range(begin, end, BLOCK_N):
        present = n < end
        k = rows_of(K, slot, present, k_slot, q.dtype, D, BLOCK_D, True, KIND)
        scores = scores_of(q, k, scale, cap, CAPPED, EXACT)
        scores = tl.where(present[None, :], scores, float("-inf"))
        highest = tl.maximum(highest, tl.max(scores, 1) * factor)
        weights = tl.exp2(scores * factor - UNIFIED)
        total += tl.sum(weights, 1)
        v = rows_of(V, slot, present, k_slot, q.dtype, D, BLOCK_D, True, KIND)
        mixed = mix(weights, v, mixed, EXACT)
        n = at + BLOCK_N + tl.arange(0, BLOCK_N)
        slot = slots_of(table, n, begin, end, PAGE)
    return highest, total, mixed


@triton.jit
def outside(highest, kept: tl.constexpr):
    """Which rows [M] the guessed maximum was wrong for, when their weights are rounded to the type `kept`."""
    above = UNIFIED + (SAFE_HALF if kept == tl.float16 else SAFE_WIDE)
    below = UNIFIED - (LOST_HALF if kept == tl.float16 else SAFE_WIDE)
    return (highest > above) | (highest < below)
