"""Runs a template on a state: no Python body, only lanes of items that go on as soon as what they depend on is there.

    lane of stream 0     "Plan: " gen plan ┊ fork ┊ join ← waits until the lanes of its branches have ended
    lane of stream 1     "Do " + plan ← waits until plan is there   gen do

A lane is a generator that gives what it has to wait for. One loop runs them all, in the thread, greenlet or coroutine
that a body would run in.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..choices import checked_options
from ..executor import StreamExecutor
from ..failures import again
from ..nodes import Gen, Node, Place, ScopeEnd, ScopeStart, Select, SetVariable, Text
from ..sampling import Sampling
from ..state import ProgramState, append, check_text
from ..variables import Variable
from ..waiting import Subscribe, Wake
from .graph import Append, Fork, Graph, Item, Join, Position, Returned
from .references import Argument, Reference, Value, fill, references
from .schedule import idle_steps

Lane = Generator[Subscribe, None, None]
_NOWHERE = Place("?", 0, "?")


@dataclass(frozen=True, slots=True)
class Template:
    """A graph that is ready to run."""

    graph: Graph
    idle: Mapping[Position, float]  # steps that streams rest before items
    holes: Mapping[Position, tuple[Value, ...]]  # the generated values in items that have holes
    joined: frozenset[int]  # streams that are joined

    @classmethod
    def of(cls, graph: Graph, defaults: Sampling) -> Template:
        """Look through the graph once, so that no run has to."""
        holes = {}
        for position, item in graph.items():
            found = [reference.source for reference in references(item)]
            if found:
                holes[position] = tuple(dict.fromkeys(source for source in found if isinstance(source, Value)))
        joined = frozenset(child for _, item in graph.items() if isinstance(item, Join) for child in item.children)
        return cls(graph, idle_steps(graph, defaults), holes, joined)


def execute(template: Template, state: ProgramState, arguments: Mapping[str, Any]) -> Generator[Subscribe, None, Any]:
    """Run a whole template on a state. Gives what to wait for; returns what the program's body would.

    Raises what the body would: the error of a value that a text needs.
    """
    return _Execution(template, state, arguments).run()


class _Bell:
    """Lanes that can go on, rung from any thread."""

    def __init__(self, lanes: Iterable[Lane]) -> None:
        self._lock = threading.Lock()
        self._ready = deque(lanes)
        self._wake: Wake | None = None
        self.lanes = len(self._ready)

    def ring(self, lane: Lane) -> None:
        with self._lock:
            self._ready.append(lane)
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def take(self) -> Lane | None:
        with self._lock:
            return self._ready.popleft() if self._ready else None

    def subscribe(self, wake: Wake) -> None:
        with self._lock:
            if not self._ready:
                self._wake = wake
                return
        wake()


class _Execution:
    def __init__(self, template: Template, state: ProgramState, arguments: Mapping[str, Any]) -> None:
        self._graph = template.graph
        self._holes = template.holes
        self._joined = template.joined
        self._arguments = arguments
        self._idle = template.idle if state.stream_executor.context.options.next_use else {}
        self._states: dict[int, ProgramState] = {0: state}
        self._variables: dict[Value, Variable] = {}
        self._waiting: dict[Any, list[Wake]] = {}  # for a stream to begin, an item to be appended, a lane to end
        self._ended: set[int] = set()  # streams whose lanes have ended
        self._pending: list[Node] = []  # of one stream, in order
        self._producers: list[Value] = []  # what they make
        self._names: set[str] = set()  # that they declare

    def run(self) -> Generator[Subscribe, None, Any]:
        """Run all lanes; returns the result."""
        bell = _Bell(self._lanes())
        living = bell.lanes
        while living:
            lane = bell.take()
            if lane is None:
                yield bell.subscribe
                continue
            blocked = next(lane, None)
            if blocked is None:
                living -= 1
            else:
                blocked(partial(bell.ring, lane))
        values = [reference.source for reference in references(self._graph.result)]
        yield from self._missing([source for source in values if isinstance(source, Value)], 0)
        return self._with_states(fill(self._graph.result, self._look_up))

    def _lanes(self) -> Iterator[Lane]:
        if self._graph.waits:
            yield self._lane(self._graph.order)
            return
        for stream in self._graph.streams:
            yield self._lane([(stream.number, index) for index in range(len(stream.items))], stream.number)

    def _lane(self, positions: Iterable[Position], own: int | None = None) -> Lane:
        """Append items, as many at once as can be, so that a gen knows the constants behind it."""
        at = 0
        for position in positions:
            stream, item = position[0], self._graph.item(position)
            if stream != at or stream not in self._states:
                self._flush(at)
                at = stream
                while stream not in self._states:
                    yield partial(self._when, ("stream", stream))
            if self._holes.get(position):
                for count, blocked in enumerate(self._missing(self._holes[position], at)):
                    if not count:
                        self._rest(position)
                    yield blocked
            if isinstance(item, Fork | Join):
                self._flush(at)
            if isinstance(item, Fork):
                self._fork(stream, item)
            elif isinstance(item, Join):
                for count, blocked in enumerate(self._branches(item)):
                    if not count:
                        self._rest(position)
                    yield blocked
                children = [self._executor(child) for child in item.children]
                self._executor(stream).join(children, item.mode, item.place or _NOWHERE)
                self._made(stream, [Value(*position, name) for name in item.names])
            else:
                self._append(position, item)
        self._flush(at)
        if own is not None:
            self._end(own)

    # -- waiting --------------------------------------------------------------------------------------------------

    def _missing(self, values: Iterable[Value], at: int) -> Iterator[Subscribe]:
        """What must be waited for before values are there; what is pending for stream `at` is handed over first."""
        for source in values:
            if source not in self._variables:
                self._flush(at)
            while source not in self._variables:
                yield partial(self._when, source)
            if not self._variables[source].ready:
                self._flush(at)
                yield self._variables[source].subscribe

    def _branches(self, join: Join) -> Iterator[Subscribe]:
        """Wait for the lanes of branches, and for what they have begun."""
        for child in join.children:
            while not self._graph.waits and child not in self._ended:
                yield partial(self._when, ("end", child))
            executor = self._executor(child)
            if executor.working:
                yield executor.on_idle

    def _when(self, event: Any, wake: Wake) -> None:
        self._waiting.setdefault(event, []).append(wake)

    def _tell(self, event: Any) -> None:
        for wake in self._waiting.pop(event, ()):
            wake()

    def _rest(self, position: Position) -> None:
        """The stream rests before this item: when it does, tell the cache for how long."""
        steps = self._idle.get(position)
        if steps is None:
            return
        executor = self._executor(position[0])

        def hint() -> None:
            if executor.stream is not None and not executor.working:
                executor.stream.hint(next_use=steps)

        executor.on_idle(hint)

    # -- doing ----------------------------------------------------------------------------------------------------

    def _append(self, position: Position, item: Item) -> None:
        if isinstance(item, Append):
            text: Any = fill(item.text, self._look_up) if position in self._holes else item.text
            if type(text) is not str or isinstance(item.text, Reference):  # it may be no text at all
                self._flush(position[0])
                append(self._states[position[0]], text, item.place or _NOWHERE)
                return
            if not text.isascii():
                check_text(text, self._executor(position[0]).context.program, item.place or _NOWHERE)
            self._pending.append(Text(text, item.place))
            return
        filled: Any = fill(item, self._look_up) if position in self._holes else item
        if isinstance(filled, Select) and filled is not item:
            checked_options(filled.choices)
        name = filled.name if isinstance(filled, Gen | Select | ScopeStart | ScopeEnd | SetVariable) else None
        if name is not None:
            if name in self._names:  # what it declared must be seen before it is declared anew
                self._flush(position[0])
            self._names.add(name)
            if not isinstance(filled, ScopeStart):
                self._producers.append(Value(*position, name))
        self._pending.append(filled)

    def _flush(self, stream: int) -> None:
        """Hand over what is pending."""
        nodes, self._pending = self._pending, []
        producers, self._producers = self._producers, []
        self._names.clear()
        if nodes:
            self._executor(stream).submit(nodes)
            self._made(stream, producers)

    def _made(self, stream: int, values: Iterable[Value]) -> None:
        """These variables can be waited for now."""
        variables = self._executor(stream).variables
        for value in values:
            self._variables[value] = variables[value.name]
            self._tell(value)

    def _fork(self, stream: int, fork: Fork) -> None:
        executors = self._executor(stream).fork(len(fork.children), fork.place)
        for child, executor in zip(fork.children, executors, strict=True):
            self._states[child] = ProgramState(executor)
            self._tell(("stream", child))

    def _end(self, stream: int) -> None:
        self._ended.add(stream)
        owned = stream and stream in self._states and stream not in self._graph.kept
        if owned and stream not in self._joined:
            self._executor(stream).seal("the program appends nothing more to it")
        self._tell(("end", stream))

    def _executor(self, stream: int) -> StreamExecutor:
        return self._states[stream].stream_executor

    def _look_up(self, source: Argument | Value) -> Any:
        if isinstance(source, Argument):
            value: Any = self._arguments
            for key in source.path:
                value = value[key]
            return value
        variable = self._variables[source]
        if variable.error is not None:
            raise again(variable.error)
        return variable.value

    def _with_states(self, thing: Any) -> Any:
        """The result, with states where the body returned states."""
        if isinstance(thing, Returned):
            return self._states[thing.stream]
        if isinstance(thing, list | tuple) and not hasattr(thing, "_fields"):
            made = [self._with_states(one) for one in thing]
            return made if isinstance(thing, list) else tuple(made)
        if type(thing) is dict:
            return {key: self._with_states(one) for key, one in thing.items()}
        return thing
