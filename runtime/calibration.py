"""The largest magnitude of every linear's input channels, from one pass over a built-in text.

SmoothQuant (arXiv 2211.10438) needs them: activations have a few channels with huge values, which ruin 8-bit scales,
and weights have none, so the packed weights take over part of the range. The pass is in fp32 and dequantizes one matrix
at a time: no second model is ever held.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file

from ..kernels.ops import Step, Stored
from ..kernels.torch_attention import StepTensors
from ..kernels.torch_ops import Memory, TorchOps
from .calibration_text import CALIBRATION_TEXT
from .models.parameters import Progress
from .models.registry import load
from .weights.config import ModelConfig
from .weights.source import WeightSource

_PAGE_SIZE = 16
_HEAD_ROWS_EVERY = 8  # the head sees every 8th position: its logits would be the largest tensor by far


def channel_maxima(
    config: ModelConfig,
    source: WeightSource,
    encode: Callable[[str], Sequence[int]],
    *,
    folder: Path,
    identity: str,
    progress: Progress = lambda done, total: None,
) -> Mapping[str, torch.Tensor]:
    """For each linear by name, fp32 [K]: the largest magnitude in each channel of its input.

    A tied head is `embedding`. Kept in `folder` under `identity` (see `identity_of`); an unreadable copy is made anew.
    """
    key = hashlib.sha256(f"{identity} {CALIBRATION_TEXT}".encode()).hexdigest()[:32]
    path = folder / f"{key}.safetensors"
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError):
        maxima = calibrate(config, source, encode(CALIBRATION_TEXT), progress=progress)
        _save(maxima, path)
        return maxima


def identity_of(files: Sequence[Path]) -> str:
    """A name for a model's files as they are now: their paths, sizes and times of change."""
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files)]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


@torch.inference_mode()
def calibrate(
    config: ModelConfig,
    source: WeightSource,
    tokens: Sequence[int],
    *,
    progress: Progress = lambda done, total: None,
) -> dict[str, torch.Tensor]:
    """The maxima themselves, from one pass over `tokens`; reads every weight once."""
    step, pages = whole_text(tokens[: config.context_length], _PAGE_SIZE, logits_every=_HEAD_ROWS_EVERY)
    config = replace(config, context_length=len(step.tokens))  # no longer rotary tables than needed
    memory = Memory(torch.device("cpu"), torch.float32)
    memory.cache = torch.zeros(config.layers, 2, pages, _PAGE_SIZE, config.kv_heads, config.head_dim)
    ops = MeasuringOps(memory, StepTensors.from_step(step, _PAGE_SIZE, memory.device), progress, config.layers)
    load(config, source, ops)(ops)
    return ops.maxima


@dataclass(frozen=True, slots=True)
class Unread:
    """A linear that stays in its file until it is used."""

    name: str
    parts: Sequence[Stored]
    bias: Sequence[torch.Tensor] | None = None


class MeasuringOps(TorchOps):
    """Computes as TorchOps does, dequantizing each matrix when it is needed, and keeps the maxima of what passes."""

    def __init__(self, memory: Memory, step: StepTensors, progress: Progress, layers: int) -> None:
        super().__init__(memory, step)
        self.maxima: dict[str, torch.Tensor] = {}
        self._progress = progress
        self._layers = layers
        self._linears = 0

    def linear(self, parts: Sequence[Stored], bias: Sequence[torch.Tensor] | None = None, *, name: str) -> Unread:
        self._linears += 1
        return Unread(name, parts, bias)

    def embedding(self, table: Stored) -> Unread:
        return Unread("embedding", (table,))

    def embed(self, table: Unread, scale: float = 1.0) -> torch.Tensor:
        return super().embed(super().embedding(table.parts[0]), scale)

    def matmul(self, x: torch.Tensor, weight: Unread, residual: torch.Tensor | None = None) -> torch.Tensor:
        matrix = super().linear(weight.parts, weight.bias, name=weight.name)
        self.maxima[weight.name] = x.abs().amax(dim=0)  # [K]
        self._progress(self._layers * len(self.maxima) // max(self._linears, len(self.maxima)), self._layers)
        return super().matmul(x, matrix, residual)


def whole_text(tokens: Sequence[int], page_size: int, *, logits_every: int = 1) -> tuple[Step, int]:
    """The step that computes a whole text at once on pages 0 and up, and how many pages those are.

    Logits are wanted of every `logits_every`-th position.
    """
    count = len(tokens)
    pages = -(-count // page_size)
    step = Step(
        tokens=np.asarray(tokens, dtype=np.int32),
        positions=np.arange(count, dtype=np.int32),
        query_start=np.array([0, count], dtype=np.int32),
        context=np.array([count], dtype=np.int32),
        pages=np.arange(pages, dtype=np.int32),
        page_start=np.array([0, pages], dtype=np.int32),
        logit_rows=np.arange(0, count, logits_every, dtype=np.int32),
    )
    return step, pages


def _save(maxima: Mapping[str, torch.Tensor], path: Path) -> None:
    """Written beside and moved into place, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft = Path(folder) / path.name
        save_file(dict(maxima), draft)
        draft.replace(path)
