"""Random programs of operations on the KV memory, against a model that remembers every prefix by heart."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from ramify.runtime.cache.memory import KVMemory, Lease, Pin
from ramify.runtime.cache.radix import Node, RadixTree

Prefix = tuple[str | None, tuple[int, ...]]  # namespace and tokens

tokens = st.lists(st.integers(0, 1), min_size=1, max_size=14)
namespaces = st.sampled_from([None, "tenant"])


class Stream:
    """A running request as the machine sees it."""

    def __init__(self, lease: Lease, namespace: str | None, tokens: list[int], computed: int) -> None:
        self.lease, self.namespace, self.tokens, self.computed = lease, namespace, tokens, computed


class MemoryMachine(RuleBasedStateMachine):
    """`written` holds what a real cache would: for each slot, the prefix whose KV was computed into it last."""

    streams = Bundle("streams")
    pins = Bundle("pins")

    @initialize(pages=st.integers(3, 14), page_size=st.integers(1, 3), eviction=st.sampled_from(["lru", "lfu", len]))
    def begin(self, pages: int, page_size: int, eviction: object) -> None:
        if eviction is len:
            eviction = self.steps_to_next_use
        self.memory = KVMemory(pages, page_size, eviction)  # type: ignore[arg-type]
        self.written: dict[tuple[int, int], Prefix] = {}
        self.cached: set[Prefix] = set()  # every prefix of whole pages that was published and not evicted
        self.live: list[Stream] = []
        self.held: list[Pin] = []

    @staticmethod
    def steps_to_next_use(node: Node) -> float:
        return float(sum(node.tokens))

    def tree_prefixes(self) -> dict[Prefix, int]:
        """What the tree claims to hold: each prefix of whole pages, and the page its last tokens are in."""
        size = self.memory.page_size
        found: dict[Prefix, int] = {}
        for node in self.memory.tree.nodes():
            path = [token for part in node.path() for token in part.tokens]
            for index, page in enumerate(node.pages):
                found[node.namespace, tuple(path[: node.start + (index + 1) * size])] = page
        return found

    def longest(self, namespace: str | None, tokens: list[int], limit: int) -> int:
        size = self.memory.page_size
        length = 0
        while length + size <= limit and (namespace, tuple(tokens[: length + size])) in self.cached:
            length += size
        return length

    @rule(target=streams, namespace=namespaces, tokens=tokens, spare=st.integers(0, 3))
    def start(self, namespace: str | None, tokens: list[int], spare: int) -> Stream:
        limit = max(0, len(tokens) - spare)
        expected = self.longest(namespace, tokens, limit)
        assert self.memory.match(tokens, namespace, limit).length == expected
        lease = self.memory.claim(tokens, namespace, limit)
        assert len(lease.pages) * self.memory.page_size == expected
        stream = Stream(lease, namespace, list(tokens), expected)
        self.live.append(stream)
        return stream

    @rule(stream=streams, count=st.integers(1, 8))
    def compute(self, stream: Stream, count: int) -> None:
        if stream not in self.live:
            return
        memory, size = self.memory, self.memory.page_size
        stop = min(stream.computed + count, len(stream.tokens))
        missing = -(-stop // size) - len(stream.lease.pages)
        before = (memory.free, memory.cached, list(stream.lease.pages))
        if not memory.extend(stream.lease, stop):
            assert missing > memory.room
            assert before == (memory.free, memory.cached, stream.lease.pages)
            return
        self.forget_evicted(max(0, missing - before[0]))
        for position in range(stream.computed, stop):
            slot = (stream.lease.pages[position // size], position % size)
            self.written[slot] = (stream.namespace, tuple(stream.tokens[: position + 1]))
        stream.computed = stop
        memory.publish(stream.lease, stream.tokens, stop)
        for full in range(size, stop + 1, size):
            self.cached.add((stream.namespace, tuple(stream.tokens[:full])))

    @rule(stream=streams, more=tokens)
    def generate(self, stream: Stream, more: list[int]) -> None:
        stream.tokens += more[: 14 - len(stream.tokens)]

    @rule(stream=consumes(streams))
    def finish(self, stream: Stream) -> None:
        self.memory.release(stream.lease)
        self.live.remove(stream)

    @rule(target=pins, namespace=namespaces, tokens=tokens)
    def pin(self, namespace: str | None, tokens: list[int]) -> Pin:
        pin = self.memory.pin(tokens, namespace)
        assert pin.tokens == self.longest(namespace, tokens, len(tokens))
        self.held.append(pin)
        return pin

    @rule(pin=pins)
    def unpin(self, pin: Pin) -> None:
        pin.release()  # again and again, which must do no harm
        self.held = [one for one in self.held if one is not pin]

    @rule()
    def break_a_pin(self) -> None:
        assert self.memory.break_oldest_pin() == bool(self.held)
        if self.held:
            assert not self.held.pop(0).held

    @rule()
    def flush(self) -> None:
        evictable = self.memory.cached
        assert self.memory.flush() == evictable
        self.forget_evicted(evictable)
        assert self.memory.cached == 0

    def forget_evicted(self, count: int) -> None:
        """So many prefixes may have gone, no more and no fewer."""
        left = self.tree_prefixes().keys()
        assert left <= self.cached and len(self.cached) - len(left) == count
        self.cached &= left

    @invariant()
    def every_page_has_one_owner(self) -> None:
        self.memory.check()
        assert self.memory.free + self.memory.cached + self.memory.in_use == self.memory.total

    @invariant()
    def the_tree_holds_what_was_published_and_nothing_else(self) -> None:
        size = self.memory.page_size
        prefixes = self.tree_prefixes()
        assert prefixes.keys() == self.cached
        for (namespace, prefix), page in prefixes.items():
            for slot in range(size):
                assert self.written[page, slot] == (namespace, prefix[: len(prefix) - size + slot + 1])

    @invariant()
    def every_stream_reads_its_own_prefix(self) -> None:
        size = self.memory.page_size
        for stream in self.live:
            for position in range(stream.computed):
                slot = (stream.lease.pages[position // size], position % size)
                assert self.written[slot] == (stream.namespace, tuple(stream.tokens[: position + 1]))

    def teardown(self) -> None:
        if not hasattr(self, "memory"):
            return
        for stream in self.live:
            self.memory.release(stream.lease)
        for pin in self.held:
            pin.release()
        self.memory.flush()
        self.memory.check()
        assert self.memory.free == self.memory.total and self.memory.tree.nodes() == []


quick = settings(
    max_examples=150, stateful_step_count=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def test_random_programs() -> None:
    run_state_machine_as_test(MemoryMachine, settings=quick)


@pytest.mark.slow
def test_many_long_random_programs() -> None:
    run_state_machine_as_test(MemoryMachine, settings=settings(quick, max_examples=600, stateful_step_count=80))


def _lock_without_ancestors(tree: RadixTree, node: Node) -> None:
    node.active += 1
    tree.active_pages += len(node.pages) if node.active == 1 and node.parent else 0


def _evict_the_wrong_end(tree: RadixTree, count: int) -> list[int]:
    gone = sound_evict(tree, count)
    for node in tree.nodes():
        node.pages.reverse()
    return gone


def _split_one_page_too_late(tree: RadixTree, node: Node, length: int) -> Node:
    return sound_split(tree, node, min(length + tree.page_size, len(node.tokens) - tree.page_size) or length)


def _publish_private_tail(memory: KVMemory, lease: Lease, tokens: list[int], computed: int) -> None:
    sound_publish(memory, lease, tokens, min(len(tokens), len(lease.pages) * memory.page_size))


def _ignore_namespace(
    memory: KVMemory, tokens: list[int], namespace: str | None = None, limit: int | None = None
) -> Lease:
    return sound_claim(memory, tokens, None, limit)


sound_evict, sound_split = RadixTree.evict, RadixTree._split
sound_publish, sound_claim = KVMemory.publish, KVMemory.claim


@pytest.mark.parametrize(
    ("owner", "method", "bug"),
    [
        (RadixTree, "lock", _lock_without_ancestors),
        (RadixTree, "evict", _evict_the_wrong_end),
        (RadixTree, "_split", _split_one_page_too_late),
        (KVMemory, "publish", _publish_private_tail),
        (KVMemory, "claim", _ignore_namespace),
    ],
)
def test_the_machine_finds_planted_bugs(owner: type, method: str, bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, method, bug)
    hunt = settings(quick, max_examples=1500, phases=[Phase.generate], derandomize=True, report_multiple_bugs=False)
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(MemoryMachine, settings=hunt)


def test_a_duplicate_page_is_freed_and_the_table_becomes_a_new_list() -> None:
    memory = KVMemory(10, 2)
    first, second = memory.claim([1, 2, 3, 4]), memory.claim([1, 2, 3, 5])
    for lease in (first, second):
        assert memory.extend(lease, 4)
    table = second.pages
    memory.publish(first, [1, 2, 3, 4], 4)
    memory.publish(second, [1, 2, 3, 5], 4)
    assert second.pages[0] == first.pages[0] and second.pages[1] != first.pages[1]
    assert second.pages is not table  # whoever derived something from the old list notices
    assert memory.in_use == 3
    memory.check()


def test_a_running_request_is_found_in_the_tree_and_its_table_only_grows() -> None:
    memory = KVMemory(10, 2)
    lease = memory.claim(range(7))
    table = lease.pages
    for computed in range(1, 8):
        assert memory.extend(lease, computed)
        memory.publish(lease, range(7), computed)
        assert memory.match(range(7), None, 7).length == computed // 2 * 2
    assert lease.pages is table and len(memory.tree.nodes()) == 2  # the root and one leaf that grew


def test_pins_keep_a_prefix_and_say_how_much_of_it() -> None:
    memory = KVMemory(10, 2)
    lease = memory.claim(range(8))
    assert memory.extend(lease, 8)
    memory.publish(lease, range(8), 8)
    memory.release(lease)
    pin = memory.pin([0, 1, 2, 3, 9])
    assert pin.tokens == 4 and memory.flush() == 2
    assert memory.match(range(8), None, 8).length == 4
    pin.release()
    pin.release()
    assert memory.flush() == 2 and memory.free == 10


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="page_size=0"):
        KVMemory(4, 0)
    with pytest.raises(ValueError, match="at least one page"):
        KVMemory(0, 4)
