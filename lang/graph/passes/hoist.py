"""Hoists what branches share: the constants with which several children of a fork begin are appended once, above them.

    fork ─┬ "Tip 1. Think of "  gen          fork ─ "Tip "  fork ─┬ "1. Think of "  gen
          └ "Tip 2. Think of "  gen    ->                         └ "2. Think of "  gen

The children's texts do not change. A stream in between holds the shared text, so the parent's text does not either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from ..graph import Append, Fork, Graph, Item, Join, Position, Stream
from ..references import Composed, Reference, compose

LEAST = 32  # characters: below it, one more stream costs more than it saves

Parts = tuple[str | Reference, ...]


def hoist_shared(graph: Graph) -> Graph:
    """The graph with a stream in between wherever at least two children of a fork begin with the same long text.

    Run `merge_constants` before it: only a child's first item is looked at. Nothing refers to a constant, so all
    references stay as they are but those into the children, whose first item may go: it is kept, if need be empty.
    """
    streams = list(graph.streams)
    order = list(graph.order)
    fixed = _appended_by_joins(graph)
    number = 0
    while number < len(streams):  # grows: what was hoisted may be hoisted again, in groups
        for index, item in enumerate(streams[number].items):
            if isinstance(item, Fork) and len(item.children) > 1:
                _hoist(streams, order, (number, index), item, fixed)
        number += 1
    return replace(graph, streams=tuple(streams), order=tuple(order))


def _appended_by_joins(graph: Graph) -> frozenset[int]:
    """Streams whose own text a join appends to another: it must stay their own."""
    joins = [item for _, item in graph.items() if isinstance(item, Join) and item.mode == "concate_and_append"]
    return frozenset(child for join in joins for child in join.children)


def _hoist(streams: list[Stream], order: list[Position], at: Position, fork: Fork, fixed: frozenset[int]) -> None:
    """Give groups of the fork's children that begin alike a stream of their own."""
    number, index = at
    children: list[int] = []
    for group in _alike(streams, fork.children):
        shared = common([_first(streams[child]) for child in group])
        if len(group) < 2 or _length(shared) < LEAST or not fixed.isdisjoint(group):
            children.extend(group)
            continue
        between = len(streams)
        inner = Fork(tuple(group), fork.place)
        streams.append(Stream(between, (_append(shared), inner), (number, index), shared=True))
        for child in group:
            rest = without(_first(streams[child]), shared)
            items: tuple[Item, ...] = (_append(rest), *streams[child].items[1:])
            streams[child] = replace(streams[child], items=items, parent=(between, 1))
        children.append(between)
        place = order.index(at) + 1
        order[place:place] = [(between, 0), (between, 1)]
    own = streams[number].items
    streams[number] = replace(
        streams[number], items=(*own[:index], Fork(tuple(children), fork.place), *own[index + 1 :])
    )


def _alike(streams: Sequence[Stream], children: Sequence[int]) -> list[list[int]]:
    """The children in groups that begin with the same LEAST characters, or with the same reference."""
    groups: dict[object, list[int]] = {}
    for child in children:
        first = _first(streams[child])
        head: object = child
        begin = first[0] if first else None
        if isinstance(begin, str):
            head = (begin[:LEAST], repr(first[1:2]) if len(begin) < LEAST else "")
        elif begin is not None:
            head = repr(begin)
        groups.setdefault(head, []).append(child)
    return list(groups.values())


def common(texts: Sequence[Parts]) -> Parts:
    """The parts that all texts begin with; the last may be the beginning of a constant."""
    shared: list[str | Reference] = []
    for column in zip(*texts, strict=False):
        if all(part == column[0] for part in column):
            shared.append(column[0])
            continue
        constants = [part for part in column if isinstance(part, str)]
        if len(constants) == len(column):
            alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*constants, strict=False))
            shared.append(constants[0][: sum(1 for _ in alike)])
        break
    return tuple(part for part in shared if part != "")


def without(text: Parts, shared: Parts) -> Parts:
    """What is left of `text` behind `shared`, with which it begins."""
    rest = list(text[len(shared) :])
    if shared and isinstance(shared[-1], str):
        last = text[len(shared) - 1]
        assert isinstance(last, str)
        rest.insert(0, last[len(shared[-1]) :])
    return tuple(part for part in rest if part != "")


def _first(stream: Stream) -> Parts:
    item = stream.items[0] if stream.items else None
    if not isinstance(item, Append) or isinstance(item.text, Reference):
        return ()
    return item.text.parts if isinstance(item.text, Composed) else (item.text,)


def _append(parts: Parts) -> Append:
    return Append(compose(iter(parts)))


def _length(parts: Parts) -> int:
    """Characters; a reference counts as a few."""
    return sum(len(part) if isinstance(part, str) else 8 for part in parts)
