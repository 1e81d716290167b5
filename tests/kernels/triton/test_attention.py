"""Prefill, decode and cascade attention against the plain torch twin, on shapes that break things."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from ramify.kernels.ops import AttentionSpec, Step
from ramify.kernels.torch_attention import StepTensors, paged_attention
from ramify.kernels.triton.batch import DeviceBatch
from ramify.kernels.triton.cascade_plan import cascade_plan
from ramify.kernels.triton.decode_attention import decode_attention
from ramify.kernels.triton.extend_attention import extend_attention, floor

from .close import BOUND, error


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
        if planted == "scales" and scales is not None:
            scales = scales.flip(0)
        batch = DeviceBatch.of(step, self.page_size, self.q.device, tile_rows=16, workers=5, window=spec.window)
        out = torch.full_like(self.q, float("nan"))
        with np.errstate(invalid="ignore"):  # a NaN that is read is to be seen in the result
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


SPEC = AttentionSpec(layer=0, heads=6, kv_heads=2, head_dim=64, scale=0.125, rope=0)
SHAPES: dict[str, tuple[list[int], list[int]]] = {
    "ragged, mixed with decoding": ([5, 1, 70, 1, 3], [5, 40, 100, 1, 67]),
    "one token": ([1], [1]),
    "page crossing": ([2, 17], [17, 33]),
    "long prefix": ([3, 1], [300, 257]),
    "exact tiles": ([16, 32], [16, 64]),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_attention_is_the_twins(shape: str, dtype: torch.dtype, device: torch.device) -> None:
    assert run(ragged(*SHAPES[shape], 16), SPEC, 16, dtype, device) <= BOUND[dtype]


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, window=7),
        replace(SPEC, window=40, heads=2),
        replace(SPEC, softcap=20.0),
        replace(SPEC, softcap=5.0, window=9),
        replace(SPEC, head_dim=80, heads=4, kv_heads=4),
        replace(SPEC, head_dim=96, heads=1, kv_heads=1),
        replace(SPEC, head_dim=128, heads=8, kv_heads=1),
        replace(SPEC, head_dim=256, heads=2, kv_heads=2),
    ],
    ids=lambda spec: f"D{spec.head_dim} H{spec.heads}/{spec.kv_heads} window {spec.window} cap {spec.softcap}",
)
def test_every_kind_of_head(spec: AttentionSpec, device: torch.device) -> None:
    queries, contexts = [5, 1, 33, 1], [5, 40, 60, 9]
    assert run(ragged(queries, contexts, 16), spec, 16, torch.float32, device) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["ragged, mixed with decoding", "long prefix"])
def test_an_fp8_cache_is_read_exactly(name: str, dtype: torch.dtype, device: torch.device) -> None:
    """The twin reads the same bytes, so only the products' own rounding is left."""
    step = ragged(*SHAPES[name], 16)
    assert run(step, SPEC, 16, dtype, device, fp8=True) <= BOUND[dtype]


def test_scales_of_an_fp8_cache_matter(device: torch.device) -> None:
    step = ragged(*SHAPES["page crossing"], 16)
    assert run(step, SPEC, 16, torch.float32, device, fp8=True) <= 1e-5
    assert run(step, SPEC, 16, torch.float32, device, fp8=True, planted="scales") > 1e-2


@pytest.mark.parametrize("page_size", [1, 4, 16, 128])
def test_every_size_of_page(page_size: int, device: torch.device) -> None:
    assert run(ragged([4, 1, 20], [30, 35, 20], page_size), SPEC, page_size, torch.float32, device) <= 1e-5


@pytest.mark.parametrize("planted", ["context", "pages", "scale"])
@pytest.mark.parametrize("shape", ["ragged, mixed with decoding", "long prefix"])
def test_a_planted_mistake_is_seen(planted: str, shape: str, device: torch.device) -> None:
    assert run(ragged(*SHAPES[shape], 16), SPEC, 16, torch.float32, device, planted=planted) > 1e-5


def test_scores_that_overflow_a_plain_softmax(device: torch.device) -> None:
    spec = replace(SPEC, scale=60.0)
    assert run(ragged([3, 1], [40, 50], 16), spec, 16, torch.float32, device) <= 1e-4  # scores of thousands


# -- shared prefixes --------------------------------------------------------------------------------------------------

TREES = {  # contexts, pages shared with the first sequence
    "all alike": ([200, 210, 222, 205], [0, 8, 8, 8]),
    "three levels": ([300, 310, 290, 305, 320, 150], [0, 16, 16, 8, 8, 4]),
    "one is a prefix of another": ([128, 160, 200], [0, 8, 8]),
    "nothing shared": ([50, 60, 70], [0, 0, 0]),
    "too short to be worth it": ([50, 60], [0, 1]),
}


@pytest.mark.parametrize("name", TREES)
def test_a_shared_prefix_changes_nothing_but_the_bytes_read(name: str, device: torch.device) -> None:
    contexts, shared = TREES[name]
    step = ragged([1] * len(contexts), contexts, 16, shared)
    assert run(step, SPEC, 16, torch.float32, device) <= 1e-5


def distinct_keys(step: Step, page_size: int) -> int:
    """The keys that a batch needs, each counted once however many read it."""
    found = set()
    for s, length in enumerate(step.context.tolist()):
        table = step.pages[step.page_start[s] :]
        found |= {(int(table[position // page_size]), position % page_size) for position in range(length)}
    return len(found)


def test_a_tree_reads_its_prefix_once() -> None:
    step = ragged([1] * 32, [2048 + 64 + 7 * i for i in range(32)], 16, [0] + [128] * 31)
    plan = cascade_plan(step, np.arange(32, dtype=np.int32), 16, workers=8)
    needed = distinct_keys(step, 16)
    assert needed < step.context.sum() / 9
    assert plan.keys_read <= 1.05 * needed


def test_a_deep_tree_reads_every_level_once() -> None:
    shared = [0, *([64] * 15), *([32] * 16)]  # two families under one root, the first one deeper
    step = ragged([1] * 32, [1024 + 100 + i for i in range(32)], 16, shared)
    plan = cascade_plan(step, np.arange(32, dtype=np.int32), 16, workers=8)
    assert plan.keys_read <= 1.05 * distinct_keys(step, 16)


def test_the_floor_counts_what_is_seen() -> None:
    spec = replace(SPEC, heads=2, kv_heads=1, head_dim=10)
    counted = floor([3], [5], spec, width=2, tile_rows=16)  # queries at 2, 3, 4 see 3, 4 and 5 keys
    assert counted.operations == 4 * (3 + 4 + 5) * 2 * 10
    assert counted.bytes == (2 * 5 * 1 + 2 * 3 * 2) * 10 * 2
    assert floor([3], [5], replace(spec, window=2), width=2, tile_rows=16).operations == 4 * (2 + 2 + 2) * 2 * 10
