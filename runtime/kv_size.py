"""How much KV memory an engine takes: from what is free where it runs, less what a step needs besides."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import InvalidRequest
from ..kernels.ops import CacheShape, Compute
from .options import EngineOptions
from .weights.config import ModelConfig

STEP_TOKENS = {"cpu": 512, "cuda": 4096}  # in one step, unless told: a GPU's products want wide batches

CPU_SHARE = 0.25  # of the memory that is free, at most: other programs run here too
CPU_TOKENS = 131_072  # and at most so many tokens

GPU_MARGIN = 0.04  # of the whole device, left free: fragments of the allocator, libraries' own workspaces
GPU_LEAST_MARGIN = 512 << 20
GRAPHS = 1 << 30  # what recorded steps keep: their activations share one pool, each of some forty takes a few megabytes
WORKSPACE = 256 << 20  # the products' library, the partial results of attention, the plans of two steps


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Bytes, where the model runs."""

    free: int
    total: int


def step_tokens(options: EngineOptions) -> int:
    """The most tokens of one step: as asked for, else as suits the device."""
    return options.step_tokens or STEP_TOKENS[options.device.partition(":")[0]]


def free_memory(device: str) -> FreeMemory:
    """What can be taken there without swapping, as the system or the GPU's driver tells."""
    if device != "cpu":
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()  # what loading left in torch's allocator is free too
        free, total = torch.cuda.mem_get_info(torch.device(device))
        return FreeMemory(free, total)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return FreeMemory(int(line.split()[1]) * 1024, total)
    except OSError:
        pass
    return FreeMemory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"), total)


def step_memory(config: ModelConfig, options: EngineOptions, width: int) -> int:
    """Bytes that the widest step may hold at once on a GPU, with activations of `width` bytes a number: an estimate.

    For each token: the residual stream, a norm's result, the widest projection and what follows it. For each row of
    logits: the working type, fp32, and the copy that log-probabilities are taken from; in the worst step every token
    reports, while the rows of the step before are still being drawn from. Weights of 4 bits may be unpacked for wide
    steps, a matrix at a time.
    """
    tokens = step_tokens(options)
    heads = (config.heads + 2 * config.kv_heads) * config.head_dim
    widest = max(heads + config.heads * config.head_dim, 3 * config.intermediate_size)
    rows = tokens + options.max_running
    unpacked = 2 * config.intermediate_size * config.hidden_size if options.mode in ("int4", "auto") else 0
    return (
        tokens * (3 * config.hidden_size + widest) * width
        + rows * config.vocab_size * (width + 4 + 4)
        + unpacked * width
    )


def gpu_budget(memory: FreeMemory, step: int) -> int:
    """What is left for KV of a GPU's free memory once the widest step, graphs, workspaces and a margin have theirs."""
    margin = max(GPU_LEAST_MARGIN, int(memory.total * GPU_MARGIN))
    return memory.free - step - GRAPHS - WORKSPACE - margin


def cache_shape(config: ModelConfig, place: Compute, options: EngineOptions) -> CacheShape:
    """The pool for this model: `cache_tokens` if they fit, else what the device can spare. Call it with the weights
    in their place: what they took is no longer free. Raises InvalidRequest, with what would fit."""
    one = CacheShape(config.layers, config.kv_heads, config.head_dim, options.page_size, pages=1)
    page_bytes = place.bytes_per_page(one)
    memory = free_memory(options.device)
    if options.device == "cpu":
        budget, most = memory.free, CPU_TOKENS // options.page_size
        usual = min(most, int(memory.free * CPU_SHARE) // page_bytes)
    else:
        width = 4 if place.mode == "fp32" else 2
        budget = gpu_budget(memory, step_memory(config, options, width))
        usual = budget // page_bytes
    where = "" if options.device == "cpu" else f" on {options.device} beside the model and the widest step"
    if options.cache_tokens is None:
        if usual < 1:
            raise InvalidRequest(
                f"{max(0, budget) / 1e9:.1f} GB are free{where}: no room for KV memory. Close what else uses the "
                f"memory, choose a narrower mode, or fewer step_tokens (now {step_tokens(options)})"
            )
        return dataclasses.replace(one, pages=usual)
    pages = -(-options.cache_tokens // options.page_size)
    if pages * page_bytes > budget:
        raise InvalidRequest(
            f"cache_tokens={options.cache_tokens} needs {pages * page_bytes / 1e9:.1f} GB of KV memory, but "
            f"{max(0, budget) / 1e9:.1f} GB are free{where}: ask for at most "
            f"{max(0, budget) // page_bytes * options.page_size} tokens"
        )
    return dataclasses.replace(one, pages=pages)
