"""Attention over pages, set up as the engine calls it: the only place here that knows the kernels' arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ramify.kernels.ops import AttentionSpec, Step
from ramify.kernels.triton.batch import DeviceBatch
from ramify.kernels.triton.cascade_plan import cascade_plan
from ramify.kernels.triton.compute import PROGRAMS_PER_PROCESSOR
from ramify.kernels.triton.decode_attention import decode_attention
from ramify.kernels.triton.extend_attention import extend_attention
from ramify.kernels.triton.survey import decode_shape, extend_shape, tile_tokens
from ramify.kernels.triton.tuning import launch

from .scene import Scene

FP8 = torch.float8_e4m3fn
ALONE = 1 << 30  # as a window: sequences with windows are never planned together


@dataclass(frozen=True)
class Paged:
    """Queries over sequences whose keys lie in pages, with what is needed to run and to check them."""

    scene: Scene
    spec: AttentionSpec
    step: Step
    page_size: int
    q: torch.Tensor  # [T, H, D]
    keys: torch.Tensor  # [pages, page_size, Hkv, D]
    values: torch.Tensor

    @property
    def workers(self) -> int:
        """As the engine has them."""
        return self.workers_for(PROGRAMS_PER_PROCESSOR)

    def workers_for(self, programs: int) -> int:
        """With so many programs on a processor; each worker reads for one head of keys at a time."""
        if self.scene.rehearsal:
            return 2 * programs
        processors = torch.cuda.get_device_properties(self.scene.device).multi_processor_count
        return max(1, programs * processors // self.spec.kv_heads)

    @property
    def scales(self) -> torch.Tensor | None:
        """Of an fp8 cache, [2, Hkv]: ones."""
        if self.keys.dtype != FP8:
            return None
        return torch.ones(2, self.spec.kv_heads, device=self.keys.device)

    def in_fp8(self) -> Paged:
        """The same with its keys and values rounded to e4m3."""
        return replace(self, keys=self.keys.to(FP8), values=self.values.to(FP8))

    def extend(self) -> tuple[Callable[[], object], torch.Tensor]:
        """The prefill kernel, ready to run, and where its result goes."""
        how = dict(launch("extend_attention", self.q.device, extend_shape(self.spec)))
        batch = DeviceBatch.of(
            self.step, self.page_size, self.q.device, tile_rows=tile_tokens(how.pop("tile_rows"), self.spec)
        )
        out = torch.full_like(self.q, float("nan"))
        return lambda: extend_attention(self.q, self.keys, self.values, batch, self.spec, out, **how), out

    def decode(
        self, *, workers: int | None = None, shared: bool = True, **changed: int
    ) -> tuple[Callable[[], object], torch.Tensor, int]:
        """The decode kernel, where its result goes, and the keys that its plan reads; `changed` of its launch."""
        window = None if shared else ALONE
        count = workers or self.workers
        batch = DeviceBatch.of(self.step, self.page_size, self.q.device, workers=count, window=window)
        readers = 1 if batch.cascade is None else batch.cascade.tile_queries
        how: dict[str, Any] = {
            **launch("decode_attention", self.q.device, decode_shape(self.spec, readers)), **changed,
            "scales": self.scales,
        }  # fmt: skip
        everybody = np.arange(len(self.step.context), dtype=np.int32)
        keys = cascade_plan(self.step, everybody, self.page_size, count, window).keys_read
        out = torch.full_like(self.q, float("nan"))

        def run() -> None:
            decode_attention(self.q, self.keys, self.values, batch, self.spec, out, **how)

        return run, out, keys

    def gathered(self, sequence: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One sequence's keys and values, laid end to end: [C, Hkv, D] each."""
        table = self.step.pages[self.step.page_start[sequence] : self.step.page_start[sequence + 1]]
        pages = torch.from_numpy(table.astype(np.int64)).to(self.q.device)
        length = int(self.step.context[sequence])
        return (
            self.keys[pages].flatten(0, 1)[:length],
            self.values[pages].flatten(0, 1)[:length],
        )


def paged(
    scene: Scene,
    queries: list[int],
    contexts: list[int],
    *,
    page_size: int = 16,
    shared: int = 0,
    in_order: bool = False,
) -> Paged:
    """Sequences of these lengths at the shape of Llama 3 8B's heads; `shared` tokens of prefix are the same pages."""
    heads, kv_heads, head_dim = scene.pick((32, 8, 128), (4, 2, 64))
    own = [-(-(length - shared) // page_size) for length in contexts]
    prefix = shared // page_size
    count = prefix + sum(own)
    places = np.arange(count) if in_order else np.random.default_rng(0).permutation(count)
    tables = [np.concatenate((places[:prefix], part)) for part in np.split(places[prefix:], np.cumsum(own)[:-1])]
    step = Step(
        tokens=_ints(np.zeros(sum(queries))),
        positions=_ints(np.concatenate([np.arange(c - n, c) for n, c in zip(queries, contexts, strict=True)])),
        query_start=_ints(np.cumsum([0, *queries])),
        context=_ints(contexts),
        pages=_ints(np.concatenate(tables)),
        page_start=_ints(np.cumsum([0, *map(len, tables)])),
        logit_rows=_ints([]),
    )
    spec = AttentionSpec(layer=0, heads=heads, kv_heads=kv_heads, head_dim=head_dim, scale=head_dim**-0.5, rope=0)
    return Paged(
        scene, spec, step, page_size, scene.randn(sum(queries), heads, head_dim),
        scene.randn(count, page_size, kv_heads, head_dim), scene.randn(count, page_size, kv_heads, head_dim),
    )  # fmt: skip


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference by the largest value, as the tests have it; infinite where something was not written."""
    if not bool(found.isfinite().all()):
        return float("inf")
    return float((found.float() - expected.float()).abs().max() / expected.float().abs().max())


def _ints(values: object) -> np.ndarray:
    return np.asarray(values, np.int32)
