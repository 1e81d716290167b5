"""torch's operations with the Triton kernels in their places: a model's vocabulary, on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from ..ops import Activation, AttentionSpec, Gate, Linear, Stored
from ..torch_ops import Memory, TorchOps
from .batch import DeviceStep
from .decode_attention import decode_attention
from .extend_attention import extend_attention
from .rows import gated, rms_norm, take_rows
from .survey import decode_shape, extend_shape, tile_tokens
from .tuning import Launch, launch
from .weights import PackedMatrix, Packing, multiply
from .write_kv import write_kv


@dataclass(slots=True)
class Sum:
    """x + y, [T, width] each, which the norm that reads it next will add up on its way. The sum takes y's place."""

    x: torch.Tensor
    y: torch.Tensor
    done: bool = False

    def value(self) -> torch.Tensor:
        if not self.done:
            torch.add(self.x, self.y, out=self.y)
            self.done = True
        return self.y


Value: TypeAlias = torch.Tensor | Sum


class TritonOps(TorchOps):
    """Packs parameters into `memory`; given a step, launches its kernels. An activation is a tensor or a sum to be."""

    def __init__(self, memory: Memory, batch: DeviceStep | None = None, packing: Packing | None = None) -> None:
        super().__init__(memory)
        self._batch = batch
        self._packing = packing

    @property
    def _rows(self) -> DeviceStep:
        assert self._batch is not None, "the forward pass was called with the operations that only pack parameters"
        return self._batch

    @property
    def _packs(self) -> Packing:
        assert self._packing is not None, "parameters were packed with the operations of a step"
        return self._packing

    def linear(self, parts: Sequence[Stored], bias: Sequence[torch.Tensor] | None = None, *, name: str) -> Linear:
        return self._packs.linear(parts, bias, name=name)

    def embedding(self, table: Stored) -> Linear:
        return self._packs.embedding(table)

    def embed(self, table: Linear, scale: float = 1.0) -> torch.Tensor:
        return take_rows(table.weight, self._rows.tokens(), scale)

    def rms_norm(self, x: Value, weight: torch.Tensor, eps: float) -> torch.Tensor:
        if isinstance(x, Sum) and not x.done:
            x.done = True
            return rms_norm(x.x, weight, eps, residual=x.y)
        return rms_norm(value(x), weight, eps)

    def matmul(self, x: Value, weight: PackedMatrix, residual: Value | None = None) -> Activation:
        product = multiply(value(x), weight)  # [rows, N]
        return product if residual is None else Sum(value(residual), product)

    def attention(self, qkv: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        cache = self._memory.cache
        assert cache is not None, "a step ran before the cache was allocated"
        prefill = dict(launch("extend_attention", qkv.device, extend_shape(spec)))
        batch = self._rows.of(spec.window, tile_tokens(prefill.pop("tile_rows"), spec))
        readers = 1 if batch.cascade is None else batch.cascade.tile_queries
        decode: Launch = launch("decode_attention", qkv.device, decode_shape(spec, readers))
        keys, values = cache[spec.layer]  # [pages, page_size, Hkv, D] each
        cos, sin = self._memory.ropes[spec.rope]
        scales = None if self._memory.scales is None else self._memory.scales[spec.layer]  # [2, Hkv]
        q = write_kv(qkv, batch.positions, batch.slots, cos, sin, keys, values, spec, scales)  # [T, H, D]
        out = torch.empty_like(q)
        extend_attention(q, keys, values, batch, spec, out, scales=scales, **prefill)
        decode_attention(q, keys, values, batch, spec, out, scales=scales, **decode)
        return out.flatten(1)  # [T, H D]

    def gated(self, x: torch.Tensor, gate: Gate) -> torch.Tensor:
        return gated(x, gate)

    def add(self, x: Value, y: Value) -> Activation:
        """y is spent: nothing may read it any more (`survey` sees to it)."""
        return Sum(value(x), value(y))

    def select(self, x: Value) -> Activation:
        rows = self._rows.logit_rows
        if isinstance(x, Sum) and not x.done:  # two small reads, rather than the sum of all rows
            return Sum(take_rows(x.x, rows), take_rows(x.y, rows))
        return take_rows(value(x), rows)

    def softcap(self, x: Value, cap: float) -> torch.Tensor:
        return super().softcap(value(x), cap)


def value(x: Value) -> torch.Tensor:
    """The activation, added up if it is a sum."""
    return x.value() if isinstance(x, Sum) else x
