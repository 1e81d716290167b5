"""What is done to a graph before it runs: small passes, each with a switch, none of which changes a text."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph
from .drop_unread import drop_unread
from .hoist import hoist_shared
from .independent import free_independent
from .merge_constants import merge_constants
from .prioritize import prioritize


@dataclass(frozen=True, slots=True)
class Passes:
    """Which passes run. All of them can be switched off, so that the worth of each can be measured."""

    drop_unread: bool = True  # branches and ends of branches that nobody reads
    merge_constants: bool = True  # neighbouring texts become one
    hoist_shared: bool = True  # what branches begin with is appended once, above them (needs merge_constants)
    free_independent: bool = True  # gens wait for what they depend on, not for the program's order
    prioritize: bool = True  # calls with the longest chain behind them go first


ALL_PASSES = Passes()
NO_PASSES = Passes(False, False, False, False, False)


def apply(graph: Graph, passes: Passes) -> Graph:
    """The graph after the passes that are switched on."""
    if passes.drop_unread:
        graph = drop_unread(graph)
    if passes.merge_constants:
        graph = merge_constants(graph)
        if passes.hoist_shared:
            graph = hoist_shared(graph)
    if passes.free_independent:
        graph = free_independent(graph)
    if passes.prioritize:
        graph = prioritize(graph)
    return graph
