"""Walks through a model's forward pass without computing, to know what its layers will ask of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..ops import Activation, AttentionSpec, Forward, Gate, Linear, Ops, Stored, Vector
from .tuning import launch


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model's layers ask of every step, in no order."""

    windows: tuple[int | None, ...]  # what a decoding query sees depends on it
    tile_rows: tuple[int, ...]  # into how many tokens prefilling sequences are cut
    kv_heads: int  # the most of any layer: each head is a worker of its own


def survey(forward: Forward, device: torch.device) -> Needs:
    """What this forward pass needs on this device. Raises NotImplementedError for what `TritonOps` cannot run."""
    walk = Survey()
    forward(walk)
    specs = walk.specs
    tiles = {tile_tokens(launch("extend_attention", device, extend_shape(spec))["tile_rows"], spec) for spec in specs}
    return Needs(
        windows=tuple(dict.fromkeys(spec.window for spec in specs)),
        tile_rows=tuple(sorted(tiles)),
        kv_heads=max((spec.kv_heads for spec in specs), default=1),
    )


def extend_shape(spec: AttentionSpec) -> str:
    """A layer's prefill as the tuning table has it: windows, caps and heads of odd sizes need registers for masks."""
    plain = spec.window is None and spec.softcap is None and spec.head_dim & (spec.head_dim - 1) == 0
    return f"head {spec.head_dim}" + ("" if plain else " masked")


def decode_shape(spec: AttentionSpec, tile_queries: int) -> str:
    """A layer's decoding as the tuning table has it: pieces with several readers have larger products."""
    return f"head {spec.head_dim}" + ("" if tile_queries == 1 else " shared")


def tile_tokens(rows: int, spec: AttentionSpec) -> int:
    """The tokens of a tile whose products have so many rows: a token has a row for each head of a group."""
    return max(1, rows // (spec.heads // spec.kv_heads))


class Survey(Ops):
    """Activations are nothing but names. An addend is spent: `TritonOps.add` writes the sum in its place."""

    def __init__(self) -> None:
        self.specs: list[AttentionSpec] = []
        self._spent: list[object] = []

    def _after(self, *read: object) -> object:
        """A new activation, made from those that are read."""
        if any(one is other for one in read for other in self._spent):
            raise NotImplementedError(
                "this model reads an activation after it was added to another, where the sum has taken its place: "
                "swap the two arguments of ops.add, or add a case to kernels/triton/operations.py"
            )
        return object()

    def vector(self, values: torch.Tensor) -> Vector:
        raise NotImplementedError("a forward pass packs no parameters")

    def linear(self, parts: Sequence[Stored], bias: Sequence[torch.Tensor] | None = None, *, name: str) -> Linear:
        raise NotImplementedError("a forward pass packs no parameters")

    def embedding(self, table: Stored) -> Linear:
        raise NotImplementedError("a forward pass packs no parameters")

    def rope_table(self, cos: torch.Tensor, sin: torch.Tensor) -> int:
        raise NotImplementedError("a forward pass packs no parameters")

    def embed(self, table: Linear, scale: float = 1.0) -> Activation:
        return self._after()

    def rms_norm(self, x: Activation, weight: Vector, eps: float) -> Activation:
        return self._after(x)

    def matmul(self, x: Activation, weight: Linear, residual: Activation | None = None) -> Activation:
        return self._after(x, residual)

    def attention(self, qkv: Activation, spec: AttentionSpec) -> Activation:
        self.specs.append(spec)
        return self._after(qkv)

    def gated(self, x: Activation, gate: Gate) -> Activation:
        return self._after(x)

    def add(self, x: Activation, y: Activation) -> Activation:
        added = self._after(x, y)
        self._spent.append(y)
        return added

    def select(self, x: Activation) -> Activation:
        return self._after(x)

    def softcap(self, x: Activation, cap: float) -> Activation:
        return self._after(x)
