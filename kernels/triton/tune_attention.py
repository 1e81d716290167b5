"""What a tuner times of attention: the launches that are worth a try, on a long prompt and on a batch that decodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from ..ops import AttentionSpec, Step
from .batch import DeviceBatch
from .decode_attention import decode_attention
from .extend_attention import extend_attention
from .survey import decode_shape, tile_tokens
from .tuning import Launch
from .variants import Variant, decode_variant, extend_variant

PAGE = 16


@dataclass(frozen=True)
class Candidate:
    """A launch, ready to be run and timed, and what it is compiled to."""

    launch: Launch
    run: Callable[[], object]
    variants: tuple[Variant, ...]  # all of them must be right


@dataclass(frozen=True)
class Sizes:
    """What is run: lengths that fill a device, or a rehearsal's."""

    prompt: int = 8192
    batch: int = 32
    context: int = 8192
    heads: int = 32
    kv_heads: int = 8
    programs: int = 264  # of the decode kernel at a time


def shapes(kernel: str, heads: Iterable[int]) -> Iterator[str]:
    """The table's rows of a kernel for these sizes of heads: see `survey.extend_shape` and `survey.decode_shape`."""
    for head in heads:
        yield f"head {head}"
        yield f"head {head} {'masked' if kernel == 'extend_attention' else 'shared'}"


def extend_candidates(shape: str, device: torch.device, sizes: Sizes) -> Iterator[Candidate]:
    """The prefill kernel on one prompt; masked: with a window and a cap."""
    head, masked = int(shape.split()[1]), shape.endswith("masked")
    spec, q, keys, values, step = _setup([sizes.prompt], [sizes.prompt], head, device, sizes)
    if masked:
        spec = replace(spec, window=max(1, sizes.prompt // 8), softcap=50.0)
    out = torch.empty_like(q)
    for rows, block_n, warps, stages in product((64, 128), (32, 64, 128), (8,) if masked else (4, 8), (2, 3)):
        launch = {"tile_rows": rows, "block_n": block_n, "warps": warps, "stages": stages}
        batch = DeviceBatch.of(step, PAGE, device, tile_rows=tile_tokens(rows, spec), window=spec.window)
        how = {name: value for name, value in launch.items() if name != "tile_rows"}

        def run(batch: DeviceBatch = batch, how: dict[str, Any] = how) -> None:
            extend_attention(q, keys, values, batch, spec, out, **how)

        yield Candidate(launch, run, (extend_variant(head, launch, windowed=masked),))


def decode_candidates(shape: str, device: torch.device, sizes: Sizes) -> Iterator[Candidate]:
    """The decode kernel on a batch that shares nothing, or all but the last page of everything."""
    head, shared = int(shape.split()[1]), shape.endswith("shared")
    ones, contexts = [1] * sizes.batch, [sizes.context] * sizes.batch
    spec, q, keys, values, step = _setup(ones, contexts, head, device, sizes)
    if shared:
        pages = step.pages.copy().reshape(sizes.batch, -1)
        pages[:, :-1] = pages[0, :-1]
        step = replace(step, pages=pages.reshape(-1))
    out = torch.empty_like(q)
    batch = DeviceBatch.of(step, PAGE, device, workers=max(1, sizes.programs // sizes.kv_heads))
    assert batch.cascade is not None and decode_shape(spec, batch.cascade.tile_queries) == shape
    rows = (128 if head < 256 else 64) if shared else 16
    for block_n, warps, stages, unified in product((32, 64, 128), (4, 8), (2, 3), (0, 1) if shared else (0,)):
        launch = {"block_n": block_n, "warps": warps, "stages": stages, "unified": unified}

        def run(how: dict[str, Any] = launch) -> None:
            decode_attention(q, keys, values, batch, spec, out, **how)

        yield Candidate(launch, run, (decode_variant(head, launch, block_m=rows),))


def _setup(
    queries: list[int], contexts: list[int], head: int, device: torch.device, sizes: Sizes
) -> tuple[AttentionSpec, torch.Tensor, torch.Tensor, torch.Tensor, Step]:
    """Random bf16 queries over shuffled pages."""
    spec = AttentionSpec(layer=0, heads=sizes.heads, kv_heads=sizes.kv_heads, head_dim=head, scale=head**-0.5, rope=0)
    counts = [-(-length // PAGE) for length in contexts]
    total = sum(counts)
    positions = [np.arange(c - n, c) for n, c in zip(queries, contexts, strict=True)]
    arrays: Any = (
        np.zeros(sum(queries)), np.concatenate(positions), np.cumsum([0, *queries]), contexts,
        np.random.default_rng(0).permutation(total), np.cumsum([0, *counts]), [],
    )  # fmt: skip
    ints: Any = [np.asarray(array, np.int32) for array in arrays]
    step = Step(*ints)
    generator = torch.Generator(device).manual_seed(0)

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)

    cache = (total, PAGE, sizes.kv_heads, head)
    return spec, values(sum(queries), sizes.heads, head), values(*cache), values(*cache), step
