"""How CUDA is asked to record, told by a CUDA that only notes what it is asked: no GPU is needed to keep the order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from ramify.kernels.triton.recorder import CudaRecorder

PLACE = torch.device("cuda")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What CUDA was asked, in order."""
    said: list[str] = []

    class Stream:
        def __init__(self, name: object) -> None:
            self.name = "main" if name == "main" else "side"

        def wait_stream(self, other: Stream) -> None:
            said.append(f"{self.name} waits for {other.name}")

    class Graph:
        made = 0

        def __init__(self) -> None:
            Graph.made += 1
            self.name = f"graph {Graph.made}"

        def pool(self) -> str:
            return f"the pool of {self.name}"

        def replay(self) -> None:
            said.append(f"replay {self.name}")

    @contextmanager
    def stream(one: Stream) -> Iterator[None]:
        said.append(f"on {one.name}")
        yield
        said.append("back")

    @contextmanager
    def graph(one: Graph, pool: Any, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        said.append(f"record {one.name} on {stream.name} in {pool}, {capture_error_mode}")
        yield
        said.append("recorded")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream("main"))
    return said


def test_work_is_done_once_and_then_recorded(asked: list[str]) -> None:
    recorder = CudaRecorder(PLACE)
    replay = recorder.record(lambda: asked.append("work"))
    assert asked == [
        "side waits for main",  # so that what was written before is there
        "on side", "work", "back",
        "main waits for side",
        "record graph 1 on side in None, thread_local", "work", "recorded",
    ]  # fmt: skip
    asked.clear()
    replay()
    assert asked == ["replay graph 1"]


def test_all_recordings_share_the_memory_of_the_first(asked: list[str]) -> None:
    recorder = CudaRecorder(PLACE)
    for _ in range(3):
        recorder.record(lambda: None)
    pools = [said.split(" in ")[1] for said in asked if said.startswith("record ")]
    assert pools == ["None, thread_local", *["the pool of graph 1, thread_local"] * 2]


def test_what_fails_while_it_is_recorded_leaves_no_pool(asked: list[str]) -> None:
    recorder = CudaRecorder(PLACE)
    calls = iter([None, torch.OutOfMemoryError("CUDA out of memory")])

    def work() -> None:
        if (error := next(calls, None)) is not None:
            raise error

    with pytest.raises(torch.OutOfMemoryError):
        recorder.record(work)
    asked.clear()
    recorder.record(lambda: None)
    assert "record graph 2 on side in None, thread_local" in asked
