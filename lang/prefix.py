"""What a program always begins with, prefilled and held before its first run: `program.cache()`."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from .backends.base import Backend, BackendStream, Outcome
from .graph.graph import Graph
from .graph.rows import beginning
from .waiting import Wake, wait


class HeldPrefixes:
    """The prefixes of one program that backends hold for it; let go with the program, or with the backend."""

    def __init__(self) -> None:
        self._streams: weakref.WeakKeyDictionary[Backend, BackendStream] = weakref.WeakKeyDictionary()

    def hold(self, backend: Backend, graph: Graph, bound: Mapping[str, Any]) -> str:
        """Prefill what the graph begins with, given these arguments, and keep its stream. Returns the text. Waits."""
        stream = backend.stream()
        said = [_say(stream, operation, argument) for operation, argument in beginning(graph, bound)]
        failed: list[Exception] = []
        if said:
            wait(lambda wake: _warm(stream, wake, failed))
        if failed:
            stream.close()
            raise failed[0]
        before = self._streams.pop(backend, None)
        if before is not None:
            before.close()
        self._streams[backend] = stream
        return "".join(said)


def _say(stream: BackendStream, operation: str, argument: str) -> str:
    written = getattr(stream, operation)(argument)
    return argument if operation == "append" else written or ""


def _warm(stream: BackendStream, wake: Wake, failed: list[Exception]) -> None:
    def done(outcome: Outcome) -> None:
        if outcome.error is not None:
            failed.append(outcome.error)
        wake()

    cancel: Any = stream.warm(done)
    if cancel is None:
        wake()
