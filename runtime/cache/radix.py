"""The token radix tree: which pages hold the KV of which prefix, who protects them, and which go first.

Edges are whole pages, so that two prompts share exactly the pages on which they agree (page_size=1: every token):

    root ── [The quick brown fox] ──┬── [jumps over]      node.tokens, node.pages: one page for each page_size tokens
            locked by a request     └── [sleeps]          a leaf that nobody holds: the next to be evicted

A node is `active` while somebody holds it or something below it; only an inactive leaf is evicted, from its tail.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from .reuse import Mark, Regrets, chained, soonest


class Node:
    """A run of whole pages that follows its parent's. Public for reading; only the tree changes it."""

    __slots__ = (
        "active", "alive", "children", "first", "keys", "last_used", "marks",
        "namespace", "pages", "parent", "queued", "start", "tokens", "uses",
    )  # fmt: skip

    def __init__(
        self, parent: Node | None, namespace: Hashable, start: int, tokens: list[int], pages: list[int], page_size: int
    ) -> None:
        self.parent = parent
        self.namespace = namespace
        self.start = start  # tokens before this node
        self.tokens = tokens  # always len(pages) * page_size of them
        self.pages = pages
        self.first = tuple(tokens[:page_size])  # the key in the parent's children
        self.children: dict[tuple[int, ...], Node] = {}
        self.keys: list[int] = []  # of each page: a hash of the whole prefix up to its end
        self.marks: tuple[Mark, ...] = ()  # of those who will come back to where this node ends
        self.active = 0  # holders of this very node + active children
        self.alive = True
        self.queued = False  # has an entry in the eviction heap
        self.last_used = 0  # a descendant's use counts when the descendant goes: see RadixTree._remove
        self.uses = 0

    @property
    def end(self) -> int:
        """Tokens up to and including this node."""
        return self.start + len(self.tokens)

    def path(self) -> list[Node]:
        """The nodes from the root's child down to this one; empty for a root."""
        nodes: list[Node] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes


class Match(NamedTuple):
    """How far some tokens are cached. Kept by whoever asked, it lets the next look-up start where this one ended."""

    node: Node | None  # the deepest node that lies in the match as a whole; None: nothing in this namespace
    end: int  # node.end when it was matched
    length: int  # tokens matched, in whole pages
    inside: Node | None  # the child in whose middle the match ends, if it does


NO_MATCH = Match(None, 0, 0, None)

StepsToNextUse: TypeAlias = Callable[[Node], float]
Eviction: TypeAlias = Literal["lru", "lfu"] | StepsToNextUse


