"""The heart of every attention kernel: a tile of queries meets a run of paged keys, softmax kept as it goes.

Scores stay as the product leaves them; what turns them into powers of two (the spec's scale, log2 e, a cache's scale)
is one factor, and weight = 2^(score factor - best) is one fused multiply-add and one exponential an element. Where the
next block's keys lie is looked up while this block is computed, so that a key's address never waits for its page.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.knobs import runtime

from .fp8_cache import readable

LOG2_E = tl.constexpr(1.4426950408889634)
WIDE = tl.constexpr(bool(runtime.interpret))  # Triton's interpreter multiplies bf16 wrongly: there, products are fp32


@triton.jit
def slots_of(table, n, low, high, PAGE: tl.constexpr):
    """Where in the cache keys n [N] of a page table lie; only keys low .. high - 1 are looked up."""
    if PAGE & (PAGE - 1) == 0:  # unsigned: a shift and a mask
        n = n.to(tl.uint32)
    page = tl.load(table + n // PAGE, mask=(n >= low) & (n < high), other=0)
    return page * PAGE + (n % PAGE).to(tl.int32)


@triton.jit
def rows_of(
    Cache, slot, present, k_slot, kept: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, EDGE: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """The keys or the values at `slot` [N], as products take them: [N, D]. Both are read alike, at the same offsets."""
    d = tl.arange(0, BLOCK_D)
    where = Cache + (slot.to(tl.int64)[:, None] * k_slot + d[None, :])
    if EDGE:
        x = tl.load(where, mask=present[:, None] & (d < D)[None, :], other=0)
    elif D == BLOCK_D:
        x = tl.load(where)
    else:
        x = tl.load(where, mask=(d < D)[None, :], other=0)
    return readable(x, kept, KIND)


@triton.jit
def scores_of(q, k, scale, cap, CAPPED: tl.constexpr, EXACT: tl.constexpr):
    """Queries [M, D] times keys [N, D]: [M, N]; times `scale` and capped where the layer asks for that."""
    if EXACT or WIDE:
        scores = tl.dot(q.to(tl.float32), tl.trans(k).to(tl.float32), input_precision="tf32x3")
    else:
        scores = tl.dot(q, tl.trans(k))
    if CAPPED:
        scores = cap * (2.0 / (1.0 + tl.exp2(scores * (-2.0 * scale / cap * LOG2_E))) - 1.0)  # tanh
    return scores


@triton.jit
def mix(weights, v, mixed, EXACT: tl.constexpr):
    """mixed [M, D] + weights [M, N] times values [N, D]; the weights are rounded to the values' type."""
    weights = weights.to(v.dtype)
    if EXACT or WIDE:
        mixed = tl.dot(weights.to(tl.float32), v.to(tl.float32), mixed, input_precision="tf32x3")
    else:
        mixed = tl.dot(weights, v, mixed)
    return mixed


@triton.jit
def attend(
    q, best, total, mixed, K, V, table, position, begin, end, low, high, turn, gap, scale, cap, window, k_slot,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, BLOCK_N: tl.constexpr,
    EDGE: tl.constexpr, CAUSAL: tl.constexpr, WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr, EXACT: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Queries [M, D] at `position` [M] over blocks begin .. end of a page table; (best, total, mixed) go in and out.

    best [M]: the largest score so far, in units of log 2. total [M]: the sum of 2^(score - best). mixed [M, D]: the
    values so weighted. EDGE: blocks may reach past keys low .. high - 1, which alone are read. CAUSAL: a query does not
    see keys after its position, nor (WINDOWED) those before its window. Blocks from `turn` on lie `gap` keys later.
    """
    factor = LOG2_E if CAPPED else scale * LOG2_E
    n = begin + tl.arange(0, BLOCK_N)
    if WINDOWED and CAUSAL:
        n += tl.where(begin >= turn, gap, 0)
    slot = slots_of(table, n, low, high, PAGE)
    for at in range(begin, end, BLOCK_N):
        present = (n >= low) & (n < high)
        k = rows_of(K, slot, present, k_slot, q.dtype, D, BLOCK_D, EDGE, KIND)
        scores = scores_of(q, k, scale, cap, CAPPED, EXACT)  # [M, N]
        if CAUSAL:
            seen = n[None, :] <= position[:, None]
            if WINDOWED:
                seen = seen & (n[None, :] > position[:, None] - window)
            scores = tl.where(seen & present[None, :], scores, float("-inf"))
        elif EDGE:
            scores = tl.where(present[None, :], scores, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 1) * factor)
        settled = tl.where(higher == float("-inf"), 0.0, higher)  # a query that has seen nothing yet
        weights = tl.exp2(scores * factor - settled[:, None])
        faded = tl.exp2(best - settled)
        total = total * faded + tl.sum(weights, 1)
        v = rows_of(V, slot, present, k_slot, q.dtype, D, BLOCK_D, EDGE, KIND)
        mixed = mix(weights, v, mixed * faded[:, None], EXACT)
        best = higher
        n = at + BLOCK_N + tl.arange(0, BLOCK_N)
        if WINDOWED and CAUSAL:
            n += tl.where(at + BLOCK_N >= turn, gap, 0)
        slot = slots_of(table, n, low, high, PAGE)
    return best, total, mixed
