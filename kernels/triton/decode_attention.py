"""Attention of single new tokens over paged keys: Flash-Decoding with a planned split, and shared prefixes read once.

Pieces of keys are dealt to a fixed grid of workers (`cascade_plan`). A piece with several readers (a shared prefix) is
read once for all of them; the heads of a group read their keys together in any case. Each piece leaves a partial result
and the logarithm of its weight; `_merge` adds them up. So a flat batch and a tree are one kernel.

Floor: each key and value once (`CascadePlan.keys_read`), and 4 H D operations for each pair of a query and its key.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..ops import AttentionSpec
from .attention_tile import attend
from .batch import DeviceBatch


def decode_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    batch: DeviceBatch,
    spec: AttentionSpec,
    out: torch.Tensor,
    *,
    block_n: int = 64,
    warps: int = 4,
    stages: int = 2,
) -> None:
    """q [T, H, D] over one layer's keys and values [pages, page_size, Hkv, D] -> the decoding rows of out [T, H, D]."""
    plan = batch.cascade
    if plan is None:
        return
    group = spec.heads // spec.kv_heads
    widest = int(plan.tile_queries)
    block_m = max(16, triton.next_power_of_2(widest * group))
    partials = len(plan.readers)
    mixed = torch.empty((partials, spec.heads, spec.head_dim), dtype=torch.float32, device=q.device)
    weight = torch.empty((partials, spec.heads), dtype=torch.float32, device=q.device)
    block_d = triton.next_power_of_2(spec.head_dim)
    _decode[(plan.workers, spec.kv_heads)](
        q, keys, values, mixed, weight,
        plan.worker_start, plan.table, plan.key_start, plan.key_stop, plan.reader_start, plan.readers,
        batch.query_start, batch.pages, spec.scale, spec.softcap or 1.0,
        q.stride(0), q.stride(1), keys.stride(1), keys.stride(2),
        HEADS=spec.heads, GROUP=group, D=spec.head_dim, BLOCK_D=block_d, PAGE=keys.shape[1],
        BLOCK_M=block_m, BLOCK_N=block_n, CAPPED=spec.softcap is not None, EXACT=q.dtype == torch.float32,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    _merge[(len(plan.decoding), spec.heads)](
        mixed, weight, out, plan.decoding, plan.merge_start, plan.partial, batch.query_start,
        out.stride(0), out.stride(1), HEADS=spec.heads, D=spec.head_dim, BLOCK_D=block_d, num_warps=4,
    )  # fmt: skip


@triton.jit
def _decode(
    Q, K, V, Mixed, Weight,
    worker_start, table_start, key_start, key_stop, reader_start, readers,
    query_start, pages, scale, cap,
    q_row, q_head, k_slot, k_head,
    HEADS: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAPPED: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    worker = tl.program_id(0)
    kv_head = tl.program_id(1)
    m = tl.arange(0, BLOCK_M)  # a reader's head: reader m // GROUP of the piece, head m % GROUP of the group
    d = tl.arange(0, BLOCK_D)
    for piece in range(tl.load(worker_start + worker), tl.load(worker_start + worker + 1)):
        first_reader = tl.load(reader_start + piece)
        live = m < (tl.load(reader_start + piece + 1) - first_reader) * GROUP
        reader = tl.load(readers + first_reader + m // GROUP, mask=live, other=0)
        row = tl.load(query_start + reader, mask=live, other=0).to(tl.int64)
        head = kv_head * GROUP + m % GROUP
        inside = live[:, None] & (d < D)[None, :]
        q = tl.load(Q + row[:, None] * q_row + head[:, None] * q_head + d[None, :], mask=inside, other=0.0)
        begin = tl.load(key_start + piece)
        end = tl.load(key_stop + piece)
        best = tl.full([BLOCK_M], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        mixed = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
        position = tl.full([BLOCK_M], 2147483647, tl.int32)  # every key of a piece is seen by each of its readers
        best, total, mixed = attend(
            q, best, total, mixed, K + kv_head * k_head, V + kv_head * k_head, pages + tl.load(table_start + piece),
            position, begin, end, end, scale, cap, 0, k_slot,
            D, BLOCK_D, PAGE, BLOCK_N, True, False, CAPPED, EXACT,
        )  # fmt: skip
        slot = ((first_reader + m // GROUP) * HEADS + head).to(tl.int64)
        tl.store(Mixed + slot[:, None] * D + d[None, :], mixed / total[:, None], mask=inside)
        tl.store(Weight + slot, best + tl.log2(total), mask=live)


@triton.jit
def _merge(
    Mixed, Weight, Out, decoding, merge_start, partial, query_start, o_row, o_head,
    HEADS: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0)
    head = tl.program_id(1)
    row = tl.load(query_start + tl.load(decoding + place)).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    best = -float("inf")
    total = 0.0
    mixed = tl.zeros([BLOCK_D], tl.float32)
    for at in range(tl.load(merge_start + place), tl.load(merge_start + place + 1)):
        slot = tl.load(partial + at).to(tl.int64) * HEADS + head
        weight = tl.load(Weight + slot)
        higher = tl.maximum(best, weight)
        faded = tl.exp2(best - higher)
        share = tl.exp2(weight - higher)
        total = total * faded + share
        mixed = mixed * faded + share * tl.load(Mixed + slot * D + d, mask=d < D, other=0.0)
        best = higher
    tl.store(Out + row * o_row + head * o_head + d, (mixed / total).to(Out.dtype.element_ty), mask=d < D)
