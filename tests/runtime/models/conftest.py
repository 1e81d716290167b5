"""Runs whole models step by step, on everything that claims to be exact, for the tests that compare logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pytest
import torch
from ramify.kernels import compute
from ramify.kernels.native import NativeCompute
from ramify.kernels.ops import CacheShape, Compute, Step
from ramify.kernels.torch_compute import TorchCompute
from ramify.runtime.models.registry import load
from ramify.runtime.weights.config import ModelConfig
from ramify.runtime.weights.source import WeightSource

MakeCompute = Callable[[], Compute]


@pytest.fixture(params=["torch", "native"])
def exact_compute(request: pytest.FixtureRequest) -> MakeCompute:
    """Makes a new compute, once for each kind that claims to be exact."""
    return maker_of(request.param)


@pytest.fixture(params=["torch-1", "torch-4", "torch-16", "native-16", "native-48"])
def paged_compute(request: pytest.FixtureRequest) -> tuple[MakeCompute, int]:
    """The same with a page size; the compiled core's are multiples of 16."""
    kind, page_size = request.param.split("-")
    return maker_of(kind), int(page_size)


def maker_of(kind: str) -> MakeCompute:
    if kind == "torch":
        return lambda: TorchCompute("fp32")
    place = compute("cpu", "fp32", threads=2)
    if not isinstance(place, NativeCompute):
        pytest.skip(f"no compiled core here: {place.summary}")
    return lambda: compute("cpu", "fp32", threads=2)


@pytest.fixture(scope="session")
def runner() -> type[Runner]:
    return Runner


class Runner:
    """Feeds chunks of sequences to a model, giving out shuffled pages as they grow."""

    def __init__(
        self, config: ModelConfig, source: WeightSource, place: Compute, *, page_size: int = 16, pages: int = 256
    ):
        model = load(config, source, place.ops)
        place.allocate(CacheShape(config.layers, config.kv_heads, config.head_dim, page_size, pages))
        self.run = place.compile(model)
        self.page_size = page_size
        self.free = np.random.default_rng(0).permutation(pages).tolist()
        self.tables: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}

    def step(self, chunks: Mapping[int, Sequence[int]], rows: Sequence[int] | None = None) -> torch.Tensor:
        """One step over `chunks` (tokens by sequence); the logits of `rows`, or of every row."""
        starts = {sequence: self.lengths.get(sequence, 0) for sequence in chunks}
        for sequence, tokens in chunks.items():
            table = self.tables.setdefault(sequence, [])
            self.lengths[sequence] = starts[sequence] + len(tokens)
            while len(table) * self.page_size < self.lengths[sequence]:
                table.append(self.free.pop())
        total = sum(map(len, chunks.values()))
        step = Step(
            tokens=ints(token for tokens in chunks.values() for token in tokens),
            positions=ints(starts[s] + i for s, tokens in chunks.items() for i in range(len(tokens))),
            query_start=ints(np.cumsum([0, *map(len, chunks.values())])),
            context=ints(self.lengths[sequence] for sequence in chunks),
            pages=ints(page for sequence in chunks for page in self.tables[sequence]),
            page_start=ints(np.cumsum([0, *(len(self.tables[sequence]) for sequence in chunks)])),
            logit_rows=ints(range(total) if rows is None else rows),
        )
        return self.run(step).clone()

    def whole(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """The logits of whole prompts, computed together on pages that are given back."""
        logits = self.step(dict(enumerate(prompts)))
        for sequence in range(len(prompts)):
            self.free += self.tables.pop(sequence)
            del self.lengths[sequence]
        return logits


def ints(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, dtype=np.int32)
