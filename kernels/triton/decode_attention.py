"""Attention of single new tokens over paged keys: Flash-Decoding with a planned split, and shared prefixes read once.

Pieces of keys are dealt to a fixed grid of workers (`cascade_plan`). A piece with several readers (a shared prefix) is
read once for all of them; the heads of a group read their keys together in any case. Each piece leaves a partial result
and the logarithm of its weight; `_merge` adds them up. So a flat batch and a tree are one kernel.

Floor: 2 D Hkv numbers of the cache for every key of the plan (`CascadePlan.keys_read`), 2 D H numbers for every query,
and 4 H D operations for every pair of a query and its key: `floors.attention`. Partial results: `floors.merge`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..ops import AttentionSpec
from ..torch_attention import FP8
from .attention_tile import attend
from .batch import DeviceBatch
from .fp8_cache import cache_bits, cache_kind, cache_scale, product_type
from .unified_maximum import UNIFIED, attend_unified, outside

FEW = tl.constexpr(16)  # rows of the smallest product


def decode_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    batch: DeviceBatch,
    spec: AttentionSpec,
    out: torch.Tensor,
    *,
    scales: torch.Tensor | None = None,
    block_n: int = 64,
    warps: int = 4,
    stages: int = 2,
    unified: int = 0,
) -> None:
    """q [T, H, D] over one layer's keys and values [pages, page_size, Hkv, D] -> the decoding rows of out [T, H, D].

    Nothing here depends on the lengths: the grid is the plan's workers and the number of its decoding sequences. A
    decoding sequence without partial results gets zeros, and one that is negative (padding) gets nothing at all.
    `scales`: see `extend_attention`. unified = 1 takes the softmax of `unified_maximum`, 0 the online one.
    """
    plan = batch.cascade
    if plan is None:
        return
    kind = cache_kind(keys)
    assert scales is not None or keys.dtype != FP8, "an fp8 cache has scales"
    keys, values = cache_bits(keys), cache_bits(values)
    if q.dtype == torch.float32:  # twice as wide: the table's blocks would not fit
        block_n, stages = min(block_n, 32), 1
    group = spec.heads // spec.kv_heads
    block_m = max(int(FEW.value), triton.next_power_of_2(plan.tile_queries * group))
    partials = len(plan.readers)
    mixed = torch.empty((partials, spec.heads, spec.head_dim), dtype=torch.float32, device=q.device)
    weight = torch.empty((partials, spec.heads), dtype=torch.float32, device=q.device)
    block_d = triton.next_power_of_2(spec.head_dim)
    _decode[(plan.workers, spec.kv_heads)](
        q, keys, values, mixed, weight, q if scales is None else scales,
        plan.worker_start, plan.table, plan.key_start, plan.key_stop, plan.reader_start, plan.readers,
        batch.query_start, batch.pages, spec.scale, spec.softcap or 1.0,
        q.stride(0), q.stride(1), keys.stride(1), keys.stride(2),
        HEADS=spec.heads, GROUP=group, D=spec.head_dim, BLOCK_D=block_d, PAGE=keys.shape[1],
        BLOCK_M=block_m, BLOCK_N=block_n, CAPPED=spec.softcap is not None, EXACT=q.dtype == torch.float32,
        KIND=kind, UNIFY=bool(unified), num_warps=warps, num_stages=stages,
    )  # fmt: skip
    _merge[(len(plan.decoding), spec.heads)](
        mixed, weight, out, plan.decoding, plan.merge_start, plan.partial, batch.query_start,
        out.stride(0), out.stride(1), HEADS=spec.heads, D=spec.head_dim, BLOCK_D=block_d, BLOCK_P=16, num_warps=4,
    )  # fmt: skip


@triton.jit
def _decode(
    Q, K, V, Mixed, Weight, Scales,
    worker_start, table_start, key_start, key_stop, reader_start, readers,
    query_start, pages, scale, cap,
    q_row, q_head, k_slot, k_head,
    HEADS: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAPPED: tl.constexpr, EXACT: tl.constexpr, KIND: tl.constexpr, UNIFY: tl.constexpr,
):  # fmt: skip
    worker = tl.program_id(0)
    kv_head = tl.program_id(1)
    scale *= cache_scale(Scales, kv_head, 0, HEADS // GROUP, KIND)
    share = cache_scale(Scales, kv_head, 1, HEADS // GROUP, KIND)
    K += kv_head * k_head
    V += kv_head * k_head
    for piece in range(tl.load(worker_start + worker), tl.load(worker_start + worker + 1)):
        first = tl.load(reader_start + piece)
        count = tl.load(reader_start + piece + 1) - first
        table = pages + tl.load(table_start + piece)
        begin = tl.load(key_start + piece)
        end = tl.load(key_stop + piece)
        if BLOCK_M > FEW and count * GROUP <= FEW:  # one sequence's own keys, in a plan that has shared ones too
            _piece(
                Q, K, V, Mixed, Weight, readers, query_start, table, first, count, kv_head, begin, end,
                scale, share, cap, q_row, q_head, k_slot,
                HEADS, GROUP, D, BLOCK_D, PAGE, FEW, BLOCK_N, CAPPED, EXACT, KIND, UNIFY,
            )  # fmt: skip
        else:
            _piece(
                Q, K, V, Mixed, Weight, readers, query_start, table, first, count, kv_head, begin, end,
                scale, share, cap, q_row, q_head, k_slot,
                HEADS, GROUP, D, BLOCK_D, PAGE, BLOCK_M, BLOCK_N, CAPPED, EXACT, KIND, UNIFY,
            )  # fmt: skip


@triton.jit
def _piece(
    Q, K, V, Mixed, Weight, readers, query_start, table, first, count, kv_head, begin, end,
    scale, share, cap, q_row, q_head, k_slot,
    HEADS: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAPPED: tl.constexpr, EXACT: tl.constexpr, KIND: tl.constexpr, UNIFY: tl.constexpr,
):  # fmt: skip
    """Keys begin .. end for `count` readers and the heads of one group; their partial results are stored."""
    m = tl.arange(0, BLOCK_M)  # a reader's head: reader m // GROUP of the piece, head m % GROUP of the group
    d = tl.arange(0, BLOCK_D)
    live = m < count * GROUP
    reader = tl.load(readers + first + m // GROUP, mask=live, other=0)
    row = tl.load(query_start + reader, mask=live, other=0).to(tl.int64)
    head = kv_head * GROUP + m % GROUP
    inside = live[:, None] & (d < D)[None, :]
    q = tl.load(Q + row[:, None] * q_row + head[:, None] * q_head + d[None, :], mask=inside, other=0.0)
    q = product_type(q, KIND)
    if UNIFY:
        best, total, mixed = attend_unified(
            q, K, V, table, begin, end, scale, cap, k_slot,
            BLOCK_M, D, BLOCK_D, PAGE, BLOCK_N, CAPPED, EXACT, KIND,
        )  # fmt: skip
        if tl.max((outside(best, q.dtype) & live).to(tl.int32), 0) > 0:
            best, total, mixed = _online(
                q, K, V, table, begin, end, scale, cap, k_slot,
                BLOCK_M, D, BLOCK_D, PAGE, BLOCK_N, CAPPED, EXACT, KIND,
            )  # fmt: skip
        else:
            best = tl.full([BLOCK_M], UNIFIED, tl.float32)
    else:
        best, total, mixed = _online(
            q, K, V, table, begin, end, scale, cap, k_slot,
            BLOCK_M, D, BLOCK_D, PAGE, BLOCK_N, CAPPED, EXACT, KIND,
        )  # fmt: skip
    slot = ((first + m // GROUP) * HEADS + head).to(tl.int64)
    tl.store(Mixed + slot[:, None] * D + d[None, :], mixed * (share / total)[:, None], mask=inside)
    tl.store(Weight + slot, best + tl.log2(total), mask=live)


@triton.jit
def _online(
    q, K, V, table, begin, end, scale, cap, k_slot,
    BLOCK_M: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, BLOCK_N: tl.constexpr,
    CAPPED: tl.constexpr, EXACT: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Every query sees every key: no positions."""
    best = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    mixed = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    return attend(
        q, best, total, mixed, K, V, table, 0, begin, end, begin, end, 0, 0, scale, cap, 0, k_slot,
        D, BLOCK_D, PAGE, BLOCK_N, True, False, False, CAPPED, EXACT, KIND,
    )  # fmt: skip


