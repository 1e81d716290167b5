"""What the rows of a batch begin with is computed once, before they start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeVar

from ..backends.base import Backend, BackendStream, Outcome
from ..nodes import RoleEnd, RoleStart, ScopeEnd, ScopeStart, SetVariable
from ..options import ExecutionOptions
from ..sampling import Sampling
from ..waiting import Wake, wait
from .graph import Append, Graph
from .references import Argument, Composed, Value, fill
from .templates import Templates, templates_of

LEAST = 200  # characters: less than that is computed with the rows as quickly

Row = tuple[Sequence[Any], Mapping[str, Any]]
Beginning = list[tuple[str, str]]  # "append" and a text, "start_role" or "end_role" and a role
T = TypeVar("T")


def warm_rows(
    func: Any, backend: Backend, rows: Sequence[Row], defaults: Sampling, options: ExecutionOptions
) -> BackendStream | None:
    """Prefill what all rows of a compiled program begin with, and wait for it. None: that is too little to be worth it.

    The stream that is returned holds the prefix in the cache until it is closed.
    """
    templates = templates_of(func)
    if templates is None or len(rows) < 2 or not (options.graph and options.warm_forks):
        return None
    shared = shared_beginning(templates, rows, defaults)
    if sum(len(text) for operation, text in shared if operation == "append") < LEAST:
        return None
    stream = backend.stream()
    for operation, text in shared:
        getattr(stream, operation)(text)
    _warm(stream)
    if options.next_use:
        stream.hint(next_use=1.0)
    return stream


def held(states: Iterator[T], stream: BackendStream) -> Iterator[T]:
    """The states of a batch; after the last of them, the stream is closed."""
    try:
        yield from states
    finally:
        stream.close()


def shared_beginning(templates: Templates, rows: Sequence[Row], defaults: Sampling) -> Beginning:
    """What the streams of all rows begin with, as far as no value has to be generated for it."""
    shared: Beginning | None = None
    for args, kwargs in rows:
        arguments = templates.bound(args, kwargs)
        template = templates.usable_template(arguments, defaults)
        if template is None:
            continue
        begins = beginning(template.graph, arguments)
        shared = begins if shared is None else common(shared, begins)
        if not shared:
            break
    return shared or []


def beginning(graph: Graph, arguments: Mapping[str, Any]) -> Beginning:
    """What a program's own stream begins with, as far as constants and these arguments say it."""
    found: Beginning = []

    def look_up(source: Argument | Value) -> Any:
        if isinstance(source, Value):
            raise LookupError
        value: Any = arguments
        for key in source.path:
            value = value[key]
        return value

    for item in graph.streams[0].items if graph.streams else ():
        if isinstance(item, Append):
            parts = item.text.parts if isinstance(item.text, Composed) else (item.text,)
            known = list(_known(parts, look_up))
            if found and found[-1][0] == "append":
                found[-1] = ("append", found[-1][1] + "".join(known))
            elif any(known):
                found.append(("append", "".join(known)))
            if len(known) < len(parts):
                break
        elif isinstance(item, RoleStart | RoleEnd):
            found.append(("start_role" if isinstance(item, RoleStart) else "end_role", item.role))
        elif not isinstance(item, ScopeStart | ScopeEnd | SetVariable):
            break
    return found


def _known(parts: Iterable[Any], look_up: Callable[[Argument | Value], Any]) -> Iterator[str]:
    """The texts of the parts, up to the first that is not known yet."""
    for part in parts:
        try:
            text = fill(part, look_up)
        except LookupError:
            return
        if not isinstance(text, str):
            return
        yield text


def common(one: Beginning, other: Beginning) -> Beginning:
    """What two beginnings begin with; the last may be the beginning of a text."""
    shared: Beginning = []
    for mine, theirs in zip(one, other, strict=False):
        if mine == theirs:
            shared.append(mine)
            continue
        if mine[0] == theirs[0] == "append":
            alike = takewhile(lambda pair: pair[0] == pair[1], zip(mine[1], theirs[1], strict=False))
            count = sum(1 for _ in alike)
            if count:
                shared.append(("append", mine[1][:count]))
        break
    return shared


def _warm(stream: BackendStream) -> None:
    """Wait until what was appended is in the cache. A failure is the rows' to meet: they need the same."""

    def subscribe(wake: Wake) -> None:
        def done(_outcome: Outcome) -> None:
            wake()

        if stream.warm(done) is None:
            wake()

    wait(subscribe)
