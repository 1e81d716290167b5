"""Frees gens that do not depend on each other from the order in which the program's text happens to mention them."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Graph


def free_independent(graph: Graph) -> Graph:
    """The graph in which an item waits for what it depends on, and for nothing else.

    A body that reads `a["x"]` waits there, and what it writes to other streams afterwards starts later than it could.
    The edges of the graph say what really depends on what; so, with all of the program known, those waits can go. Where
    the graph stops early they stay: the body itself runs then.
    """
    return graph if graph.stop is not None else replace(graph, waits=False)
