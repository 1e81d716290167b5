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
from ..kernels.ops import Compute, Step
from .calibration import channel_maxima, identity_of
from .kv_size import cache_shape, step_tokens
from .models.registry import load
from .options import EngineOptions
from .progress import bar
from .text.tokenizer import Tokenizer, load_tokenizer
from .weights.checkpoint import Checkpoint, open_checkpoint
from .weights.config import ModelConfig
from .weights.locate import locate


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
    step_tokens: int
    seconds: float

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"{self.name}: {self.compute.summary}; {self.pages} pages of KV; loaded in {self.seconds:.1f} s"


def load_model(model: str | Path | Checkpoint, options: EngineOptions) -> LoadedModel:
    """Find, open, pack; a model that is open already (its parameters may come from anywhere) is only packed.

    Raises ModelNotFound, BrokenModelFile, UnsupportedModel, or InvalidRequest for the options.
    """
    started = perf_counter()
    checkpoint = model if isinstance(model, Checkpoint) else _opened(model, options)
    tokenizer = load_tokenizer(checkpoint)
    context_length = _context_length(checkpoint.config, options)
    config = dataclasses.replace(checkpoint.config, context_length=context_length)

    device = _device(options)
    maxima = _calibrated(checkpoint, tokenizer, options) if device == "cpu" else None
    fp8_cache = options.cache_type == "fp8"
    place = compute(device, options.mode, _threads(options), smoothing=maxima, fp8_cache=fp8_cache)
    try:
        with bar(f"loading {checkpoint.name}", config.layers, options.progress, unit="layer") as tick:
            forward = load(config, checkpoint.weights, place.ops, _steps(tick))
    except torch.OutOfMemoryError as full:
        raise InvalidRequest(
            f"the weights of {checkpoint.name} do not fit on {device} in mode {place.mode}: close what else uses its "
            f"memory, or choose a narrower mode ({str(full).splitlines()[0][:200]})"
        ) from None
    try:
        shape = cache_shape(config, place, options)
        place.allocate(shape)
    except (ValueError, MemoryError, torch.OutOfMemoryError) as refusal:  # page sizes, what the machine really gives
        raise InvalidRequest(str(refusal)) from None
    return LoadedModel(
        name=checkpoint.name,
        config=config,
        tokenizer=tokenizer,
        compute=place,
        run=place.compile(forward),
        pages=shape.pages,
        context_length=context_length,
        step_tokens=step_tokens(options),
        seconds=perf_counter() - started,
    )


def _opened(model: str | Path, options: EngineOptions) -> Checkpoint:
    return open_checkpoint(locate(model, progress=options.progress is not False))


def _device(options: EngineOptions) -> str:
    """The device, if this machine has it."""
    name = options.device
    if name == "cpu":
        if options.mode == "fp8":
            raise InvalidRequest(
                'mode="fp8" is for GPUs (device="cuda"): CPUs have no arithmetic for it; "int8" is as small, and loses '
                "less"
            )
        if options.cache_type == "fp8":
            raise InvalidRequest(
                'cache_type="fp8" is for GPUs (device="cuda"): on a CPU the cache is of the type of the arithmetic; '
                'leave it at "auto"'
            )
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
    checkpoint: Checkpoint, tokenizer: Tokenizer, options: EngineOptions
) -> Mapping[str, torch.Tensor] | None:
    """The largest magnitude of each linear's inputs, for modes that quantize them; measured once for a model's files,
    and not at all for parameters that lie in none."""
    files = [checkpoint.path] if checkpoint.path.is_file() else sorted(checkpoint.path.glob("*.safetensors"))
    if options.mode not in ("auto", "int8", "int4") or not files:
        return None
    with bar(f"calibrating {checkpoint.name} (once)", checkpoint.config.layers, options.progress, unit="layer") as tick:
        return channel_maxima(
            checkpoint.config,
            checkpoint.weights,
            tokenizer.encode,
            folder=ramify_home() / "calibration",
            identity=identity_of(files),
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