@triton.jit
def _merge(
    Mixed, Weight, Out, decoding, merge_start, partial, query_start, o_row, o_head,
    HEADS: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0)
    head = tl.program_id(1)
    sequence = tl.load(decoding + place)
    d = tl.arange(0, BLOCK_D)
    best = -float("inf")
    total = 0.0
    mixed = tl.zeros([BLOCK_D], tl.float32)
    stop = tl.load(merge_start + place + 1)
    for at in range(tl.load(merge_start + place), stop, BLOCK_P):
        p = at + tl.arange(0, BLOCK_P)
        slot = tl.load(partial + p, mask=p < stop, other=0).to(tl.int64) * HEADS + head  # [P]
        weight = tl.load(Weight + slot, mask=p < stop, other=float("-inf"))
        inside = (p < stop)[:, None] & (d < D)[None, :]
        part = tl.load(Mixed + slot[:, None] * D + d[None, :], mask=inside, other=0.0)  # [P, D]
        higher = tl.maximum(best, tl.max(weight, 0))
        faded = tl.exp2(best - higher)
        shares = tl.exp2(weight - higher)
        total = total * faded + tl.sum(shares, 0)
        mixed = mixed * faded + tl.sum(shares[:, None] * part, 0)
        best = higher
    result = mixed / tl.where(total > 0.0, total, 1.0)
    row = tl.load(query_start + tl.maximum(sequence, 0)).to(tl.int64)
    tl.store(
        Out + row * o_row + head * o_head + d, result.to(Out.dtype.element_ty), mask=(d < D) & (sequence >= 0)
    )  # fmt: skip
