"""Runs a program's body once with symbols for its texts, and gets the graph that every run with such arguments has.

The body runs twice, with other characters in the symbols. Where the two differ, something looked at the characters (or
is not the same twice), and the template ends before it. See symbols.py and guard.py for what else ends it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from string import printable
from types import CodeType, FunctionType, TracebackType
from typing import Any, cast

from ..nodes import Place
from ..options import ExecutionOptions
from ..run_context import RunContext
from ..running import inside_program
from ..sampling import Sampling
from ..state import ProgramState, ProgramStateGroup
from .graph import Graph, Position, Returned, Stop, Stream
from .guard import guarded
from .recorder import Recording, StreamRecorder
from .references import Argument, Key, Reference
from .symbols import Holes, LookedAt, is_symbol

Body = Callable[..., Any]
LONG = 6_007  # characters of a symbol in the first run, so that a limit on a prompt's length shows


def trace(
    body: Body,
    program: str,
    arguments: Mapping[str, Any],
    defaults: Sampling,
    known: Collection[tuple[Key, ...]] = (),
    options: ExecutionOptions | None = None,
) -> Graph:
    """The graph of `body(state, **arguments)`, in which texts among the arguments are holes.

    Texts at the paths in `known`, and everything that is no text, count as what they are. Runs the body twice; nothing
    is generated. What the body does that a template cannot hold ends the graph, with the reason in `graph.stop`.
    """
    context = RunContext(program, cast(Any, None), defaults, options or ExecutionOptions())
    long = (" \n" + "".join(_constants(body)) + printable) * (LONG // 100 + 1)
    first = _trace_once(body, arguments, context, frozenset(known), long[: LONG - 2] + "\n ")
    second = _trace_once(body, arguments, context, frozenset(known), "")
    return _agreed(first, second)


def _trace_once(
    body: Body, arguments: Mapping[str, Any], context: RunContext, known: frozenset[tuple[Key, ...]], filling: str
) -> Graph:
    holes = Holes(filling)
    recording = Recording(context.program, holes, context)
    state = ProgramState(cast(Any, StreamRecorder(recording)))
    symbolic = {name: _symbolic(value, (name,), holes, known) for name, value in arguments.items()}
    result: Any = None
    kept: list[int] = []
    try:
        with inside_program(), guarded(holes):
            returned = body(state, **symbolic)
            if inspect.iscoroutine(returned):
                returned = _finished(returned, holes)
        result = holes.read_all(_named(returned, kept))
    except LookedAt:
        pass
    except Exception as error:
        if holes.ended is None:
            recording.stopped(f"the body raises {type(error).__name__}", _place(error.__traceback__))
    if holes.ended is not None:
        recording.stopped(
            holes.ended.reason, holes.ended.place or _place(holes.ended.__traceback__), holes.ended.sources
        )
    return recording.graph(result, tuple(kept))


def _finished(coroutine: Any, holes: Holes) -> Any:
    """What an `async def` body returns: nothing in it has to be waited for while it is traced."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    else:
        coroutine.close()
        holes.end(LookedAt("the body awaits something that is not the program's own"))


def _symbolic(value: Any, path: tuple[Key, ...], holes: Holes, known: frozenset[tuple[Key, ...]]) -> Any:
    """An argument with symbols for the texts in it."""
    if type(value) is str:
        return value if path in known else holes.text_of(Reference(Argument(path)))
    if type(value) in (list, tuple):
        return type(value)(_symbolic(one, (*path, index), holes, known) for index, one in enumerate(value))
    if type(value) is dict and all(isinstance(key, str | int) for key in value):
        return {key: _symbolic(one, (*path, key), holes, known) for key, one in value.items()}
    return value


def _named(returned: Any, kept: list[int]) -> Any:
    """What a body returns, with the numbers of streams in place of states; those streams are noted in `kept`."""
    if is_symbol(returned):
        return returned
    if isinstance(returned, ProgramState):
        number = cast(StreamRecorder, returned.stream_executor).number
        kept.append(number)
        return Returned(number)
    if isinstance(returned, ProgramStateGroup):
        raise LookedAt("the body returns the branches of a fork")
    if isinstance(returned, list | tuple) and not hasattr(returned, "_fields"):
        named = [_named(one, kept) for one in returned]
        return named if isinstance(returned, list) else tuple(named)
    if type(returned) is dict:
        return {key: _named(one, kept) for key, one in returned.items()}
    return returned


def _place(trace: TracebackType | None) -> Place | None:
    """Where in the user's code an error came up: the innermost line that is neither the language's nor Python's own."""
    own = __name__.partition(".")[0]
    found = None
    while trace is not None:
        frame = trace.tb_frame
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in (own, *sys.stdlib_module_names):
            found = Place(frame.f_code.co_filename, trace.tb_lineno, frame.f_code.co_name)
        trace = trace.tb_next
    return found


def _constants(body: Body) -> Iterator[str]:
    """The short texts in a body's code, which it may look for in other texts."""
    code = getattr(body, "__code__", None)
    stack: list[CodeType] = [code] if code is not None else []
    while stack:
        for constant in stack.pop().co_consts:
            if isinstance(constant, CodeType):
                stack.append(constant)
            elif isinstance(constant, str) and len(constant) < 40:
                yield constant + " "


def _agreed(first: Graph, second: Graph) -> Graph:
    """The graph as far as both traces agree."""
    common = 0
    for one, other in zip(first.order, second.order, strict=False):
        if one != other or not same(first.item(one), second.item(other)):
            break
        common += 1
    whole = common == len(first.order) == len(second.order)
    if whole and (first.stop is None) == (second.stop is None) and same(first.result, second.result):
        return first
    place = first.item(first.order[common]).place if common < len(first.order) else None
    reason = "here the body depends on the characters of a value that is not there yet, or is not the same twice"
    stop = first.stop if whole and first.stop is not None else Stop(reason, place)
    return cut(first, common, stop)


def cut(graph: Graph, count: int, stop: Stop) -> Graph:
    """The first `count` items of a graph, and why it ends there."""
    order = graph.order[:count]
    lengths: dict[int, int] = {}
    for stream, index in order:
        lengths[stream] = index + 1
    streams = tuple(Stream(s.number, s.items[: lengths.get(s.number, 0)], s.parent) for s in graph.streams)
    return replace(graph, streams=_reached(streams), order=order, result=None, kept=(), stop=stop)


def _reached(streams: tuple[Stream, ...]) -> tuple[Stream, ...]:
    """Without the streams at the end whose forks are gone."""

    def there(parent: Position | None) -> bool:
        return parent is None or parent[1] < len(streams[parent[0]].items)

    count = len(streams)
    while count and not there(streams[count - 1].parent):
        count -= 1
    return streams[:count]


def same(one: Any, other: Any) -> bool:
    """Whether two traces wrote down the same: ==, but functions and classes made in the body count by their code."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, FunctionType):
        return bool(one.__code__ == other.__code__)
    if isinstance(one, type):
        return one is other or (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
    if is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one) if f.compare)
    return one is other or bool(one == other)
