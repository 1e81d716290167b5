"""Merges constants that follow each other in a stream: one append, one tokenization, one longer text to know ahead."""

from __future__ import annotations

from ..graph import Append, Graph, Item
from ..references import Composed, Reference, compose
from .edit import Move, rewritten


def merge_constants(graph: Graph) -> Graph:
    """The graph with runs of neighbouring texts in a stream as one text each; positions of everything else follow.

    A bare reference is left alone: its value may be something that only the append itself can judge.
    """
    moves: list[Move] = []
    for stream in graph.streams:
        items: list[Item] = []
        came_from: list[int] = []
        for index, item in enumerate(stream.items):
            last = items[-1] if items else None
            if _mergeable(item) and last is not None and _mergeable(last):
                assert isinstance(item, Append) and isinstance(last, Append)
                items[-1] = Append(compose(iter((*_parts(last), *_parts(item)))), last.place)
            else:
                items.append(item)
                came_from.append(index)
        moves.append(Move(tuple(items), tuple(came_from)))
    return rewritten(graph, moves)


def _mergeable(item: Item) -> bool:
    return isinstance(item, Append) and not isinstance(item.text, Reference)


def _parts(item: Append) -> tuple[str | Reference, ...]:
    text = item.text
    assert not isinstance(text, Reference)
    return text.parts if isinstance(text, Composed) else (text,)
