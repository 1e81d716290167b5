"""The radix tree matches exactly the shared whole pages, evicts in the stated order, and costs O(prompt)."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ramify.runtime.cache.memory import KVMemory
from ramify.runtime.cache.radix import Node, RadixTree


def store(memory: KVMemory, tokens: Sequence[int], namespace: object = None) -> int:
    """Cache the tokens as a request that computes all of them would; returns how many were there already."""
    lease = memory.claim(tokens, namespace)
    found = len(lease.pages) * memory.page_size
    assert memory.extend(lease, len(tokens))
    memory.publish(lease, tokens, len(tokens))
    memory.release(lease)
    memory.check()
    return found


def matched(memory: KVMemory, tokens: Sequence[int], namespace: object = None) -> int:
    return memory.match(tokens, namespace, len(tokens)).length


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts have in common at their beginnings."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


prompts = st.lists(st.integers(0, 2), min_size=1, max_size=24)


@given(st.lists(prompts, min_size=1, max_size=12), prompts, st.integers(1, 5))
def test_sharing_is_exact_to_the_page(stored: list[list[int]], asked: list[int], page_size: int) -> None:
    memory = KVMemory(400, page_size)
    for tokens in stored:
        store(memory, tokens)
    best = max(shared(tokens[: len(tokens) // page_size * page_size], asked) for tokens in stored)
    assert matched(memory, asked) == best // page_size * page_size
    assert store(memory, asked) == best // page_size * page_size


def test_every_pair_of_prompts_shares_its_whole_common_pages() -> None:
    rng = random.Random(0)
    for _ in range(1000):
        stem = [rng.randrange(50) for _ in range(rng.randint(0, 80))]
        one, other = (stem + [rng.randrange(50) for _ in range(rng.randint(1, 40))] for _ in range(2))
        memory = KVMemory(64, 16)
        store(memory, one)
        assert store(memory, other) == shared(one[: len(one) // 16 * 16], other) // 16 * 16


def test_namespaces_never_share() -> None:
    memory = KVMemory(40, 4)
    store(memory, range(16), "one adapter")
    assert matched(memory, range(16), "one adapter") == 16
    assert matched(memory, range(16), "another") == matched(memory, range(16)) == 0


def test_a_limit_holds_in_whole_pages() -> None:
    memory = KVMemory(40, 4)
    store(memory, range(16))
    assert [memory.match(range(16), None, limit).length for limit in (0, 3, 4, 11, 15, 16)] == [0, 0, 4, 8, 12, 16]


@given(st.lists(st.tuples(prompts, st.integers(0, 3)), min_size=1, max_size=30), prompts, st.integers(1, 3))
def test_a_remembered_match_answers_like_a_fresh_one(
    steps: list[tuple[list[int], int]], asked: list[int], page_size: int
) -> None:
    """Between two looks the tree may have grown, split, lost leaves or lost everything."""
    memory = KVMemory(60, page_size)
    known = memory.match(asked, None, len(asked))
    growing = memory.claim([7], None)
    for tokens, evicted in steps:
        if evicted == 3:  # a request whose leaf grows in place
            memory.release(growing)
            growing = memory.claim(tokens, None)
            if memory.extend(growing, len(tokens)):
                for computed in range(1, len(tokens) + 1):
                    memory.publish(growing, tokens, computed)
        else:
            store(memory, tokens) if memory.room > 30 else memory.flush()
            memory._pool.give_back(memory.tree.evict(evicted))
        known = memory.match(asked, None, len(asked), known)
        fresh = memory.match(asked, None, len(asked))
        assert known == fresh


def test_page_tables_lead_to_the_stored_pages() -> None:
    memory = KVMemory(40, 2)
    first = memory.claim([1, 2, 3, 4, 5, 6])
    assert memory.extend(first, 6)
    memory.publish(first, [1, 2, 3, 4, 5, 6], 6)
    second = memory.claim([1, 2, 3, 4, 9, 9])
    assert second.pages == first.pages[:2]


class TestEviction:
    def leaves(self, eviction: object) -> KVMemory:
        memory = KVMemory(20, 1, eviction)  # type: ignore[arg-type]
        for token in (1, 2, 3):
            store(memory, [token])
        for token in (2, 2, 3, 1):  # 2 is used most, 1 last
            store(memory, [token])
        return memory

    def order(self, memory: KVMemory) -> list[int]:
        where = {page: node.tokens[0] for node in memory.tree.nodes() for page in node.pages}
        return [where[page] for page in memory.tree.evict(20)]

    def test_lru_drops_what_was_used_longest_ago(self) -> None:
        assert self.order(self.leaves("lru")) == [2, 3, 1]

    def test_lfu_drops_what_was_used_least(self) -> None:
        assert self.order(self.leaves("lfu")) == [3, 1, 2]

    def test_a_callable_drops_what_is_needed_last(self) -> None:
        steps = {1: 5.0, 2: math.inf, 3: 1.0}
        memory = self.leaves(lambda node: steps[node.tokens[0]])
        assert self.order(memory) == [2, 1, 3]

    def test_the_callable_is_asked_again_when_a_leaf_comes_up_and_on_demand(self) -> None:
        steps = {1: 5.0, 2: math.inf, 3: 1.0}
        memory = self.leaves(lambda node: steps[node.tokens[0]])
        steps[2] = 0.0  # a program was started that comes back to it at once
        steps[3] = 9.0
        memory.tree.reconsider()
        assert self.order(memory) == [3, 1, 2]

    def test_a_callable_without_sense_still_ends(self) -> None:
        dice = random.Random(0)
        assert sorted(self.order(self.leaves(lambda node: dice.random()))) == [1, 2, 3]
        assert sorted(self.order(self.leaves(lambda node: math.nan))) == [1, 2, 3]

    def test_tails_go_before_heads(self) -> None:
        memory = KVMemory(20, 1)
        store(memory, [1, 2, 3, 4])
        store(memory, [9])
        assert [memory.tree.evict(1) and matched(memory, [1, 2, 3, 4]) for _ in range(4)] == [3, 2, 1, 0]
        assert matched(memory, [9]) == 1

    def test_what_was_held_until_just_now_counts_as_used_just_now(self) -> None:
        memory = KVMemory(20, 1)
        long = memory.claim([1])
        assert memory.extend(long, 1)
        memory.publish(long, [1], 1)
        store(memory, [2])
        memory.release(long)
        memory._pool.give_back(memory.tree.evict(1))
        assert (matched(memory, [1]), matched(memory, [2])) == (1, 0)
        pin = memory.pin([1])
        store(memory, [3])
        pin.release()
        memory.tree.evict(1)
        assert (matched(memory, [1]), matched(memory, [3])) == (1, 0)

    def test_a_use_of_a_child_was_a_use_of_its_parent(self) -> None:
        memory = KVMemory(20, 1, "lfu")
        for tokens in ([1, 2], [1, 3], [9], [9], [9], [9], [1, 2], [1, 3]):  # 9 is found three times, 1 as well, later
            store(memory, tokens)
        memory.tree.evict(2)
        assert matched(memory, [1, 2]) == matched(memory, [1, 3]) == 1
        memory.tree.evict(1)
        assert (matched(memory, [9]), matched(memory, [1])) == (0, 1)

    def test_what_is_held_stays(self) -> None:
        memory = KVMemory(20, 1)
        store(memory, [1, 2, 3, 4])
        lease = memory.claim([1, 2])
        memory._pool.give_back(memory.tree.evict(20))
        assert matched(memory, [1, 2, 3, 4]) == 2
        memory.release(lease)
        assert memory.flush() == 2
        memory.check()


def test_a_workload_that_shares_nothing_costs_o_of_prompt() -> None:
    """Counted, not timed: tokens compared, nodes made and tokens read are bounded by the prompts' lengths."""
    rng = random.Random(0)
    memory = KVMemory(5000, 16)
    read = 0

    class Counted(list[int]):
        def __getitem__(self, index):  # type: ignore[no-untyped-def, override]
            nonlocal read
            found = super().__getitem__(index)
            read += len(found) if isinstance(index, slice) else 1
            return found

    total = 0
    for number in range(300):
        tokens = Counted([number, *(rng.randrange(50_000) for _ in range(rng.randint(20, 400)))])
        total += len(tokens)
        store(memory, tokens)
    assert memory.tree.compared == 0  # no first page was ever equal
    assert read <= 1.5 * total
    assert len(memory.tree.nodes()) == 301


