"""From a model's name to a function that runs steps: files, tokenizer, packed weights and the memory of the cache."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from ..errors import InvalidRequest
from ..home import ramify_home
from ..kernels import compute
from ..kernels.ops import CacheShape, Compute, Step
from .calibration import channel_maxima, identity_of
from .models.registry import load
from .options import EngineOptions
from .progress import bar
from .text.tokenizer import Tokenizer, load_tokenizer
from .weights.checkpoint import Checkpoint, open_checkpoint
from .weights.config import ModelConfig
from .weights.locate import ModelFiles, locate

CACHE_SHARE = 0.25  # of the memory that is free, at most, when cache_tokens is not given
CACHE_TOKENS = 131_072  # and at most so many tokens


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run steps over its cache."""

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    compute: Compute
    run: Callable[[Step], torch.Tensor]  # fp32 logits [R, vocabulary], valid until the next step
    pages: int
    context_length: int
    seconds: float

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"{self.name}: {self.compute.summary}; {self.pages} pages of KV; loaded in {self.seconds:.1f} s"


def load_model(model: str | Path, options: EngineOptions) -> LoadedModel:
    """Find, open, pack. Raises ModelNotFound, BrokenModelFile, UnsupportedModel, or InvalidRequest for the options."""
    started = perf_counter()
    files = locate(model, progress=options.progress is not False)
    checkpoint = open_checkpoint(files)
    tokenizer = load_tokenizer(checkpoint)
    context_length = _context_length(checkpoint.config, options)
    config = dataclasses.replace(checkpoint.config, context_length=context_length)

    device = _device(options)
    maxima = _calibrated(files, checkpoint, tokenizer, options) if device == "cpu" else None
    place = compute(device, options.mode, _threads(options), smoothing=maxima)
    with bar(f"loading {files.name}", config.layers, options.progress, unit="layer") as tick:
        forward = load(config, checkpoint.weights, place.ops, _steps(tick))
    try:
        shape = _cache_shape(config, place, options)
        place.allocate(shape)
    except (ValueError, MemoryError) as refusal:  # what only the kernels know: page sizes, what the machine gives
        raise InvalidRequest(str(refusal)) from None
    return LoadedModel(
        name=files.name,
        config=config,
        tokenizer=tokenizer,
        compute=place,
        run=place.compile(forward),
        pages=shape.pages,
        context_length=context_length,
        seconds=perf_counter() - started,
    )


def _device(options: EngineOptions) -> str:
    """The device, if this machine has it."""
    name = options.device
    if name == "cpu":
        return name
    if name.partition(":")[0] != "cuda":
        raise InvalidRequest(f'device={name!r}: ramify runs on "cpu" and on "cuda" (or "cuda:1", ...)')
    if not torch.cuda.is_available():
        raise InvalidRequest(
            f'device={name!r}: torch finds no GPU here; use device="cpu", or install a torch with CUDA'
        )
    return name


def _threads(options: EngineOptions) -> int | None:
    available = len(os.sched_getaffinity(0))
    if options.threads is not None and options.threads > available:
        raise InvalidRequest(f"threads={options.threads}: this process may use {available} cores; more would only wait")
    return options.threads


def _calibrated(
    files: ModelFiles, checkpoint: Checkpoint, tokenizer: Tokenizer, options: EngineOptions
) -> Mapping[str, torch.Tensor] | None:
    """The largest magnitude of each linear's inputs, for modes that quantize them; measured once for a model."""
    if options.mode not in ("auto", "int8", "int4"):
        return None
    with bar(f"calibrating {files.name} (once)", checkpoint.config.layers, options.progress, unit="layer") as tick:
        return channel_maxima(
            checkpoint.config,
            checkpoint.weights,
            tokenizer.encode,
            folder=ramify_home() / "calibration",
            identity=identity_of([files.path] if files.is_gguf else sorted(files.path.glob("*.safetensors"))),
            progress=_steps(tick),
        )


def _steps(tick: Callable[[int], object]) -> Callable[[int, int | None], None]:
    """Turn "so many are done" into steps of a bar."""
    done = 0

    def progress(now: int, total: int | None) -> None:
        nonlocal done
        tick(now - done)
        done = now

    return progress


def _context_length(config: ModelConfig, options: EngineOptions) -> int:
    if options.context_length is None:
        return config.context_length
    if options.context_length > config.context_length:
        raise InvalidRequest(
            f"context_length={options.context_length}: this model was made for at most {config.context_length} tokens"
        )
    return options.context_length


def _cache_shape(config: ModelConfig, place: Compute, options: EngineOptions) -> CacheShape:
    page_size = options.page_size
    shape = CacheShape(config.layers, config.kv_heads, config.head_dim, page_size, pages=1)
    free = free_memory()
    if options.cache_tokens is not None:
        tokens = options.cache_tokens
    else:
        affordable = int(free * CACHE_SHARE) // place.bytes_per_page(shape) * page_size
        tokens = min(CACHE_TOKENS, affordable)
    pages = -(-tokens // page_size)
    wanted = pages * place.bytes_per_page(shape)
    if wanted > free:
        raise InvalidRequest(
            f"cache_tokens={tokens} needs {wanted / 1e9:.1f} GB of KV memory, but {free / 1e9:.1f} GB are free: "
            "ask for fewer tokens"
        )
    return dataclasses.replace(shape, pages=pages)


def free_memory() -> int:
    """Bytes that can be taken without swapping, as the system tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
