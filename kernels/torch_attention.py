"""Paged attention in plain torch: rotate, gather a sequence's pages, attend. What compiled cores are tested against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .ops import AttentionSpec, Step


@dataclass(frozen=True, slots=True)
class Sequence:
    """One sequence's share of a step: rows start .. stop, the last `stop - start` of its `context` tokens."""

    start: int
    stop: int
    context: int
    pages: torch.Tensor  # [pages of the sequence], int64


@dataclass(frozen=True, slots=True)
class StepTensors:
    """A step's integers where torch wants them: int64, on the device that computes."""

    tokens: torch.Tensor  # [T]
    positions: torch.Tensor  # [T]
    slots: torch.Tensor  # [T]: where each row's k and v go, page * page_size + offset
    logit_rows: torch.Tensor  # [R]
    sequences: tuple[Sequence, ...]

    @classmethod
    def from_step(
        cls, step: Step, page_size: int, device: torch.device, chosen: torch.Tensor | None = None
    ) -> StepTensors:
        """Copies the step to the device and finds every row's slot; tokens that follow draws come from `chosen`."""
        rows = np.diff(step.query_start)  # [S]
        sequence_of = np.repeat(np.arange(len(rows)), rows)  # [T]
        page_of = step.pages[step.page_start[sequence_of] + step.positions // page_size]  # [T]
        slots = page_of.astype(np.int64) * page_size + step.positions % page_size

        def on_device(values: np.ndarray[Any, np.dtype[Any]]) -> torch.Tensor:
            return torch.from_numpy(values.astype(np.int64)).to(device)

        pages = on_device(step.pages)
        sequences = tuple(
            Sequence(
                start=int(step.query_start[s]),
                stop=int(step.query_start[s + 1]),
                context=int(step.context[s]),
                pages=pages[int(step.page_start[s]) : int(step.page_start[s + 1])],
            )
            for s in range(len(rows))
        )
        tokens = on_device(step.tokens)
        if step.follows is not None:
            assert chosen is not None, "a step follows draws, but nothing was drawn"
            follows = on_device(step.follows)  # [T]
            tokens = torch.where(follows < 0, tokens, chosen[follows.clamp(min=0)].clamp(min=0))
        return cls(tokens, on_device(step.positions), on_device(slots), on_device(step.logit_rows), sequences)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """RoPE by halves: x [T, heads, D], cos and sin [T, 1, D / 2] fp32 -> a new tensor like x."""
    first, second = x.float().chunk(2, dim=-1)  # [T, heads, D / 2] each
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


FP8 = torch.float8_e4m3fn
FP8_LARGEST = 448.0


def store(pages: torch.Tensor, slots: torch.Tensor, x: torch.Tensor, scale: torch.Tensor | None = None) -> None:
    """x [T, Hkv, D] goes to these slots of [pages, page_size, Hkv, D]; in fp8 divided by `scale` [Hkv], saturated."""
    if pages.dtype == FP8:
        wide = x.float() if scale is None else x.float() / scale[:, None]
        bits = wide.clamp(-FP8_LARGEST, FP8_LARGEST).to(FP8).view(torch.uint8)
        pages.view(torch.uint8).flatten(0, 1)[slots] = bits  # torch indexes bytes, and no fp8
    else:
        pages.flatten(0, 1)[slots] = x.to(pages.dtype)


def paged_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    step: StepTensors,
    spec: AttentionSpec,
    scales: torch.Tensor | None = None,
) -> torch.Tensor:
    """[T, H, D] -> [T, H, D], over one layer's keys and values, [pages, page_size, Hkv, D], the step's own included.

    `scales` [2, Hkv]: what the keys and values of an fp8 cache are multiplied by.
    """
    attend: Callable[..., torch.Tensor] = softmax_attention if spec.softcap is not None else fused_attention
    output = torch.empty_like(q)
    for sequence in step.sequences:
        first = sequence.context - (sequence.stop - sequence.start)  # position of the first query
        low = 0 if spec.window is None else max(0, first - spec.window + 1)  # the oldest key that any query sees
        k = gather(keys, sequence, low)  # [C - low, Hkv, D]
        v = gather(values, sequence, low)
        if keys.dtype == FP8:
            k, v = (x.float() if scales is None else x.float() * scales[i, :, None] for i, x in enumerate((k, v)))
        k, v = k.to(q.dtype), v.to(q.dtype)
        mask = visible(first - low, sequence.context - low, spec.window, q.device)
        output[sequence.start : sequence.stop] = attend(q[sequence.start : sequence.stop], k, v, mask, spec)
    return output


def gather(pages: torch.Tensor, sequence: Sequence, low: int) -> torch.Tensor:
    """The rows low .. context of a sequence, from [pages, page_size, Hkv, D]: [context - low, Hkv, D]."""
    page_size = pages.shape[1]
    skipped = low // page_size
    used = -(-sequence.context // page_size)
    numbers = pages.view(torch.uint8) if pages.dtype == FP8 else pages  # torch indexes bytes, and no fp8
    rows = numbers.index_select(0, sequence.pages[skipped:used]).view(pages.dtype).flatten(0, 1)
    return rows[low - skipped * page_size : sequence.context - skipped * page_size]


def visible(first: int, keys: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which key each query at first .. keys sees, [queries, keys]; None when one query sees every key."""
    if keys - first == 1:
        return None
    distance = torch.arange(first, keys, device=device)[:, None] - torch.arange(keys, device=device)  # [n, C]
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


def fused_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, spec: AttentionSpec
) -> torch.Tensor:
    """q [n, H, D], k and v [C, Hkv, D] -> [n, H, D], by torch's fused kernel."""
    heads = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        k.transpose(0, 1)[None],
        v.transpose(0, 1)[None],
        attn_mask=mask,
        scale=spec.scale,
        enable_gqa=spec.heads != spec.kv_heads,
    )  # [1, H, n, D]
    return heads[0].transpose(0, 1)


def softmax_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, spec: AttentionSpec
) -> torch.Tensor:
    """The same by the definition, with the scores capped where the layer asks for it."""
    n, heads, dim = q.shape
    grouped = q.view(n, spec.kv_heads, heads // spec.kv_heads, dim).float()  # [n, Hkv, G, D]
    scores = torch.einsum("nhgd,chd->hgnc", grouped, k.float()) * spec.scale  # [Hkv, G, n, C]
    if spec.softcap is not None:
        scores = spec.softcap * torch.tanh(scores / spec.softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    mixed = torch.einsum("hgnc,chd->nhgd", scores.softmax(dim=-1), v.float())  # [n, Hkv, G, D]
    return mixed.reshape(n, heads, dim).to(q.dtype)
