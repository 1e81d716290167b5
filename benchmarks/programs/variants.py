"""The same programs with one thing switched off: the ablations of the paper's figure 8, and ours."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ramify import ExecutionOptions

ALL = ExecutionOptions()
NO_GRAPH = replace(
    ALL, lookahead=False, warm_forks=False, priorities=False, next_use=False, cancel_unread=False, graph=False,
    reuse_handles=False,
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """How an engine is made, how programs are executed, and in what order rows come."""

    name: str
    engine: Mapping[str, Any] = field(default_factory=dict)
    options: ExecutionOptions = ALL
    shuffled: bool = False
    at_once: int | None = None  # programs under way; None: all
    compiled: bool = False
    apart: bool = False  # a number in front of each program: it finds its own prefixes again, and nobody else's

    def arranged(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows in the variant's order."""
        return random.Random(0).sample(rows, len(rows)) if self.shuffled else rows


VARIANTS = (
    Variant("all"),
    Variant("compiled", compiled=True),
    Variant("no cache", engine={"prefix_cache": False}),
    Variant("no tree between programs", apart=True),
    Variant("first come first served", engine={"policy": "fcfs"}),
    Variant("random order", engine={"policy": "fcfs"}, shuffled=True),
    Variant("no frontend parallelism", options=replace(ALL, parallel_forks=False), at_once=1),
    Variant("no hint", options=replace(ALL, warm_forks=False)),
    Variant("no lookahead", options=replace(ALL, lookahead=False)),
    Variant("no next use", options=replace(ALL, next_use=False)),
    Variant("no handles", options=replace(ALL, reuse_handles=False)),
    Variant("no graph", options=NO_GRAPH),
)
