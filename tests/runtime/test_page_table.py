"""Page tables as arrays: always what the list says, copied once."""

from __future__ import annotations

import random

import numpy as np
from ramify.runtime.page_table import PageTable


def test_the_array_is_the_list_however_it_grows_and_is_exchanged() -> None:
    chooser = random.Random(1)
    table, pages = PageTable(), [3, 1, 4]
    for _ in range(2000):
        if chooser.random() < 0.1:  # a retraction, a rewind, a page exchanged for an equal one
            pages = [chooser.randrange(99) for _ in range(chooser.randrange(1, 60))]
        pages += [chooser.randrange(99) for _ in range(chooser.randrange(3))]
        count = chooser.randrange(len(pages) + 1)
        first = table.first(pages, count)
        assert first.dtype == np.int32 and first.tolist() == pages[:count]


def test_what_is_known_is_not_copied_again() -> None:
    class Counted(list[int]):
        asked: list[slice]

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            self.asked.append(index)
            return super().__getitem__(index)

    pages = Counted(range(50))
    pages.asked = []
    table = PageTable()
    for count in (20, 20, 21, 10, 22):
        assert table.first(pages, count).tolist() == list(range(count))
    assert pages.asked == [slice(0, 20), slice(20, 21), slice(21, 22)]
    assert table.first([9, 8, 7], 2).tolist() == [9, 8]  # another list
