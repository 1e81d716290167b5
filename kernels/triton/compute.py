"""Runs models on a GPU with the Triton kernels: the same vocabulary as torch's, faster where it counts.

Products go to torch's library, which is at the hardware's limit for wide batches; everything between them is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..ops import AttentionSpec, Forward, Gate, Linear, Step
from ..torch_attention import StepTensors
from ..torch_compute import TorchCompute
from ..torch_ops import Matrix, Memory, TorchOps
from .batch import DeviceBatch
from .decode_attention import decode_attention
from .extend_attention import extend_attention
from .rows import gated, rms_norm, take_rows
from .tuning import Launch, launch
from .write_kv import write_kv

WORKERS_PER_PROCESSOR = 2  # programs of the decode kernel that a multiprocessor runs at once
FEW = 4  # workers in the interpreter


@dataclass(slots=True)
class Batches:
    """One step's batch for each window that its layers have: what a decoding query sees depends on it."""

    step: Step
    page_size: int
    device: torch.device
    workers: int
    made: dict[tuple[int | None, int], DeviceBatch] = field(default_factory=dict)

    def of(self, window: int | None, tile_rows: int) -> DeviceBatch:
        """The batch for layers with this window, made when the first of them asks."""
        key = (window, tile_rows)
        if key not in self.made:
            self.made[key] = DeviceBatch.of(
                self.step, self.page_size, self.device, tile_rows=tile_rows, workers=self.workers, window=window
            )
        return self.made[key]


class TritonOps(TorchOps):
    """torch's operations with the kernels in their places."""

    def __init__(self, memory: Memory, batches: Batches | None = None, tensors: StepTensors | None = None) -> None:
        super().__init__(memory, tensors)
        self._batches = batches

    def embed(self, table: Linear, scale: float = 1.0) -> torch.Tensor:
        return take_rows(table.weight, self._now.tokens, scale)

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return rms_norm(x, weight, eps)

    def matmul(self, x: torch.Tensor, weight: Matrix, residual: torch.Tensor | None = None) -> torch.Tensor:
        if residual is not None and weight.bias is None:
            return torch.addmm(residual, x, weight.weight.T)
        return super().matmul(x, weight, residual)

    def attention(self, qkv: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        cache, batches = self._memory.cache, self._batches
        assert cache is not None and batches is not None, "a step ran before the cache was allocated"
        head = f"head {spec.head_dim}"
        prefill = dict(launch("extend_attention", qkv.device, head))
        decode: Launch = launch("decode_attention", qkv.device, head)
        batch = batches.of(spec.window, prefill.pop("tile_rows"))
        keys, values = cache[spec.layer]  # [pages, page_size, Hkv, D] each
        cos, sin = self._memory.ropes[spec.rope]
        q = write_kv(qkv, batch.positions, batch.slots, cos, sin, keys, values, spec)  # [T, H, D]
        out = torch.empty_like(q)
        extend_attention(q, keys, values, batch, spec, out, **prefill)
        decode_attention(q, keys, values, batch, spec, out, **decode)
        return out.flatten(1)  # [T, H D]

    def gated(self, x: torch.Tensor, gate: Gate) -> torch.Tensor:
        return gated(x, gate)

    def select(self, x: torch.Tensor) -> torch.Tensor:
        return take_rows(x, self._now.logit_rows)


class TritonCompute(TorchCompute):
    """A GPU (or, for tests, Triton's interpreter), weights and activations in bf16 or fp32."""

    def __init__(self, mode: str, device: torch.device) -> None:
        self.mode = "fp32" if mode == "fp32" else "bf16"
        dtype = torch.float32 if self.mode == "fp32" else torch.bfloat16
        self._memory = Memory(device, dtype)
        self._workers = FEW
        name = "Triton's interpreter"
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            self._workers = WORKERS_PER_PROCESSOR * properties.multi_processor_count
            name = properties.name
        self.summary = f"Triton kernels, {self.mode} on {name}"
        if self.mode != mode and mode != "auto":
            self.summary += f" ({mode} was asked for: the GPU path has bf16 and fp32)"

    @property
    def ops(self) -> TritonOps:
        return TritonOps(self._memory)

    def compile(self, forward: Forward) -> Callable[[Step], torch.Tensor]:
        """Every step calls `forward`; its kernels are compiled when they are first used and kept by Triton."""

        def run(step: Step) -> torch.Tensor:
            cache = self._memory.cache
            assert cache is not None, "a step ran before the cache was allocated"
            with torch.inference_mode():
                device = self._memory.device
                batches = Batches(step, cache.shape[3], device, self._workers)
                tensors = StepTensors.from_step(step, cache.shape[3], device)
                logits: torch.Tensor = forward(TritonOps(self._memory, batches, tensors))
                return logits.float()

        return run
