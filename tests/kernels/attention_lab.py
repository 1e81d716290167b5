"""A laboratory for attention alone: any q, k, v through the compiled core, and what mathematics says about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from ramify.kernels.build import core_library
from ramify.kernels.native import NativeCompute
from ramify.kernels.ops import Activation, AttentionSpec, CacheShape, Ops, Step

POSITIONS = 4096


@dataclass(frozen=True)
class Dense:
    """A parameter in memory."""

    values: torch.Tensor
    format: str = "F32"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def rows(self) -> np.ndarray:
        return self.values.contiguous().numpy().view(np.uint8)

    def dense(self) -> torch.Tensor:
        return self.values.clone()


@dataclass(frozen=True)
class Heads:
    """What one kind of attention looks like."""

    heads: int = 6
    kv_heads: int = 2
    dim: int = 32
    window: int | None = None
    softcap: float | None = None
    normed: bool = False

    @property
    def width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.dim


@dataclass(frozen=True)
class Part:
    """One sequence's share of a step: compute tokens[start:stop] over these pages."""

    tokens: Sequence[int]
    start: int
    stop: int
    pages: Sequence[int]


def step_of(parts: Sequence[Part]) -> Step:
    """The step that computes the parts together and returns every row."""
    rows = [part.stop - part.start for part in parts]
    arrays = (
        [token for part in parts for token in part.tokens[part.start : part.stop]],
        [position for part in parts for position in range(part.start, part.stop)],
        np.cumsum([0, *rows]),
        [part.stop for part in parts],
        [page for part in parts for page in part.pages],
        np.cumsum([0, *(len(part.pages) for part in parts)]),
        range(sum(rows)),
    )
    return Step(*(np.array(array, dtype=np.int32) for array in arrays))


@dataclass
class Lab:
    """Attention whose input rows are those of a random table, row = token: so q, k and v are known. With several
    layers, each attends to the same, in its own cache, and the results are added.

    The cache is full of NaN at first: whatever is read before it is written shows.
    """

    shape: Heads
    mode: str = "fp32"
    page_size: int = 16
    pages: int = 512
    threads: int = 1
    tokens: int = 512
    layers: int = 1
    compute: NativeCompute = field(init=False)

    def __post_init__(self) -> None:
        shape = self.shape
        self.table, self.norms, (self.cos, self.sin) = random_inputs(shape, self.tokens)
        self.compute = NativeCompute(core_library(), self.mode, self.threads)
        ops = self.compute.ops
        norms = [ops.vector(norm) for norm in self.norms] if shape.normed else [None, None]
        spec = AttentionSpec(
            layer=0,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.dim,
            scale=shape.dim**-0.5,
            rope=ops.rope_table(self.cos, self.sin),
            window=shape.window,
            softcap=shape.softcap,
            q_norm=norms[0],
            k_norm=norms[1],
        )
        table = ops.embedding(Dense(self.table))

        def forward(ops: Ops) -> Activation:
            x = ops.embed(table)
            total = ops.attention(x, spec)
            for layer in range(1, self.layers):
                total = ops.add(total, ops.attention(x, replace(spec, layer=layer)))
            return ops.select(total)

        self.compute.allocate(CacheShape(self.layers, shape.kv_heads, shape.dim, self.page_size, self.pages))
        self.compute.cache_memory()[:] = 0xFF  # a NaN in either type
        self._run = self.compute.compile(forward)

    def run(self, *parts: Part) -> list[np.ndarray]:
        """Each part's rows, [rows, H, D]."""
        out = self._run(step_of(parts)).numpy().copy().reshape(-1, self.shape.heads, self.shape.dim)
        return np.split(out, np.cumsum([part.stop - part.start for part in parts])[:-1])

    def expected(self, part: Part) -> np.ndarray:
        """The same in float64, straight from the definition: [rows, H, D]."""
        shape = self.shape
        rows = self.table.numpy().astype(np.float64)[list(part.tokens[: part.stop])]  # [n, width]
        n, group = len(rows), shape.heads // shape.kv_heads
        q, k, v = np.split(rows.reshape(n, -1, shape.dim), [shape.heads, shape.heads + shape.kv_heads], axis=1)
        if shape.normed:
            q, k = (rms_norm(x, w.numpy().astype(np.float64)) for x, w in zip((q, k), self.norms, strict=True))
        q, k = self._rotate(q), self._rotate(k)
        out = np.empty((part.stop - part.start, shape.heads, shape.dim))
        for head in range(shape.heads):
            scores = q[part.start :, head] @ k[:, head // group].T * shape.dim**-0.5  # [rows, n]
            if shape.softcap is not None:
                scores = shape.softcap * np.tanh(scores / shape.softcap)
            query, key = np.arange(part.start, part.stop)[:, None], np.arange(n)[None]
            seen = key <= query
            if shape.window is not None:
                seen &= key > query - shape.window
            scores = np.where(seen, scores, -np.inf)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[:, head] = weights / weights.sum(axis=1, keepdims=True) @ v[:, head // group]
        return out * self.layers

    def _rotate(self, x: np.ndarray) -> np.ndarray:
        cos, sin = (table.numpy().astype(np.float64)[: len(x), None] for table in (self.cos, self.sin))
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rms_norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight


@lru_cache(maxsize=4)
def random_inputs(
    shape: Heads, tokens: int
) -> tuple[torch.Tensor, list[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Rows of q, k, v by token; the norms' weights; cos and sin."""
    generator = torch.Generator().manual_seed(7)
    table = torch.randn((tokens, shape.width), generator=generator)
    norms = [torch.rand(shape.dim, generator=generator) + 0.5 for _ in range(2)]
    frequencies = 10000.0 ** (-torch.arange(0, shape.dim, 2) / shape.dim)
    angles = torch.arange(POSITIONS)[:, None] * frequencies
    return table, norms, (angles.cos(), angles.sin())


def some_tokens(count: int, seed: int, tokens: int = 512) -> list[int]:
    return np.random.default_rng(seed).integers(0, tokens, count).tolist()
