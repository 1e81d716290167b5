"""What happened to a stream's nodes: values, texts, tokens and times, kept beside them for records and drawings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .nodes import Node, Place
from .variables import Variable


class Entry:
    """A node of a stream and what became of it. Times are time.monotonic(); None: not yet."""

    __slots__ = ("__weakref__", "ended", "error", "meta", "node", "place", "started", "text", "variable")

    def __init__(self, node: Node, place: Place | None, variable: Variable | None) -> None:
        self.node = node
        self.place = place
        self.variable = variable
        self.text = ""  # what it added to the stream
        self.meta: Any = None  # a meta_info, or a list of n
        self.started: float | None = None
        self.ended: float | None = None
        self.error: Exception | None = None

    @property
    def value(self) -> Any:
        """The value that it gave its variable; None where there is none yet, or never."""
        return None if self.variable is None else self.variable.value

    @property
    def usage(self) -> Mapping[str, int]:
        """Tokens by kind: prompt_tokens, cached_tokens, computed_tokens, forced_tokens, speculated_tokens,
        completion_tokens; summed over n."""
        metas = self.meta if isinstance(self.meta, list) else [self.meta] if self.meta else []
        total: dict[str, int] = {}
        for meta in metas:
            for name, count in (meta.get("usage") or {}).items():
                total[name] = total.get(name, 0) + count
        return total


@dataclass(slots=True, eq=False)
class StreamHistory:
    """One stream's entries, and where it came from. Held by its state and by its parent's history."""

    number: int  # within its run; 0 is the program's own stream
    parent: StreamHistory | None = None
    fork_at: int = 0  # how many entries of the parent came before
    entries: list[Entry] = field(default_factory=list)
    children: list[StreamHistory] = field(default_factory=list)
    joined_at: int | None = None  # how many entries of the parent came before the join
    joined_as: str | None = None  # "gather_variable" or "concate_and_append"
    cancelled: bool = False  # nobody could read it any more

    def walk(self) -> Iterator[StreamHistory]:
        """This stream and all that were forked from it, parents first."""
        stack = [self]
        while stack:
            history = stack.pop()
            yield history
            stack.extend(reversed(history.children))
