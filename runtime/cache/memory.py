"""The one owner of KV memory: a pool of pages under a radix tree; every page is free, cached or in use."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from .pages import PagePool
from .radix import NO_MATCH, Eviction, Match, Node, RadixTree
from .radix_check import check_tree
from .reuse import Mark


class Lease:
    """The pages of one running request: the first `shared` are the tree's, locked; the rest are its own."""

    __slots__ = ("node", "pages", "shared")

    def __init__(self, node: Node, pages: list[int]) -> None:
        self.node = node  # the tree's node that ends after the shared pages
        # While this is the same list object, it only ever grows at its end: a reader may keep what it derived from it.
        self.pages = pages
        self.shared = len(pages)


class Pin:
    """Keeps a prefix in the cache until released. Yields only when a running request could not go on otherwise."""

    def __init__(self, memory: KVMemory, node: Node) -> None:
        self._memory = memory
        self.node = node
        self.tokens = node.end  # how many tokens were cached, and are held
        self.held = True

    def release(self) -> None:
        """Let the prefix go; a second call does nothing."""
        if self.held:
            self.held = False
            self._memory._unpin(self)


class KVMemory:
    """Hands out pages, remembers what finished and running requests left in them, and evicts what is needed least.

    `namespace` is part of every key: requests of different namespaces (an adapter, a tenant's salt) never share.
    Not safe to call from several threads at once.
    """

    def __init__(self, pages: int, page_size: int, eviction: Eviction = "lru") -> None:
        if page_size < 1:
            raise ValueError(f"a page holds at least one token, got page_size={page_size}")
        self.page_size = page_size
        self.tree = RadixTree(page_size, eviction)
        self._pool = PagePool(pages)
        self._private = 0  # pages of leases that are not in the tree
        self._leases: set[Lease] = set()
        self._pins: dict[Pin, None] = {}  # oldest first

    # ---- counting

    @property
    def total(self) -> int:
        return self._pool.total

    @property
    def free(self) -> int:
        return self._pool.free

    @property
    def cached(self) -> int:
        """Pages that hold KV which nobody needs right now: they can be evicted."""
        return self.tree.pages - self.tree.active_pages

    @property
    def in_use(self) -> int:
        return self._private + self.tree.active_pages

    @property
    def room(self) -> int:
        """Pages that could be had now."""
        return self._pool.free + self.tree.pages - self.tree.active_pages

    def pages_for(self, tokens: int) -> int:
        return -(-tokens // self.page_size)

    # ---- requests

    def match(self, tokens: Sequence[int], namespace: Hashable, limit: int, known: Match = NO_MATCH) -> Match:
        """How much of `tokens[:limit]` is cached; changes nothing."""
        return self.tree.match(tokens, namespace, limit, known)

    def claim(self, tokens: Sequence[int], namespace: Hashable = None, limit: int | None = None) -> Lease:
        """Start a lease with the cached prefix of `tokens[:limit]`; it must be given to `release` in the end."""
        node = self.tree.claim(tokens, namespace, limit)
        lease = Lease(node, [page for part in node.path() for page in part.pages])
        self._leases.add(lease)
        return lease

    def extend(self, lease: Lease, tokens: int) -> bool:
        """Give the lease pages for `tokens` tokens in all, evicting for it; False, and nothing done, without room."""
        missing = -(-tokens // self.page_size) - len(lease.pages)
        if missing <= 0:
            return True
        if missing > self._pool.free:
            if missing > self.room:
                return False
            self._pool.give_back(self.tree.evict(missing - self._pool.free))
        lease.pages += self._pool.take(missing)
        self._private += missing
        return True

    def publish(self, lease: Lease, tokens: Sequence[int], computed: int) -> None:
        """Put the lease's pages that tokens[:computed] have filled into the tree, for everybody, still locked.

        Where somebody else was faster with the same tokens, the lease takes that page and its own becomes free.
        """
        full = computed // self.page_size
        if full <= lease.shared:
            return
        own = lease.pages[lease.shared : full]
        lease.node, kept = self.tree.grow(lease.node, tokens, full * self.page_size, own)
        if kept != own:
            lease.pages = lease.pages[: lease.shared] + kept + lease.pages[full:]  # a new list: see Lease.pages
            self._pool.give_back([mine for mine, theirs in zip(own, kept, strict=True) if mine != theirs])
        self._private -= len(own)
        lease.shared = full

    def writable(self, lease: Lease) -> Sequence[int]:
        """The pages that are this lease's alone; none once it was released."""
        return lease.pages[lease.shared :] if lease in self._leases else ()

    def rewind(self, lease: Lease, tokens: int) -> int:
        """Take back what the lease holds from position `tokens` on, so that other tokens can be written there.

        Pages in the tree are never written: those that end later are given up (they stay cached), and where `tokens`
        lies within one, its beginning must be computed again. Returns the number of tokens whose KV is left.
        """
        shared = tokens // self.page_size
        if shared >= lease.shared:
            return tokens
        own = lease.pages[lease.shared :]  # what is in them is of no use now, but they are pages
        lease.node = self.tree.shorten(lease.node, shared * self.page_size)
        lease.pages = lease.pages[:shared] + own  # a new list: see Lease.pages
        lease.shared = shared
        return shared * self.page_size

    def release(self, lease: Lease) -> None:
        """End a lease: what is in the tree stays cached, the rest is free. The list of pages is left as it was."""
        self._leases.remove(lease)
        own = lease.pages[lease.shared :]
        self._pool.give_back(own)
        self._private -= len(own)
        self.tree.touch(lease.node)
        self.tree.unlock(lease.node)

    # ---- keeping and dropping

    def pin(self, tokens: Sequence[int], namespace: Hashable = None) -> Pin:
        """Keep what is cached of `tokens` (`Pin.tokens` of them) until the pin is released."""
        pin = Pin(self, self.tree.claim(tokens, namespace))
        self._pins[pin] = None
        return pin

    def mark(self, tokens: Sequence[int], namespace: Hashable = None, next_use: float = 1.0) -> Mark:
        """What is cached of `tokens` will be needed in `next_use` steps: it is evicted late. See `RadixTree.mark`."""
        return self.tree.mark(tokens, namespace, next_use)

    def break_oldest_pin(self) -> bool:
        """Release the oldest pin by force, for a request that cannot go on otherwise; False if there is none."""
        for pin in self._pins:
            pin.release()
            return True
        return False

    def _unpin(self, pin: Pin) -> None:
        del self._pins[pin]
        self.tree.touch(pin.node)
        self.tree.unlock(pin.node)

    def flush(self) -> int:
        """Forget everything that nobody holds; returns how many pages that freed."""
        evicted = self.tree.evict(self.tree.pages)
        self.tree.regrets.forgive()
        self._pool.give_back(evicted)
        return len(evicted)

    # ---- checking

    def check_counts(self) -> None:
        """Raise AssertionError unless free + cached + in use = total; O(1), done after every step."""
        if self._pool.free + self.tree.pages + self._private != self._pool.total or self._private < 0:
            raise AssertionError(
                f"{self._pool.total} pages, but {self._pool.free} free + {self.tree.pages} in the tree"
                f" + {self._private} private"
            )

    def check(self) -> None:
        """Raise AssertionError unless every page has one owner and every count and lock is right; O(everything)."""
        self.check_counts()
        self._pool.check()
        held: dict[Node, int] = {}
        for node in [lease.node for lease in self._leases] + [pin.node for pin in self._pins]:
            held[node] = held.get(node, 0) + 1
        owned = check_tree(self.tree, held)
        private = [page for lease in self._leases for page in lease.pages[lease.shared :]]
        if len(private) != self._private:
            raise AssertionError(f"{len(private)} private pages, {self._private} counted")
        owned += private
        if len(set(owned)) != len(owned):
            raise AssertionError("a page has two owners")
        if not all(map(self._pool.is_taken, owned)):
            raise AssertionError("a page that is owned is marked as free")
        for lease in self._leases:
            path = [page for node in lease.node.path() for page in node.pages]
            if lease.pages[: lease.shared] != path:
                raise AssertionError("a lease's shared pages are not those of its node's path")
