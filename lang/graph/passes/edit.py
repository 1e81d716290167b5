"""Rewrites a graph whose items moved or went away, so that references and order still point at the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..graph import Graph, Item, Stream
from ..references import Composed, Reference, Value, rebuild


@dataclass(frozen=True, slots=True)
class Move:
    """A stream's new items, and for each the index that it (or the first of what it was merged of) had before."""

    items: tuple[Item, ...]
    came_from: tuple[int, ...]


def rewritten(graph: Graph, moves: Sequence[Move]) -> Graph:
    """The graph with each stream's items as in `moves` (one for each stream); what is gone must not be referred to."""
    now = [{old: new for new, old in enumerate(move.came_from)} for move in moves]

    def follow(thing: Any) -> Any:
        return rebuild(thing, lambda hole: _moved(hole, now))

    def position(stream: int, index: int) -> tuple[int, int] | None:
        return (stream, now[stream][index]) if index in now[stream] else None

    streams = tuple(
        Stream(
            stream.number,
            tuple(follow(item) for item in move.items),
            None if stream.parent is None else position(*stream.parent) or stream.parent,
            stream.shared,
        )
        for stream, move in zip(graph.streams, moves, strict=True)
    )
    order = tuple(new for old in graph.order if (new := position(*old)) is not None)
    return replace(graph, streams=streams, order=order, result=follow(graph.result))


def _moved(hole: Reference | Composed, now: list[dict[int, int]]) -> Reference | Composed:
    if isinstance(hole, Composed):
        parts = tuple(part if isinstance(part, str) else _moved(part, now) for part in hole.parts)
        return Composed(parts)  # type: ignore[arg-type]
    source = hole.source
    if isinstance(source, Composed):
        source = _moved(source, now)  # type: ignore[assignment]
    elif isinstance(source, Value):
        source = replace(source, position=now[source.stream][source.position])
    return Reference(source, rebuild(hole.operations, lambda inner: _moved(inner, now)))
