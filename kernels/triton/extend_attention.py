"""Attention of many new tokens over paged keys: FlashAttention-2 with ragged batches and cached prefixes.

    for each tile of queries (some tokens of one sequence, times the heads of a group that share keys):
        for each block of BLOCK_N keys that all of them see:           no masks; 2^x, and no natural exponential
            scores = q k^T; the running maximum and sum are updated; the accumulator is rescaled
        for each block at the edges (the diagonal, a window's begin):  the same, masked
        output = accumulator / sum                                     divided once, at the end

A tile's rows are tokens times heads, so that short chunks (a branch of a tree) fill tiles too, and a group's keys are
fetched once. Programs are ordered for the second-level cache and for an even end: all tiles of one key head before
those of the next, the last tiles (with the most keys) first. So sequences with the same pages, which are the same
memory, find their prefix in that cache, and prefill needs no plan as decoding does.

Floor: 4 H D operations for every pair of a query and a key that it sees; 2 D Hkv numbers of the cache for every key
that is seen, and 2 D H numbers for every query (read and written): `floors.attention`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..ops import AttentionSpec
from ..torch_attention import FP8
from .attention_tile import attend
from .batch import DeviceBatch
from .fp8_cache import EIGHT_BY_BITS, cache_bits, cache_kind, cache_scale, product_type


def extend_attention(
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
) -> None:
    """q [T, H, D] over one layer's keys and values [pages, page_size, Hkv, D] -> out [T, H, D].

    Only the rows of `batch.tiles` are written: a step's decoding rows are `decode_attention`'s. The batch's tiles are
    of `survey.tile_tokens` tokens. `scales` [2, Hkv] fp32: what an fp8 cache's keys and values are multiplied by.
    """
    if not batch.tiles:
        return
    kind = cache_kind(keys)
    assert scales is not None or keys.dtype != FP8, "an fp8 cache has scales"
    keys, values = cache_bits(keys), cache_bits(values)
    if q.dtype == torch.float32:  # twice as wide: the table's blocks would not fit
        block_n, stages = min(block_n, 32), 1
    if kind == EIGHT_BY_BITS:  # its arithmetic needs registers
        block_n = min(block_n, 32)
    group = spec.heads // spec.kv_heads
    _extend[(batch.tiles * spec.kv_heads,)](
        q, keys, values, out, q if scales is None else scales,
        batch.tile_sequence, batch.tile_row, batch.query_start, batch.context, batch.pages, batch.page_start,
        spec.scale, spec.softcap or 1.0, spec.window or 0, batch.tiles,
        q.stride(0), q.stride(1), keys.stride(1), keys.stride(2), out.stride(0), out.stride(1),
        HKV=spec.kv_heads, GROUP=group,
        D=spec.head_dim, BLOCK_D=triton.next_power_of_2(spec.head_dim), PAGE=keys.shape[1],
        TOKENS=batch.tile_rows, BLOCK_M=max(16, triton.next_power_of_2(batch.tile_rows * group)), BLOCK_N=block_n,
        WINDOWED=spec.window is not None,
        CAPPED=spec.softcap is not None, EXACT=q.dtype == torch.float32, KIND=kind,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip


@triton.jit(do_not_specialize=["tiles"])  # it changes with every step
def _extend(
    Q, K, V, Out, Scales,
    tile_sequence, tile_row, query_start, context, pages, page_start,
    scale, cap, window, tiles,
    q_row, q_head, k_slot, k_head, o_row, o_head,
    HKV: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    WINDOWED: tl.constexpr, CAPPED: tl.constexpr, EXACT: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    kv_head = program // tiles
    tile = tiles - 1 - program % tiles
    sequence = tl.load(tile_sequence + tile)
    first = tl.load(tile_row + tile)  # of the sequence's rows
    row0 = tl.load(query_start + sequence)
    rows = tl.load(query_start + sequence + 1) - row0
    length = tl.load(context + sequence)
    table = pages + tl.load(page_start + sequence)

    m = tl.arange(0, BLOCK_M)
    token = first + m // GROUP
    head = kv_head * GROUP + m % GROUP
    row = (row0 + token).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    inside = ((m < TOKENS * GROUP) & (token < rows))[:, None] & (d < D)[None, :]
    q = tl.load(Q + row[:, None] * q_row + head[:, None] * q_head + d[None, :], mask=inside, other=0.0)
    q = product_type(q, KIND)
    scale *= cache_scale(Scales, kv_head, 0, HKV, KIND)
    position = length - rows + token  # [M]
    lowest = length - rows + first
    last = tl.minimum(length, lowest + TOKENS)  # no query of the tile sees this key or a later one

    best = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    mixed = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    K += kv_head * k_head
    V += kv_head * k_head
    # blocks begin .. turn and whole .. last are masked; every query of the tile sees all of turn .. whole
    whole = (lowest + 1) // BLOCK_N * BLOCK_N
    low = 0
    begin = 0
    turn = 0
    if WINDOWED:
        low = tl.maximum(0, lowest - window + 1)
        begin = low // BLOCK_N * BLOCK_N
        whole = tl.maximum(whole, begin)
        seen_by_all = tl.maximum(0, lowest + TOKENS - window)
        turn = tl.minimum(whole, (seen_by_all + BLOCK_N - 1) // BLOCK_N * BLOCK_N)
    best, total, mixed = attend(
        q, best, total, mixed, K, V, table, position, turn, whole, low, length, 0, 0,
        scale, cap, window, k_slot, D, BLOCK_D, PAGE, BLOCK_N, False, False, WINDOWED, CAPPED, EXACT, KIND,
    )  # fmt: skip
    gap = whole - turn  # the masked blocks are one loop that leaps over the others
    edge = begin if WINDOWED else whole
    if WINDOWED:
        last -= gap
    best, total, mixed = attend(
        q, best, total, mixed, K, V, table, position, edge, last, low, length, turn, gap,
        scale, cap, window, k_slot, D, BLOCK_D, PAGE, BLOCK_N, True, True, WINDOWED, CAPPED, EXACT, KIND,
    )  # fmt: skip
    share = cache_scale(Scales, kv_head, 1, HKV, KIND) / tl.where(total > 0.0, total, 1.0)
    target = Out + row[:, None] * o_row + head[:, None] * o_head + d[None, :]
    tl.store(target, (mixed * share[:, None]).to(Out.dtype.element_ty), mask=inside)
