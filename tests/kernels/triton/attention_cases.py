"""Steps over random queries and caches, what the kernels make of them, and how far that is from the twin."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from ramify.kernels.ops import AttentionSpec, Step
from ramify.kernels.torch_attention import StepTensors, paged_attention
from ramify.kernels.triton.batch import DeviceBatch
from ramify.kernels.triton.decode_attention import decode_attention
from ramify.kernels.triton.extend_attention import extend_attention

from .close import error

SPEC = AttentionSpec(layer=0, heads=6, kv_heads=2, head_dim=64, scale=0.125, rope=0)


def ragged(queries: list[int], contexts: list[int], page_size: int, shared: list[int] | None = None) -> Step:
    """A step whose sequences have pages in random places; sequence s begins with `shared[s]` pages of the first one."""
    rng = np.random.default_rng(1)
    counts = [-(-length // page_size) for length in contexts]
    places = np.split(rng.permutation(sum(counts)), np.cumsum(counts)[:-1])
    for s, pages in enumerate(shared or []):
        places[s][:pages] = places[0][:pages]
    positions = [np.arange(length - rows, length) for rows, length in zip(queries, contexts, strict=True)]

    def ints(values: object) -> np.ndarray:
        return np.asarray(values, np.int32)

    return Step(
        tokens=ints(np.zeros(sum(queries))),
        positions=ints(np.concatenate(positions)),
        query_start=ints(np.cumsum([0, *queries])),
        context=ints(contexts),
        pages=ints(np.concatenate(places)),
        page_start=ints(np.cumsum([0, *counts])),
        logit_rows=ints([]),
    )


@dataclass(frozen=True)
class Case:
    """A step over random queries and a random cache; pages and queries beyond what the step reads are NaN."""

    step: Step
    spec: AttentionSpec
    page_size: int
    q: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    scales: torch.Tensor | None

    @classmethod
    def of(
        cls,
        step: Step,
        spec: AttentionSpec,
        page_size: int,
        dtype: torch.dtype,
        device: torch.device,
        fp8: bool = False,
    ) -> Case:
        generator = torch.Generator().manual_seed(0)

        def values(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator).to(device, dtype)

        rows, pages = int(step.query_start[-1]), int(step.pages.max(initial=0)) + 1
        q = values(rows, spec.heads, spec.head_dim)
        k = values(pages, page_size, spec.kv_heads, spec.head_dim)
        v = values(pages, page_size, spec.kv_heads, spec.head_dim)
        scales = None
        if fp8:
            scales = torch.linspace(0.5, 2.0, 2 * spec.kv_heads, device=device).view(2, spec.kv_heads)
            k, v = k.to(torch.float8_e4m3fn), v.to(torch.float8_e4m3fn)
        unread(step, spec, page_size, k)
        unread(step, spec, page_size, v)
        return cls(step, spec, page_size, q, k, v, scales)

    def expected(self) -> torch.Tensor:
        """The twin's answer, in fp32."""
        tensors = StepTensors.from_step(self.step, self.page_size, self.q.device)
        k, v = self.keys, self.values
        if self.scales is None:
            k, v = k.float(), v.float()
        return paged_attention(self.q.float(), k, v, tensors, self.spec, self.scales)

    def error(self, planted: str = "", **launch: int) -> float:
        """The kernels' largest error against the twin; `planted` names a mistake to make."""
        step, spec, scales = self.step, self.spec, self.scales
        if planted == "context":
            step = replace(step, context=np.maximum(1, step.context - 1))
        if planted == "pages":
            step = replace(step, pages=np.roll(step.pages, 1))
        if planted == "scale":
            spec = replace(spec, scale=spec.scale * 1.02)
        if planted == "cap" and spec.softcap is not None:
            spec = replace(spec, softcap=spec.softcap * 1.02)
        if planted == "window" and spec.window is not None:
            spec = replace(spec, window=spec.window - 1)
        if planted == "scales" and scales is not None:
            scales = scales.flip(0)
        batch = DeviceBatch.of(step, self.page_size, self.q.device, tile_rows=16, workers=5, window=spec.window)
        out = torch.full_like(self.q, float("nan"))
        with warnings.catch_warnings():  # a NaN that is read is to be seen in the result
            warnings.simplefilter("ignore", RuntimeWarning)
            extend_attention(self.q, self.keys, self.values, batch, spec, out, scales=scales, block_n=32)
            decode_attention(self.q, self.keys, self.values, batch, spec, out, scales=scales, block_n=32, **launch)
        return error(out.float(), self.expected())


def unread(step: Step, spec: AttentionSpec, page_size: int, cache: torch.Tensor) -> None:
    """Makes every slot NaN that no query of the step sees."""
    read = torch.zeros(cache.shape[:2], dtype=torch.bool)
    for s, length in enumerate(step.context.tolist()):
        rows = int(step.query_start[s + 1] - step.query_start[s])
        low = 0 if spec.window is None else max(0, length - rows - spec.window + 1)
        table = step.pages[step.page_start[s] :]
        for position in range(low, length if rows else 0):
            read[int(table[position // page_size]), position % page_size] = True
    if cache.dtype == torch.float8_e4m3fn:
        cache.view(torch.uint8)[~read] = 0x7F
    else:
        cache[~read] = float("nan")


def run(
    step: Step,
    spec: AttentionSpec,
    page_size: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    planted: str = "",
    fp8: bool = False,
    **launch: int,
) -> float:
    return Case.of(step, spec, page_size, dtype, device, fp8).error(planted, **launch)
