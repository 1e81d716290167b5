"""Attention of many new tokens over paged keys: FlashAttention-2 with ragged batches and cached prefixes.

    for each tile of BLOCK_M queries of one sequence, for each head:
        for each block of BLOCK_N keys that any of them sees:          pages are looked up key by key
            scores = q k^T; the running maximum and sum are updated; the accumulator is rescaled
        output = accumulator / sum                                     divided once, at the end

Floor: 4 T C H D operations over all visible pairs (half of that when causal), and each key and value read once for
each query tile: see `floor`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ..ops import AttentionSpec
from .attention_tile import attend
from .batch import DeviceBatch


@dataclass(frozen=True, slots=True)
class Floor:
    """What a kernel cannot do without: arithmetic and bytes to and from memory."""

    operations: int
    bytes: int


def extend_attention(
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
    """q [T, H, D] over one layer's keys and values [pages, page_size, Hkv, D] -> out [T, H, D].

    Only the rows of `batch.tiles` are written: a step's decoding rows are `decode_attention`'s.
    """
    if not batch.tiles:
        return
    grid = (batch.tiles, spec.heads)
    _extend[grid](
        q, keys, values, out,
        batch.tile_sequence, batch.tile_row, batch.query_start, batch.context, batch.pages, batch.page_start,
        spec.scale, spec.softcap or 1.0, spec.window or 0,
        q.stride(0), q.stride(1), keys.stride(1), keys.stride(2), out.stride(0), out.stride(1),
        GROUP=spec.heads // spec.kv_heads, D=spec.head_dim, BLOCK_D=triton.next_power_of_2(spec.head_dim),
        PAGE=keys.shape[1], BLOCK_M=batch.tile_rows, BLOCK_N=block_n,
        WINDOWED=spec.window is not None, CAPPED=spec.softcap is not None, EXACT=q.dtype == torch.float32,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip


@triton.jit
def _extend(
    Q, K, V, Out,
    tile_sequence, tile_row, query_start, context, pages, page_start,
    scale, cap, window,
    q_row, q_head, k_slot, k_head, o_row, o_head,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    WINDOWED: tl.constexpr, CAPPED: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    head = tl.program_id(1)
    sequence = tl.load(tile_sequence + tile)
    first = tl.load(tile_row + tile)  # of the sequence's rows
    row0 = tl.load(query_start + sequence)
    rows = tl.load(query_start + sequence + 1) - row0
    length = tl.load(context + sequence)
    table = pages + tl.load(page_start + sequence)

    m = first + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    inside = (m < rows)[:, None] & (d < D)[None, :]
    q = tl.load(Q + (row0 + m)[:, None].to(tl.int64) * q_row + head * q_head + d[None, :], mask=inside, other=0.0)
    position = length - rows + m  # [M]
    lowest = length - rows + first
    last = tl.minimum(length, lowest + BLOCK_M)

    best = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    mixed = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    head_k = K + (head // GROUP) * k_head
    head_v = V + (head // GROUP) * k_head
    begin = 0
    if WINDOWED:
        begin = tl.maximum(0, lowest - window + 1) // BLOCK_N * BLOCK_N
        whole = begin
    else:
        whole = (lowest + 1) // BLOCK_N * BLOCK_N  # every query of the tile sees every key before this one
    best, total, mixed = attend(
        q, best, total, mixed, head_k, head_v, table, position, begin, whole, length, scale, cap, window, k_slot,
        D, BLOCK_D, PAGE, BLOCK_N, False, WINDOWED, CAPPED, EXACT,
    )  # fmt: skip
    best, total, mixed = attend(
        q, best, total, mixed, head_k, head_v, table, position, whole, last, length, scale, cap, window, k_slot,
        D, BLOCK_D, PAGE, BLOCK_N, True, WINDOWED, CAPPED, EXACT,
    )  # fmt: skip
    result = mixed / tl.where(total > 0.0, total, 1.0)[:, None]
    target = Out + (row0 + m)[:, None].to(tl.int64) * o_row + head * o_head + d[None, :]
    tl.store(target, result.to(Out.dtype.element_ty), mask=inside)


def floor(queries: list[int], contexts: list[int], spec: AttentionSpec, width: int, tile_rows: int) -> Floor:
    """The least that sequences of these lengths need; `width` is the bytes of one number."""
    pairs = keys_read = 0
    for rows, length in zip(queries, contexts, strict=True):
        first = length - rows
        seen = [min(p + 1, spec.window or p + 1) for p in range(first, length)]
        pairs += sum(seen)
        for tile in range(0, rows, tile_rows):
            low = 0 if spec.window is None else max(0, first + tile - spec.window + 1)
            keys_read += min(length, first + tile + tile_rows) - low
    moved = 2 * keys_read * spec.kv_heads + 2 * sum(queries) * spec.heads
    return Floor(operations=4 * pairs * spec.heads * spec.head_dim, bytes=moved * spec.head_dim * width)
