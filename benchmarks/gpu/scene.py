"""Where a run takes place: the device, how things are timed on it, its ceilings, and the one model that is loaded."""

from __future__ import annotations

import contextlib
import gc
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

import torch

T = TypeVar("T")
FLUSH_BYTES = 512 << 20  # written between two timed runs: several times any L2 there is
CYCLES = 2.0e9  # a second, about: for how long the device sleeps while the host queues what is timed
BUDGET = 0.25  # seconds for one measurement


@dataclass(frozen=True)
class Timing:
    """Seconds of one run, by the device's own events."""

    median: float
    least: float
    runs: int


@dataclass(frozen=True)
class Ceilings:
    """What this device can do, measured in this run."""

    bandwidth: float  # bytes a second of a copy, read and written
    operations: float  # a second, in bf16 products

    def floor(self, bytes_moved: float, operations: float) -> float:
        """The seconds that nothing with this traffic and arithmetic can beat."""
        return max(bytes_moved / self.bandwidth, operations / self.operations)


@dataclass
class Scene:
    """A run on a GPU, or its rehearsal: every path, tiny shapes, Triton's interpreter, numbers that mean nothing."""

    device: torch.device
    rehearsal: bool
    quick: bool
    ceilings: Ceilings = Ceilings(1.0, 1.0)
    _held: dict[str, Any] = field(default_factory=dict)
    _flush: torch.Tensor | None = None

    def pick(self, full: T, rehearsed: T) -> T:
        """A size: the real one, or one that the interpreter can do."""
        return rehearsed if self.rehearsal else full

    def timed(self, run: Callable[[], object], *, flush: bool = True) -> Timing:
        """How long the device takes for `run`, with what the host does to queue it kept out of the number.

        Before each run the device writes a buffer larger than its cache (where `flush`) and then sleeps, so that the
        whole of `run` lies in its queue when the first event passes.
        """
        if self.rehearsal:
            started = perf_counter()
            run()
            return Timing(spent := perf_counter() - started, spent, 1)
        for _ in range(3):
            run()
        torch.cuda.synchronize()
        started = perf_counter()
        run()
        queued = perf_counter() - started
        torch.cuda.synchronize()
        spent = perf_counter() - started
        runs = int(min(50, max(7, (0.3 if self.quick else 1.0) * BUDGET / (spent + 0.004))))
        sleep = int(CYCLES * min(0.05, 0.001 + 2 * queued))
        pairs = []
        for _ in range(runs):
            if flush:
                self._flushed()
            torch.cuda._sleep(sleep)
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            torch.cuda.synchronize()
            pairs.append((begin, end))
        seconds = [begin.elapsed_time(end) / 1e3 for begin, end in pairs]
        return Timing(statistics.median(seconds), min(seconds), runs)

    def _flushed(self) -> None:
        if self._flush is None:
            self._flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=self.device)
        self._flush.zero_()

    def randn(self, *shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        """Normal numbers on the device: zeros would be faster than what people have."""
        return torch.randn(shape, dtype=dtype, device=self.device)

    def hold(self, key: str, make: Callable[[], T]) -> T:
        """The object of this key; whatever else was held is closed first, so that one model is loaded at a time."""
        if key not in self._held:
            self.release()
            self._held[key] = make()
        held: T = self._held[key]
        return held

    def release(self) -> None:
        """Close what is held and give its memory back."""
        for held in self._held.values():
            if hasattr(held, "close"):
                held.close()
        self._held.clear()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@contextlib.contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """The same random numbers in every run."""
    torch.manual_seed(seed)
    yield
