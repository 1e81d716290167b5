"""The model's vocabulary computed at once, in plain torch: the reference for every faster way of running a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from .ops import AttentionSpec, Gate, Linear, Ops, Stored
from .torch_attention import StepTensors, paged_attention, rotate, store


@dataclass(frozen=True, slots=True)
class Matrix:
    """A packed linear or table: y = x weight^T + bias."""

    weight: torch.Tensor  # [N, K]
    bias: torch.Tensor | None = None  # [N]


@dataclass(slots=True)
class Memory:
    """What outlives a step: the place, the rope tables and the cache."""

    device: torch.device
    dtype: torch.dtype
    ropes: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)  # cos, sin: [positions, D / 2]
    cache: torch.Tensor | None = None  # [layers, 2 (k, v), pages, page_size, Hkv, D]
    cache_dtype: torch.dtype | None = None  # float8_e4m3fn, or None: the memory's dtype
    scales: torch.Tensor | None = None  # [layers, 2, Hkv] fp32: what an fp8 cache's numbers are multiplied by
    chosen: torch.Tensor | None = None  # [D] int32: the tokens last drawn on the device, which a step may follow


class TorchOps(Ops):
    """Packs parameters into `memory`; given a step, computes it. Activations are tensors of the memory's dtype."""

    def __init__(self, memory: Memory, step: StepTensors | None = None) -> None:
        self._memory = memory
        self._step = step

    @property
    def _now(self) -> StepTensors:
        assert self._step is not None, "the forward pass was called with the operations that only pack parameters"
        return self._step

    # -- parameters -----------------------------------------------------------------------------------------------

    def vector(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self._memory.device, torch.float32)

    def linear(self, parts: Sequence[Stored], bias: Sequence[torch.Tensor] | None = None, *, name: str) -> Linear:
        width = parts[0].shape[1]
        stacked = torch.empty(
            (sum(part.shape[0] for part in parts), width), dtype=self._memory.dtype, device=self._memory.device
        )
        row = 0
        for part in parts:  # copied part by part, so that no second copy of the whole is ever held
            stacked[row : row + part.shape[0]] = part.dense()
            row += part.shape[0]
        joined = None if bias is None else torch.cat(list(bias)).to(stacked)
        return Matrix(stacked, joined)

    def embedding(self, table: Stored) -> Linear:
        return Matrix(table.dense().to(self._memory.device, self._memory.dtype))

    def rope_table(self, cos: torch.Tensor, sin: torch.Tensor) -> int:
        self._memory.ropes.append((cos.to(self._memory.device), sin.to(self._memory.device)))
        return len(self._memory.ropes) - 1

    # -- the forward pass -----------------------------------------------------------------------------------------

    def embed(self, table: Linear, scale: float = 1.0) -> torch.Tensor:
        rows = F.embedding(self._now.tokens, table.weight)  # [T, width]
        # as transformers does it, the scale is rounded to the type of the activations before it multiplies
        return rows if scale == 1.0 else rows * torch.tensor(scale, dtype=rows.dtype, device=rows.device)

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)

    def matmul(self, x: torch.Tensor, weight: Linear, residual: torch.Tensor | None = None) -> torch.Tensor:
        product = F.linear(x, weight.weight, weight.bias)  # [rows, N]
        return product if residual is None else residual + product

    def attention(self, qkv: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        cache, step = self._memory.cache, self._now
        assert cache is not None, "a step ran before the cache was allocated"
        heads = qkv.view(len(qkv), -1, spec.head_dim)  # [T, H + 2 Hkv, D]
        q, k, v = torch.split(heads, [spec.heads, spec.kv_heads, spec.kv_heads], dim=1)
        if spec.q_norm is not None:
            q = self.rms_norm(q, spec.q_norm, spec.norm_eps)
        if spec.k_norm is not None:
            k = self.rms_norm(k, spec.k_norm, spec.norm_eps)
        cos, sin = (table[step.positions][:, None] for table in self._memory.ropes[spec.rope])  # [T, 1, D / 2]
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        keys, values = cache[spec.layer]  # [pages, page_size, Hkv, D] each
        scales = None if self._memory.scales is None else self._memory.scales[spec.layer]  # [2, Hkv]
        store(keys, step.slots, k, None if scales is None else scales[0])
        store(values, step.slots, v, None if scales is None else scales[1])
        return paged_attention(q, keys, values, step, spec, scales).flatten(1)  # [T, H D]

    def gated(self, x: torch.Tensor, gate: Gate) -> torch.Tensor:
        opened, up = x.chunk(2, dim=-1)  # [rows, F] each
        return (F.silu(opened) if gate == "silu" else F.gelu(opened, approximate="tanh")) * up

    def add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y

    def select(self, x: torch.Tensor) -> torch.Tensor:
        return x.index_select(0, self._now.logit_rows)

    def softcap(self, x: torch.Tensor, cap: float) -> torch.Tensor:
        return torch.tanh(x / cap) * cap
