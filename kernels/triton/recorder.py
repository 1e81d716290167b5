"""Work for a GPU, recorded as a CUDA graph: done again without the Python that launched it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch


class Recorder(Protocol):
    """Two there are: CUDA's, and a rehearsal that needs no GPU (kernels/triton/rehearsal.py)."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Does the work, at least once, and returns what repeats it: the same operations with the same arguments on the
        same memory. Tensors that the work makes are gone with it; nothing of theirs may be kept. It may not wait for
        the device, nor copy from the host."""
        ...


class CudaRecorder:
    """All recordings share one pool of memory, and one stream to be made on."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._first: torch.cuda.CUDAGraph | None = None

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            work()  # compiles kernels and gives libraries their workspaces, neither of which can be recorded
        here.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        pool = None if self._first is None else self._first.pool()
        with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
            work()
        self._first = self._first or graph
        replay: Callable[[], None] = graph.replay
        return replay
