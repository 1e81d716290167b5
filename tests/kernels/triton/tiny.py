"""A model of two layers, one of them with a sliding window, small enough for Triton's interpreter; and steps for it."""

from __future__ import annotations

import numpy as np
import torch
from ramify.kernels.ops import Activation, AttentionSpec, CacheShape, Compute, Forward, Ops, Step

WIDTH, HEADS, KV_HEADS, HEAD, VOCABULARY = 32, 4, 2, 16, 50
PAGE, PAGES, POSITIONS = 4, 96, 256
SHAPE = CacheShape(layers=2, kv_heads=KV_HEADS, head_dim=HEAD, page_size=PAGE, pages=PAGES)


class Dense:
    """A parameter in memory."""

    format = "F32"

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values
        self.shape = tuple(values.shape)

    def rows(self) -> np.ndarray:
        raise NotImplementedError

    def dense(self) -> torch.Tensor:
        return self.values


def packed(ops: Ops, windows: tuple[int | None, ...] = (None, 7)) -> Forward:
    """The model, always the same one; a layer for each window."""
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> Dense:
        return Dense(torch.randn((rows, columns), generator=generator) / columns**0.5)

    angles = torch.arange(float(POSITIONS))[:, None] * torch.logspace(0, -3, HEAD // 2)
    rope = ops.rope_table(angles.cos(), angles.sin())
    table = ops.embedding(Dense(torch.randn((VOCABULARY, WIDTH), generator=generator)))
    norm = ops.vector(torch.rand(WIDTH, generator=generator) + 0.5)
    layers = [
        (
            AttentionSpec(i, HEADS, KV_HEADS, HEAD, scale=0.25, rope=rope, window=window),
            ops.linear([matrix((HEADS + 2 * KV_HEADS) * HEAD, WIDTH)], name=f"qkv {i}"),
            ops.linear([matrix(WIDTH, HEADS * HEAD)], name=f"output {i}"),
            ops.linear([matrix(2 * WIDTH, WIDTH)], name=f"gate_up {i}"),
            ops.linear([matrix(WIDTH, WIDTH)], name=f"down {i}"),
        )
        for i, window in enumerate(windows)
    ]

    def forward(ops: Ops) -> Activation:
        x = ops.embed(table)
        for spec, qkv, output, gate_up, down in layers:
            x = ops.matmul(ops.attention(ops.matmul(ops.rms_norm(x, norm, 1e-5), qkv), spec), output, x)
            gates = ops.matmul(ops.rms_norm(x, norm, 1e-5), gate_up)
            x = ops.add(x, ops.rms_norm(ops.matmul(ops.gated(gates, "silu"), down), norm, 1e-5))
        return ops.matmul(ops.rms_norm(ops.select(x), norm, 1e-5), table)

    return forward


def ready(compute: Compute) -> Compute:
    """With its cache, whose pages are poisoned: a key that nobody wrote and somebody reads shows."""
    compute.allocate(SHAPE)
    cache_of(compute).fill_(float("nan"))
    return compute


def cache_of(compute: Compute) -> torch.Tensor:
    cache: torch.Tensor = compute._memory.cache  # type: ignore[attr-defined]
    return cache


def ints(values: object) -> np.ndarray:
    return np.asarray(values, np.int32)


class Tables:
    """Sequences with their pages: what a scheduler would keep."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.free = self.rng.permutation(PAGES).tolist()
        self.pages: list[list[int]] = []
        self.lengths: list[int] = []

    def fork(self, of: int, pages: int) -> int:
        """A sequence that begins with so many pages of another."""
        self.pages.append(self.pages[of][:pages])
        self.lengths.append(pages * PAGE)
        return len(self.pages) - 1

    def cached(self, length: int, *caches: torch.Tensor) -> int:
        """A sequence whose tokens are in these caches already, the same in all."""
        sequence = self.new()
        self.step([sequence], rows=length)
        pages = torch.from_numpy(ints(self.pages[sequence])).long()
        for cache in caches:
            values = torch.randn(cache[:, :, pages].shape, generator=torch.Generator().manual_seed(1))
            cache[:, :, pages.to(cache.device)] = values.to(cache)
        return sequence

    def new(self) -> int:
        self.pages.append([])
        self.lengths.append(0)
        return len(self.pages) - 1

    def step(self, sequences: list[int], rows: int = 1, follows: list[int] | None = None) -> Step:
        """So many more tokens of each; the logits of the last ones."""
        for s in sequences:
            self.lengths[s] += rows
            while len(self.pages[s]) * PAGE < self.lengths[s]:
                self.pages[s].append(self.free.pop())
        count = len(sequences)
        starts = np.arange(count + 1) * rows
        return Step(
            tokens=ints(self.rng.integers(0, VOCABULARY, count * rows)),
            positions=ints(np.concatenate([np.arange(self.lengths[s] - rows, self.lengths[s]) for s in sequences])),
            query_start=ints(starts),
            context=ints([self.lengths[s] for s in sequences]),
            pages=ints(np.concatenate([self.pages[s] for s in sequences])),
            page_start=ints(np.cumsum([0, *(len(self.pages[s]) for s in sequences)])),
            logit_rows=ints(starts[1:] - 1),
            follows=None if follows is None else ints(follows),
        )
