"""Gives every gen and select its place in the queue: the more model calls wait behind it, the earlier it goes."""

from __future__ import annotations

from dataclasses import replace

from ...nodes import Gen, Select
from ..graph import Graph, Item, Position
from ..schedule import calls_behind


def prioritize(graph: Graph) -> Graph:
    """The graph with the priority of each call set from the longest chain of calls that waits for it."""
    behind = calls_behind(graph)

    def placed(position: Position, item: Item) -> Item:
        return replace(item, priority=-behind[position]) if isinstance(item, Gen | Select) else item

    streams = tuple(
        replace(s, items=tuple(placed((s.number, i), item) for i, item in enumerate(s.items))) for s in graph.streams
    )
    return replace(graph, streams=streams)
