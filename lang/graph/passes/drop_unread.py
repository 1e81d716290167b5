"""Drops what nobody reads: branches, and ends of branches, whose values no text, join, result or reader asks for."""

from __future__ import annotations

from ..graph import Fork, Graph, Item, Join, Position
from ..references import Value, references
from .edit import Move, rewritten


def drop_unread(graph: Graph) -> Graph:
    """The graph without items that nothing which is read depends on.

    Stream 0 belongs to whoever called the program and is kept whole; so is a stream that is joined (its errors surface
    at the join). Of other streams the part up to the last join or the last value that is used is kept: what the body
    would have waited for still raises what went wrong. A graph that stops early is left
    as it is, because the rest of the program may read anything.
    """
    if graph.stop is not None:
        return graph
    needed, alive = _needed(graph)
    moves = []
    for stream in graph.streams:
        kept = needed[stream.number]
        items: list[Item] = []
        came_from: list[int] = []
        for index, item in enumerate(stream.items[:kept]):
            if isinstance(item, Fork):
                item = Fork(tuple(child for child in item.children if child in alive), item.place)
                if not item.children:
                    continue
            items.append(item)
            came_from.append(index)
        moves.append(Move(tuple(items), tuple(came_from)))
    return rewritten(graph, moves)


def _needed(graph: Graph) -> tuple[list[int], set[int]]:
    """How many items of each stream are needed, and which streams are, be it as empty as they are."""
    alive = {0, *graph.kept}
    needed = [0] * len(graph.streams)
    work: list[Position] = []
    done: set[Position] = set()

    def need(position: Position) -> None:
        if position not in done:
            done.add(position)
            work.append(position)

    def need_all(stream: int) -> None:
        alive.add(stream)
        parent = graph.streams[stream].parent
        if parent is not None:
            need(parent)
        for index in range(len(graph.streams[stream].items)):
            need((stream, index))

    for stream in sorted(alive):
        need_all(stream)
    read = references(graph.result)
    for position, item in graph.items():
        values = [reference for reference in references(item) if isinstance(reference.source, Value)]
        read += values
        if values or isinstance(item, Join):  # the body waits there, and it raises what went wrong
            need(position)
    for reference in read:
        if isinstance(reference.source, Value):
            need((reference.source.stream, reference.source.position))
    while work:
        position = work.pop()
        alive.add(position[0])
        needed[position[0]] = max(needed[position[0]], position[1] + 1)
        before = graph.previous(position)
        if before is not None:
            need(before)
        item = graph.item(position)
        if isinstance(item, Join):
            for child in item.children:
                need_all(child)
    return needed, alive
