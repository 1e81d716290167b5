"""Where models run: `compute` chooses the compiled CPU core, the GPU's kernels or plain torch, once."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import torch

from .build import CoreUnavailable, core_library
from .native import NativeCompute
from .ops import Compute
from .torch_compute import TorchCompute, bf16_is_fast

MODES = ("auto", "fp32", "bf16", "fp8", "int8", "int4")

__all__ = ["MODES", "compute"]


def compute(
    device: str = "cpu",
    mode: str = "auto",
    threads: int | None = None,
    *,
    smoothing: Mapping[str, torch.Tensor] | None = None,
    fp8_cache: bool = False,
) -> Compute:
    """A place to run a model: the compiled core on a CPU, Triton's kernels on a GPU, and plain
    torch where nothing can be compiled.

    `mode` is fp32, bf16, fp8 (GPUs only), int8, int4 or auto (the fastest that keeps the model's choices);
    `threads` defaults to the physical cores at hand; `smoothing` maps a linear's name to the largest magnitude seen in
    each input channel; `fp8_cache`: KV in 8 bits, which only GPUs have.
    What was chosen, and why if it is the fallback, is in the result's `summary`.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not known; choose one of {', '.join(MODES)}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads={threads}: at least 1 is needed")
    place = torch.device(device)
    if place.type == "cpu" and mode == "fp8":
        raise ValueError('mode="fp8" is for GPUs: CPUs have no arithmetic for it; int8 is as small, and loses less')
    if place.type == "cpu" and fp8_cache:
        raise ValueError("KV in fp8 is for GPUs: the CPU's kernels keep it in the type they compute in")
    if place.type == "cpu":
        try:
            return NativeCompute(core_library(), mode, threads, smoothing)
        except CoreUnavailable as reason:
            fallback = _torch_compute(mode, place)
            fallback.summary += f" (no compiled core: {reason})"
            return fallback
    if place.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from .triton.compute import TritonCompute  # seconds to import, and of no use without a GPU

        return TritonCompute(mode, place, fp8_cache=fp8_cache)
    return _torch_compute(mode, place, fp8_cache)


def _torch_compute(mode: str, place: torch.device, fp8_cache: bool = False) -> TorchCompute:
    match mode:
        case "fp32" | "bf16" | "fp8" | "int8" | "int4":
            return TorchCompute(mode, place, fp8_cache=fp8_cache)
        case _:
            return TorchCompute("bf16" if bf16_is_fast(place) else "fp32", place, fp8_cache=fp8_cache)
