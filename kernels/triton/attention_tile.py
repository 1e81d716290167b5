"""The heart of every attention kernel: a tile of queries meets a run of paged keys, softmax kept as it goes."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.knobs import runtime

LOG2_E = tl.constexpr(1.4426950408889634)
WIDE = tl.constexpr(bool(runtime.interpret))  # Triton's interpreter multiplies bf16 wrongly: there, products are fp32


@triton.jit
def attend(
    q, best, total, mixed, K, V, table, position, begin, end, length, scale, cap, window, k_slot,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr, WINDOWED: tl.constexpr, CAPPED: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Queries [M, D] at `position` [M] over keys begin .. end of a page table; (best, total, mixed) go in and out.

    best [M]: the largest score so far, in units of log 2. total [M]: the sum of 2^(score - best). mixed [M, D]: the
    values so weighted. MASKED: a query does not see keys after its position, before its window or past `length`.
    """
    d = tl.arange(0, BLOCK_D)
    for start in range(begin, end, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        present = n < tl.minimum(end, length)
        slot = tl.load(table + n // PAGE, mask=present, other=0).to(tl.int64) * PAGE + n % PAGE  # [N]
        there = present[None, :] & (d < D)[:, None]
        k = tl.load(K + slot[None, :] * k_slot + d[:, None], mask=there, other=0.0).to(q.dtype)  # [D, N]
        if EXACT or WIDE:
            scores = tl.dot(q.to(tl.float32), k.to(tl.float32), input_precision="ieee")  # [M, N]
        else:
            scores = tl.dot(q, k)
        if CAPPED:
            scores = cap * (2.0 / (1.0 + tl.exp2(scores * (-2.0 * scale / cap * LOG2_E))) - 1.0) * LOG2_E  # tanh
        else:
            scores = scores * (scale * LOG2_E)
        if MASKED:
            seen = (n[None, :] <= position[:, None]) & present[None, :]
            if WINDOWED:
                seen = seen & (n[None, :] > position[:, None] - window)
            scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 1))
        settled = tl.where(higher == float("-inf"), 0.0, higher)  # a query that has seen nothing yet
        weights = tl.exp2(scores - settled[:, None])
        faded = tl.exp2(best - settled)
        total = total * faded + tl.sum(weights, 1)
        v = tl.load(V + slot[:, None] * k_slot + d[None, :], mask=present[:, None] & (d < D)[None, :], other=0.0)
        mixed = mixed * faded[:, None]
        if EXACT or WIDE:
            rounded = weights.to(q.dtype).to(tl.float32)
            mixed = tl.dot(rounded, v.to(q.dtype).to(tl.float32), mixed, input_precision="ieee")
        else:
            mixed = tl.dot(weights.to(q.dtype), v.to(q.dtype), mixed)
        best = higher
    return best, total, mixed
