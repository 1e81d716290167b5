"""Runs models with plain torch: exact, on any device, needing no compiler; the fallback and the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch

from . import twins
from .draws import Chosen, Draws
from .ops import CacheShape, Compute, Forward, Step
from .torch_attention import FP8, StepTensors
from .torch_ops import Memory, TorchOps

Mode = Literal["fp32", "bf16", "fp8", "int8", "int4"]


class TorchCompute(Compute):
    """Eager torch on `device`, weights and activations in fp32 or bf16.

    torch's own 8-bit and 4-bit products lose too much or need layouts of their own, so fp8, int8 and int4 run as bf16,
    or as fp32 where the machine has no bf16 arithmetic; `mode` is what runs, and `summary` says so.
    """

    chooses = True

    def __init__(self, mode: Mode = "fp32", device: str | torch.device = "cpu", *, fp8_cache: bool = False) -> None:
        place = torch.device(device)
        narrow = mode != "fp32" and (mode == "bf16" or bf16_is_fast(place))
        self.mode = "bf16" if narrow else "fp32"
        self.summary = f"torch {torch.__version__}, eager, {self.mode} on {describe(place)}"
        if self.mode != mode:
            self.summary += f" ({mode} was asked for: only compiled kernels have it)"
        self._memory = Memory(
            place, torch.bfloat16 if narrow else torch.float32, cache_dtype=FP8 if fp8_cache else None
        )

    @property
    def ops(self) -> TorchOps:
        return TorchOps(self._memory)

    def choose(self, logits: torch.Tensor, draws: Draws) -> Chosen:
        """Row by row: the reference of choosing on a device, not a fast way."""
        chosen = twins.choose(logits, draws)
        self._memory.chosen = chosen.tokens
        return chosen

    def allocate(self, shape: CacheShape) -> None:
        memory = self._memory
        memory.cache = torch.zeros(
            (shape.layers, 2, shape.pages, shape.page_size, shape.kv_heads, shape.head_dim),
            dtype=memory.cache_dtype or memory.dtype,
            device=memory.device,
        )
        if memory.cache_dtype is not None:
            memory.scales = torch.ones((shape.layers, 2, shape.kv_heads), device=memory.device)

    def bytes_per_page(self, shape: CacheShape) -> int:
        width = (self._memory.cache_dtype or self._memory.dtype).itemsize
        return 2 * shape.layers * shape.page_size * shape.kv_heads * shape.head_dim * width

    def compile(self, forward: Forward) -> Callable[[Step], torch.Tensor]:
        """Compiles nothing: every step calls `forward` with operations that compute at once."""

        def run(step: Step) -> torch.Tensor:
            cache = self._memory.cache
            assert cache is not None, "a step ran before the cache was allocated"
            with torch.inference_mode():
                tensors = StepTensors.from_step(step, cache.shape[3], self._memory.device, self._memory.chosen)
                logits: torch.Tensor = forward(TorchOps(self._memory, tensors))
                return logits.float()

        return run


def bf16_is_fast(device: torch.device) -> bool:
    """Whether bf16 products run on instructions of their own here; emulated ones are slower than fp32."""
    if device.type != "cpu":
        return True
    capabilities: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def describe(device: torch.device) -> str:
    """The device as people call it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
