"""Runs models on a GPU with the Triton kernels: a step's indices in one copy, the forward pass, the draws.

Products go to torch's library, which is at the hardware's limit for wide batches; everything between them is ours.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..ops import Forward, Step
from ..torch_compute import TorchCompute
from ..torch_ops import Memory
from .batch import DeviceStep, HostStep
from .layout import sent
from .operations import TritonOps, value
from .survey import survey

PROGRAMS_PER_PROCESSOR = 2  # of the decode kernel, that a multiprocessor runs at once
FEW = 8  # programs in the interpreter


class TritonCompute(TorchCompute):
    """A GPU (or, for tests, Triton's interpreter), weights and activations in bf16 or fp32."""

    chooses = False

    def __init__(self, mode: str, device: torch.device) -> None:
        self.mode = "fp32" if mode == "fp32" else "bf16"
        dtype = torch.float32 if self.mode == "fp32" else torch.bfloat16
        self._memory = Memory(device, dtype)
        self._programs = FEW
        name = "Triton's interpreter"
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            self._programs = PROGRAMS_PER_PROCESSOR * properties.multi_processor_count
            name = properties.name
        self.summary = f"Triton kernels, {self.mode} on {name}"
        if self.mode != mode and mode != "auto":
            self.summary += f" ({mode} was asked for: the GPU path has bf16 and fp32)"

    @property
    def ops(self) -> TritonOps:
        return TritonOps(self._memory)

    def compile(self, forward: Forward) -> Callable[[Step], torch.Tensor]:
        """Every step calls `forward`; its kernels are compiled when they are first used and kept by Triton."""
        memory = self._memory
        needs = survey(forward, memory.device)
        workers = max(1, self._programs // needs.kv_heads)  # each reads for one head at a time

        def run(step: Step) -> torch.Tensor:
            cache = memory.cache
            assert cache is not None, "a step ran before the cache was allocated"
            with torch.inference_mode():
                host = HostStep.of(step, cache.shape[3], needs, workers)
                batch = DeviceStep(host.widths, workers, sent(host.arrays, memory.device), memory.chosen)
                return value(forward(TritonOps(memory, batch))).float()

        return run
