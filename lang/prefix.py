"""What a program always begins with, prefilled and held before its first run: `program.cache()`."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from .backends.base import Backend, BackendStream, Outcome
from .graph.graph import Append, Graph
from .graph.references import Composed
from .nodes import RoleEnd, RoleStart
from .waiting import Wake, wait


class HeldPrefixes:
    """The prefixes of one program that backends hold for it; let go with the program, or with the backend."""

    def __init__(self) -> None:
        self._streams: weakref.WeakKeyDictionary[Backend, BackendStream] = weakref.WeakKeyDictionary()

    def hold(self, backend: Backend, graph: Graph) -> str:
        """Prefill the constant text that the graph begins with, and keep its stream. Returns the text. Waits."""
        stream = backend.stream()
        said = [_say(stream, operation, argument) for operation, argument in _beginning(graph)]
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


def _beginning(graph: Graph) -> Iterable[tuple[str, str]]:
    """The constants before the first thing that depends on anything."""
    for item in graph.streams[0].items if graph.streams else ():
        if isinstance(item, RoleStart):
            yield "start_role", item.role
        elif isinstance(item, RoleEnd):
            yield "end_role", item.role
        elif isinstance(item, Append) and isinstance(item.text, str):
            yield "append", item.text
        else:
            if isinstance(item, Append) and isinstance(item.text, Composed) and isinstance(item.text.parts[0], str):
                yield "append", item.text.parts[0]
            return


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
