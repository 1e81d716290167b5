"""The request graph as plain data: streams of items, and the edges between them.

    stream 0   "Plan: "  gen plan  fork 1 2 ─────────────── join 1 2  "So: "  gen end
    stream 1                         └ "Do " + plan[0]  gen do ┘
    stream 2                         └ "Do " + plan[1]  gen do ┘

An item is a node of the language (nodes.py), a text that may have holes, a fork or a join. Four kinds of edges are all
there is: order within a stream, fork, join, and the use of a variable. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ..nodes import Gen, Media, Place, RoleEnd, RoleStart, ScopeEnd, ScopeStart, Select, SetVariable
from .references import Argument, Composed, Reference, Value, references


@dataclass(frozen=True, slots=True)
class Append:
    """A constant, or a text with holes, or one reference whose value is appended."""

    text: str | Composed | Reference
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Fork:
    """`children` go on from here, each on its own."""

    children: tuple[int, ...]
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for `children`; take over their new variables as lists, or append their texts."""

    children: tuple[int, ...]
    mode: str = "gather_variable"
    names: tuple[str, ...] = ()  # the variables that are gathered
    place: Place | None = field(default=None, compare=False)


Item = Append | Gen | Select | RoleStart | RoleEnd | Media | SetVariable | ScopeStart | ScopeEnd | Fork | Join
Position = tuple[int, int]  # stream, index of the item in it


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of text: what is appended to it and generated in it, in order."""

    number: int
    items: tuple[Item, ...] = ()
    parent: Position | None = None  # the fork it came out of
    shared: bool = False  # made by a pass, to hold what branches have in common


@dataclass(frozen=True, slots=True)
class Returned:
    """Stands in a result for the state of a stream, which the body returned."""

    stream: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a template ends before the program does, and where in the user's file."""

    reason: str
    place: Place | None = None
    arguments: tuple[Argument, ...] = ()  # knowing these would take the template further

    def __str__(self) -> str:
        return f"{self.place.file}:{self.place.line}: {self.reason}" if self.place else self.reason


@dataclass(frozen=True, slots=True)
class Edge:
    """`before` must be there before `after` can start."""

    kind: Literal["order", "fork", "join", "use"]
    before: Position
    after: Position
    name: str = ""  # of the variable, for a use


@dataclass(frozen=True, slots=True)
class Graph:
    """One program, as far as it is known. Stream 0 is the program's own state; `result` is what its body returns."""

    program: str
    streams: tuple[Stream, ...]
    order: tuple[Position, ...] = ()  # all items as the program's text has them: every edge points forward in it
    result: Any = None
    kept: tuple[int, ...] = ()  # streams other than 0 that whoever called the program may read
    waits: bool = True  # as the body would: nothing starts before what was read earlier in the program is there
    stop: Stop | None = None  # None: the whole program is here

    def item(self, position: Position) -> Item:
        """The item at a position."""
        return self.streams[position[0]].items[position[1]]

    def items(self) -> Iterator[tuple[Position, Item]]:
        """Every item, in the program's order."""
        return ((position, self.item(position)) for position in self.order)

    def previous(self, position: Position) -> Position | None:
        """The item that must be done before this one in its own stream; for a fork's child, the fork."""
        stream, index = position
        return (stream, index - 1) if index else self.streams[stream].parent

    def edges(self) -> Iterator[Edge]:
        """Every edge, each once."""
        for position, item in self.items():
            before = self.previous(position)
            if before is not None:
                yield Edge("order" if before[0] == position[0] else "fork", before, position)
            if isinstance(item, Join):
                for child in item.children:
                    last = self.last(child)
                    if last is not None and last != before:
                        yield Edge("join", last, position)
            for source in dict.fromkeys(reference.source for reference in references(item)):
                if isinstance(source, Value):
                    yield Edge("use", (source.stream, source.position), position, source.name)

    def last(self, stream: int) -> Position | None:
        """The last item of a stream; of an empty one, the fork it came out of."""
        found = self.streams[stream]
        return (stream, len(found.items) - 1) if found.items else found.parent

    def arguments(self) -> tuple[str, ...]:
        """The names of the arguments that the graph's texts depend on."""
        used = [reference.source for _, item in self.items() for reference in references(item)]
        used += [reference.source for reference in references(self.result)]
        return tuple(dict.fromkeys(str(source.path[0]) for source in used if isinstance(source, Argument)))


def is_model_work(item: Item) -> bool:
    """Whether an item makes the model work by itself: a gen or a select."""
    return isinstance(item, Gen | Select)
