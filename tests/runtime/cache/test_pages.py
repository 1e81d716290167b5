"""The page pool hands out each page once and takes it back once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ramify.runtime.cache.pages import PagePool


@given(st.integers(1, 40), st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60))
def test_every_page_is_free_or_taken_once(total: int, operations: list[tuple[bool, int]]) -> None:
    pool = PagePool(total)
    taken: list[int] = []
    for take, count in operations:
        if take and count <= pool.free:
            pages = pool.take(count)
            assert len(pages) == count and not set(pages) & set(taken)
            taken += pages
        elif not take:
            pool.give_back(taken[:count])
            del taken[:count]
        pool.check()
        assert (pool.free, pool.total) == (total - len(taken), total)
        assert all(map(pool.is_taken, taken))


def test_taking_too_many_and_giving_back_twice_are_caught() -> None:
    pool = PagePool(3)
    pages = pool.take(2)
    with pytest.raises(AssertionError, match="2 pages asked for, 1 free"):
        pool.take(2)
    pool.give_back(pages[:1])
    with pytest.raises(AssertionError, match="twice"):
        pool.give_back(pages[:1])
    with pytest.raises(ValueError, match="at least one page"):
        PagePool(0)


@pytest.mark.parametrize("damage", ["lost", "doubled", "marked"])
def test_the_check_can_fail(damage: str) -> None:
    pool = PagePool(4)
    pool.take(1)
    if damage == "lost":
        pool._free.pop()
    elif damage == "doubled":
        pool._free.append(pool._free[0])
    else:
        pool._taken[pool._free[0]] = 1
    with pytest.raises(AssertionError):
        pool.check()
