"""The orders in which waiting requests may be admitted; ageing, above them all, is the scheduler's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from ..cache.memory import KVMemory
from ..cache.radix import Match, Node
from .request import Request
from .waiting import arrival_rank

PolicyName = Literal["lpm", "dfs-weight", "fcfs", "priority"]


def look_up(memory: KVMemory, request: Request) -> Match:
    """How much of the request is cached now. Starts from its last answer, so that asking again is cheap."""
    request.known = memory.match(request.tokens, request.namespace, request.match_limit, request.known)
    return request.known


class Policy(Protocol):
    """Says who goes next. `rank` is a standing order for the whole queue; `order` ranks only the head of it."""

    def rank(self, request: Request) -> tuple[int, int]:
        """Sort key of the queue, ending in the ticket; it may not change while the request waits."""
        ...

    def order(self, head: Sequence[Request], memory: KVMemory) -> Sequence[Request]:
        """The head of the queue in the order of admission."""
        ...


class FirstCome:
    """In order of arrival."""

    rank = staticmethod(arrival_rank)

    def order(self, head: Sequence[Request], memory: KVMemory) -> Sequence[Request]:
        return head


class HighestPriority:
    """The largest priority first, then in order of arrival."""

    def rank(self, request: Request) -> tuple[int, int]:
        return (-request.priority, request.ticket)

    def order(self, head: Sequence[Request], memory: KVMemory) -> Sequence[Request]:
        return head


class LongestPrefixMatch:
    """The longest cached prefix first: one at a time this is a depth-first walk (SGLang paper, theorem 3.1)."""

    rank = staticmethod(arrival_rank)

    def order(self, head: Sequence[Request], memory: KVMemory) -> Sequence[Request]:
        return sorted(head, key=lambda request: (-look_up(memory, request).length, request.ticket))


class DepthFirstWeight:
    """Depth-first over the cached tree: finish the subtree we are in, then go down where most requests wait.

    A node's own requests come after its children's.
    """

    rank = staticmethod(arrival_rank)

    def order(self, head: Sequence[Request], memory: KVMemory) -> Sequence[Request]:
        latest = memory.tree.latest
        here = set(latest.path()) if latest else set()
        paths: dict[int, list[Node]] = {}
        weights: dict[Node, int] = {}
        for request in head:
            match = look_up(memory, request)
            node = match.inside or match.node
            paths[request.id] = path = node.path() if node else []
            for part in path:
                weights[part] = weights.get(part, 0) + 1

        def descent(request: Request) -> list[tuple[bool, int, int, tuple[int, ...]]]:
            steps = [(node not in here, -weights[node], -node.last_used, node.first) for node in paths[request.id]]
            return [*steps, (True, 1, -request.known.length, (request.ticket,))]  # the deepest match within an edge

        return sorted(head, key=descent)


POLICIES: Mapping[PolicyName, Callable[[], Policy]] = {
    "lpm": LongestPrefixMatch,
    "dfs-weight": DepthFirstWeight,
    "fcfs": FirstCome,
    "priority": HighestPriority,
}