def test_looking_again_costs_nothing_of_what_was_matched() -> None:
    memory = KVMemory(100, 4)
    store(memory, range(200))
    known = memory.match([*range(200), 7, 7, 7, 7], None, 204)
    before = memory.tree.compared
    assert memory.match([*range(200), 7, 7, 7, 7], None, 204, known).length == 200
    assert memory.tree.compared == before
    assert memory.match(range(200), None, 100, known).length == 100  # a smaller limit than last time holds too


def drop_a_lock(tree: RadixTree) -> None:
    next(node for node in tree.nodes() if node.parent).active += 1


def lose_a_page(tree: RadixTree) -> None:
    next(node for node in tree.nodes() if node.parent).pages.pop()


def hide_from_eviction(tree: RadixTree) -> None:
    tree._heap.clear()


def misfile(tree: RadixTree) -> None:
    root = next(node for node in tree.nodes() if not node.parent)
    root.children[(99,)] = root.children.pop(next(iter(root.children)))


def miscount(tree: RadixTree) -> None:
    tree.active_pages += 1


def leave_a_root(tree: RadixTree) -> None:
    tree._roots["nobody"] = Node(None, "nobody", 0, [], [], tree.page_size)


@pytest.mark.parametrize("damage", [drop_a_lock, lose_a_page, hide_from_eviction, misfile, miscount, leave_a_root])
def test_the_check_can_fail(damage: Callable[[RadixTree], None]) -> None:
    memory = KVMemory(20, 2)
    store(memory, [1, 2, 3, 4])
    store(memory, [1, 2, 5, 6])
    damage(memory.tree)
    with pytest.raises(AssertionError):
        memory.check()
