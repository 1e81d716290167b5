"""Runs models on a GPU with the Triton kernels: a step's indices in one copy, the forward pass, the draws.

Which product multiplies a matrix, ours or the library's, is a matter of its format and shape (products.py); everything
between the products is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from ..draws import Chosen, Draws, Words
from ..ops import Forward, Step
from ..torch_attention import FP8
from ..torch_compute import TorchCompute
from ..torch_ops import Memory
from .batch import DeviceStep, HostStep
from .choosing import choose
from .graphs import ROWS, DecodeGraphs
from .layout import sent, words
from .operations import TritonOps, value
from .recorder import CudaRecorder, Recorder
from .sampling import apply_masks
from .survey import survey
from .weights import Packing

PROGRAMS_PER_PROCESSOR = 2  # of the decode kernel, that a multiprocessor runs at once
FEW = 8  # programs in the interpreter
DRAWN = 4096  # draws whose tokens have a place of their own, where recorded steps can follow them


class TritonCompute(TorchCompute):
    """A GPU (or, for tests, Triton's interpreter): activations in bf16 or fp32, weights as `mode` asks (`Packing`)."""

    def __init__(
        self,
        mode: str,
        device: torch.device,
        *,
        fp8_cache: bool = False,
        graphs: bool = True,
        recorder: Recorder | None = None,
    ) -> None:
        """graphs: whether a GPU's decode steps are recorded; `recorder` does it where it is given, on any device."""
        self.mode = mode
        self._packing = Packing(mode, device)
        dtype = torch.float32 if self.mode == "fp32" else torch.bfloat16
        self._memory = Memory(device, dtype, cache_dtype=FP8 if fp8_cache else None)
        self._recorder = recorder or (CudaRecorder(device) if graphs and device.type == "cuda" else None)
        self.graphs: DecodeGraphs | None = None  # once a step was recorded
        self._drawn = torch.zeros(DRAWN, dtype=torch.int32, device=device)
        self._programs = FEW
        name = "Triton's interpreter"
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            self._programs = PROGRAMS_PER_PROCESSOR * properties.multi_processor_count
            name = properties.name
        self._place = f"{mode}{' with fp8 KV' if fp8_cache else ''} on {name}"

    @property
    def summary(self) -> str:  # type: ignore[override]  # it grows while the model is packed
        packed = ", ".join(f"{count} {format}" for format, count in sorted(self._packing.formats.items()))
        graphs = "" if self._recorder is None else f"; up to {ROWS[-1]} rows decode in CUDA graphs"
        if self.graphs is not None:
            graphs += f" ({self.graphs.counts})"
        return f"Triton kernels, {self._place}" + (f": {packed} matrices" if packed else "") + graphs

    @property
    def ops(self) -> TritonOps:
        return TritonOps(self._memory, packing=self._packing)

    def choose(self, logits: torch.Tensor, draws: Draws) -> Chosen:
        """Launched behind the step, whose logits are read before the next one takes their place."""
        with torch.inference_mode(), self._here():
            drawn = self._drawn
            if len(draws.rows) > len(drawn):
                drawn = torch.empty(len(draws.rows), dtype=torch.int32, device=logits.device)
            chosen = choose(logits, draws, drawn)
        self._memory.chosen = drawn
        return chosen

    def mask(self, logits: torch.Tensor, rows: Sequence[int], masks: Sequence[Words]) -> None:
        if rows:
            mask_of = np.full(len(logits), -1, np.int32)
            mask_of[list(rows)] = np.arange(len(rows))
            with torch.inference_mode(), self._here():
                arrays = sent({"mask_of": mask_of, "masks": words(np.concatenate(masks))}, logits.device)
                apply_masks(logits, arrays["masks"].view(len(rows), -1), arrays["mask_of"])

    def compile(self, forward: Forward) -> Callable[[Step], torch.Tensor]:
        """Steps that only decode are recorded once for each size of batch and replayed (`graphs`); the others call
        `forward`, whose kernels are compiled when they are first used and kept by Triton."""
        memory = self._memory
        needs = survey(forward, memory.device)
        workers = max(1, self._programs // needs.kv_heads)  # each reads for one head at a time

        def eagerly(batch: DeviceStep) -> torch.Tensor:
            return value(forward(TritonOps(memory, batch)))

        def run(step: Step) -> torch.Tensor:
            assert memory.cache is not None, "a step ran before the cache was allocated"
            with torch.inference_mode(), self._here():
                host = HostStep.of(step, memory.cache.shape[3], needs, workers)
                if host.only_decodes and self._recorder is not None and self._can_follow(step):
                    if self.graphs is None:
                        pages = self._table_pages()
                        self.graphs = DecodeGraphs(eagerly, self._recorder, needs, workers, pages, self._drawn)
                    logits = self.graphs.run(host)
                    if logits is not None:
                        return logits
                batch = DeviceStep(host.widths, workers, sent(host.arrays, memory.device), memory.chosen)
                return eagerly(batch).float()

        return run

    def _can_follow(self, step: Step) -> bool:
        """Whether what the step follows lies where recordings look for it."""
        return step.follows is None or self._memory.chosen is self._drawn

    def _table_pages(self) -> int:
        """The pages of the longest sequence that there can be."""
        cache = self._memory.cache
        assert cache is not None
        positions = max((len(cos) for cos, _ in self._memory.ropes), default=cache.shape[2] * cache.shape[3])
        return min(cache.shape[2], -(-positions // cache.shape[3]))

    def _here(self) -> AbstractContextManager[object]:
        """Kernels are launched on the current device, which may be another GPU than this one."""
        device = self._memory.device
        return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