class RadixTree:
    """Maps (namespace, tokens) to pages. Cost of every operation: O(tokens given) plus the pages evicted.

    `eviction` says which leaf goes first: the least recently used, the least often used (ties by age), or, with a
    callable, the one with the most steps until its next use (`math.inf`: never; ties by age). The callable is asked
    when a leaf comes up for eviction; after its answers became larger, call `reconsider`. Above all of these stand
    marks: see `mark`.
    """

    def __init__(self, page_size: int, eviction: Eviction = "lru") -> None:
        self.page_size = page_size
        self.pages = 0  # in the tree
        self.active_pages = 0  # of them, in active nodes
        self.compared = 0  # tokens looked at since the start: the cost of sharing
        self.latest: Node | None = None  # where a request came in or went out last; may have been evicted since
        self.regrets = Regrets()
        self._roots: dict[Hashable, Node] = {}
        self._heap: list[tuple[tuple[bool, float, int], int, Node]] = []
        self._crowded = 1024  # entries from which the heap is cleared of stale ones
        self._serial = itertools.count()
        self._tick = 0
        self._eviction = eviction

    # ---- looking

    def match(
        self, tokens: Sequence[int], namespace: Hashable = None, limit: int | None = None, known: Match = NO_MATCH
    ) -> Match:
        """The longest cached prefix of `tokens[:limit]`; changes nothing. `known`: an earlier answer for them."""
        page_size = self.page_size
        limit = (len(tokens) if limit is None else limit) // page_size * page_size
        node = known.node
        if node is None or not node.alive or node.end > limit:
            node = self._roots.get(namespace)
            if node is None:
                return NO_MATCH
        elif node.end > known.end and node.parent is not None:
            node = node.parent  # it has grown since: look at it again
        position = node.end
        while position < limit:
            child = node.children.get(tuple(tokens[position : position + page_size]))
            if child is None:
                break
            same = self._common(child.tokens, tokens, position, min(len(child.tokens), limit - position))
            if same < len(child.tokens):
                return Match(node, position, position + same, child)
            node = child
            position += same
        return Match(node, position, position, None)

    def _common(self, edge: list[int], tokens: Sequence[int], position: int, length: int) -> int:
        """How many of the first `length` tokens of `edge` equal tokens[position:], in whole pages (at least one)."""
        self.compared += length
        if edge[:length] == list(tokens[position : position + length]):
            return length
        low, high = 1, length // self.page_size  # pages that surely agree, pages that surely do not
        size = self.page_size
        while high - low > 1:
            middle = (low + high) // 2
            self.compared += (middle - low) * size
            if edge[low * size : middle * size] == list(tokens[position + low * size : position + middle * size]):
                low = middle
            else:
                high = middle
        return low * size

    # ---- holding

    def claim(self, tokens: Sequence[int], namespace: Hashable = None, limit: int | None = None) -> Node:
        """Lock the longest cached prefix of `tokens[:limit]` and return the node that ends there."""
        match = self.match(tokens, namespace, limit)
        node = match.node
        if node is None:
            node = self._roots[namespace] = Node(None, namespace, 0, [], [], self.page_size)
        if match.inside is not None:
            node = self._split(match.inside, match.length - match.end)
        self.lock(node)
        self.touch(node)
        node.uses += 1
        return node

    def lock(self, node: Node) -> None:
        """Protect the node and all above it from eviction, until `unlock`."""
        while True:
            node.active += 1
            if node.active > 1 or node.parent is None:
                return
            self.active_pages += len(node.pages)
            node = node.parent

    def unlock(self, node: Node) -> None:
        """Undo one `lock` of this node."""
        while True:
            if node.active < 1:
                raise AssertionError("a node was unlocked more often than locked")
            node.active -= 1
            if node.active:
                return
            if node.parent is None:
                self._drop_root(node)
                return
            self.active_pages -= len(node.pages)
            if not node.children:
                self._enqueue(node)
            node = node.parent

    def touch(self, node: Node) -> None:
        """Make the prefix that ends at this node the most recently used one."""
        self._tick += 1
        node.last_used = self._tick
        self.latest = node

    def shorten(self, node: Node, stop: int) -> Node:
        """Move one lock of the node up to where the first `stop` tokens end, and return the node that ends there."""
        upper = node
        while upper.end > stop and upper.start >= stop and upper.parent is not None:
            upper = upper.parent
        if upper.end > stop:
            upper = self._split(upper, stop - upper.start)
        self.lock(upper)
        self.unlock(node)
        return upper

    def grow(self, node: Node, tokens: Sequence[int], stop: int, pages: list[int]) -> tuple[Node, list[int]]:
        """Put `pages`, which hold tokens[node.end:stop], below `node`, and move one lock of it to where they end.

        Returns that node and the pages the tree has for these tokens: where it already had some, they are not
        the given ones, and the caller gives its own back.
        """
        position = node.end
        kept: list[int] = []
        while position < stop:
            child = node.children.get(tuple(tokens[position : position + self.page_size]))
            if child is None:
                rest = pages[len(kept) :]
                node = self._append(node, list(tokens[position:stop]), rest)
                kept += rest
                break
            same = self._common(child.tokens, tokens, position, min(len(child.tokens), stop - position))
            if same < len(child.tokens):
                child = self._split(child, same)
            self.lock(child)
            self.unlock(node)
            node = child
            kept += child.pages
            position += same
        return node, kept

    def _append(self, node: Node, tokens: list[int], pages: list[int]) -> Node:
        self.pages += len(pages)
        keys = chained(node.keys[-1] if node.keys else hash(node.namespace), tokens, self.page_size)
        self.regrets.computed(keys)
        # a leaf that only the caller holds, and whose end means nothing to anybody
        if node.active == 1 and not node.children and node.parent is not None and not node.marks:
            node.tokens += tokens
            node.pages += pages
            node.keys += keys
            self.active_pages += len(pages)
            return node
        child = Node(node, node.namespace, node.end, tokens, pages, self.page_size)
        child.last_used = node.last_used
        child.keys = keys
        node.children[child.first] = child
        self.lock(child)
        self.unlock(node)
        return child

    def _split(self, node: Node, length: int) -> Node:
        """Cut a node after `length` tokens; the old object keeps the tail, so that whoever holds it still may."""
        assert node.parent is not None
        count = length // self.page_size
        upper = Node(node.parent, node.namespace, node.start, node.tokens[:length], node.pages[:count], self.page_size)
        upper.active = 1 if node.active else 0
        upper.last_used = node.last_used
        node.parent.children[upper.first] = upper
        node.parent = upper
        node.start += length
        node.tokens = node.tokens[length:]
        node.pages = node.pages[count:]
        upper.keys, node.keys = node.keys[:count], node.keys[count:]
        node.first = tuple(node.tokens[: self.page_size])
        upper.children[node.first] = node
        return upper

    # ---- evicting

    def evict(self, count: int) -> list[int]:
        """Drop up to `count` pages that nobody holds, leaves and their tails first, and return them."""
        evicted: list[int] = []
        second_looks = len(self._heap)
        while len(evicted) < count and self._heap:
            key, _, node = heapq.heappop(self._heap)
            node.queued = False
            if not node.alive or node.active or node.children:
                continue
            if second_looks and self._key(node) > key:  # used since it was queued
                second_looks -= 1
                self._enqueue(node)
                continue
            size = min(count - len(evicted), len(node.pages))
            evicted += reversed(node.pages[-size:])
            del node.pages[-size:]
            self.regrets.evicted(node.keys[-size:])
            del node.keys[-size:]
            del node.tokens[-size * self.page_size :]
            self.pages -= size
            if node.pages:
                self._enqueue(node)
            else:
                self._remove(node)
        return evicted

    def reconsider(self) -> None:
        """Ask the eviction callable again about every leaf; O(leaves)."""
        leaves = [node for _, _, node in self._heap if node.alive]
        self._heap.clear()
        for node in leaves:
            node.queued = False
        for node in leaves:
            self._enqueue(node)
        self._crowded = 1024 + 2 * len(self._heap)

    # ---- marking

    def mark(self, tokens: Sequence[int], namespace: Hashable = None, next_use: float = 1.0) -> Mark:
        """Say that the cached prefix of the tokens will be needed in so many steps: see Mark. Undone by `unmark`."""
        node = self.claim(tokens, namespace)
        mark = Mark(node, node.end, next_use)
        if node.parent is not None:
            node.marks += (mark,)
        else:
            mark.node = None  # nothing is cached
        self.unlock(node)
        return mark

    def expect(self, mark: Mark, next_use: float) -> None:
        """The prefix will be needed in so many steps from now (infinity: not again)."""
        later, mark.next_use = next_use > mark.next_use, next_use
        if later and isinstance(mark.node, Node):
            self._fall(mark.node)

    def unmark(self, mark: Mark) -> None:
        """Nobody comes back; a second call does nothing."""
        node, mark.node = mark.node, None
        if isinstance(node, Node):
            node.marks = tuple(one for one in node.marks if one is not mark)
            self._fall(node)

    def _fall(self, node: Node) -> None:
        """The node may go earlier than before: its entry in the heap is too late, so it gets a second one."""
        if node.queued:
            node.queued = False
            self._enqueue(node)
            if len(self._heap) > self._crowded:
                self.reconsider()

    def _enqueue(self, node: Node) -> None:
        if not node.queued:
            node.queued = True
            heapq.heappush(self._heap, (self._key(node), next(self._serial), node))

    def _key(self, node: Node) -> tuple[bool, float, int]:
        """Smallest goes first."""
        if node.marks and (needed := soonest(node.marks)) < math.inf:
            return (True, -needed, node.last_used)
        if self._eviction == "lru":
            return (False, 0, node.last_used)
        if self._eviction == "lfu":
            return (False, node.uses, node.last_used)
        steps = self._eviction(node)
        return (False, math.inf if math.isnan(steps) else -steps, node.last_used)

    def _remove(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        node.alive = False
        del parent.children[node.first]
        # A use of the child was a use of the parent, but the parent needs to know only now that it may go next.
        parent.last_used = max(parent.last_used, node.last_used)
        parent.uses += node.uses
        for mark in node.marks:  # what is left of the prefix is still needed
            mark.node = parent if parent.parent is not None else None
        parent.marks += node.marks if parent.parent is not None else ()
        if parent.parent is None:
            self._drop_root(parent)
        elif not parent.children and not parent.active:
            self._enqueue(parent)

    def _drop_root(self, root: Node) -> None:
        if not root.children and not root.active:
            root.alive = False
            del self._roots[root.namespace]

    # ---- looking at all of it

    def nodes(self) -> list[Node]:
        """Every node, roots included; O(tree)."""
        found: list[Node] = []
        stack = list(self._roots.values())
        while stack:
            node = stack.pop()
            found.append(node)
            stack.extend(node.children.values())
        return found
