"""The compiled core's attention: against float64, the same bits however it is batched, and no byte read twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from ramify.kernels.build import CoreUnavailable, core_library

from .attention_lab import Heads, Lab, Part, some_tokens

BARS = {"fp32": 2e-6, "bf16": 1.2e-2}  # largest error of a head's output, against its norm


@pytest.fixture(autouse=True, scope="module")
def core() -> None:
    try:
        core_library()
    except CoreUnavailable as reason:
        pytest.skip(f"no compiled core: {reason}")


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest relative error of any row and head; NaN counts as infinite."""
    size = np.linalg.norm(wanted, axis=-1) + 0.05
    errors = np.linalg.norm(got - wanted, axis=-1) / size
    return float(np.where(np.isfinite(errors), errors, np.inf).max())


class Pool:
    """Hands out pages in no order, so that nothing rests on their being neighbours."""

    def __init__(self, lab: Lab, seed: int = 0) -> None:
        self._free = np.random.default_rng(seed).permutation(lab.pages).tolist()
        self._size = lab.page_size

    def pages(self, tokens: int) -> list[int]:
        return [self._free.pop() for _ in range(-(-tokens // self._size))]


def check(lab: Lab, *parts: Part) -> None:
    for got, part in zip(lab.run(*parts), parts, strict=True):
        assert error(got, lab.expected(part)) < BARS[lab.mode]


def ragged(lab: Lab, rng: np.random.Generator) -> Iterator[list[Part]]:
    """Steps of a small day: prefill of ragged prompts, a chunked one among decodes, branches of a shared prefix."""
    pool = Pool(lab)
    sequences = [(some_tokens(200, seed), pool.pages(200)) for seed in range(5)]
    done = [int(rng.integers(1, 130)) for _ in sequences]
    yield [Part(tokens, 0, stop, pages) for (tokens, pages), stop in zip(sequences, done, strict=True)]
    for _ in range(3):
        parts = []
        for i, (tokens, pages) in enumerate(sequences):
            count = int(rng.choice([1, 1, 2, 17, 40]))
            stop = min(len(tokens), done[i] + count)
            if stop > done[i]:
                parts.append(Part(tokens, done[i], stop, pages))
                done[i] = stop
        yield parts
    tokens, pages = sequences[0]
    shared = done[0] // lab.page_size * lab.page_size
    branches = [
        Part(
            tokens[:shared] + some_tokens(60, 50 + i),
            shared,
            shared + length,
            pages[: shared // lab.page_size] + pool.pages(60),
        )
        for i, length in enumerate((1, 3, 9, 33))
    ]
    yield branches
    yield [Part(branch.tokens, branch.stop, branch.stop + 1, branch.pages) for branch in branches]


LONG = Heads(6, 2, 32)
SHAPES = {
    "llama": Heads(9, 3, 64),
    "plain": Heads(2, 2, 16),
    "group of 4": Heads(8, 2, 128),
    "group of 8": Heads(8, 1, 32),
    "odd width": Heads(4, 2, 80),
    "padded width": Heads(4, 4, 40),
    "wide": Heads(4, 1, 256),
    "window": Heads(6, 2, 32, window=70),
    "narrow window": Heads(6, 2, 32, window=5),
    "softcap": Heads(6, 2, 32, softcap=2.0),
    "normed": Heads(6, 2, 64, normed=True),
}


CASES = [(name, 16) for name in SHAPES] + [(name, size) for name in ("llama", "window") for size in (32, 48, 64)]


@pytest.mark.parametrize(("name", "page_size"), CASES)
@pytest.mark.parametrize("mode", ["fp32", "bf16"])
def test_ragged_batches_against_float64(name: str, mode: str, page_size: int) -> None:
    lab = Lab(SHAPES[name], mode, page_size, threads=2)
    for parts in ragged(lab, np.random.default_rng(page_size)):
        check(lab, *parts)


@pytest.mark.parametrize("mode", ["fp32", "bf16"])
@pytest.mark.parametrize("window", [None, 600])
def test_long_contexts_over_several_splits(mode: str, window: int | None) -> None:
    lab = Lab(Heads(6, 2, 32, window=window), mode, threads=2)
    tokens, pages = some_tokens(1300, 1), Pool(lab).pages(1300)
    check(lab, Part(tokens, 0, 1250, pages))
    check(lab, Part(tokens, 1250, 1251, pages))
    check(lab, Part(tokens, 1251, 1300, pages))


def test_every_layer_merges_its_splits() -> None:
    lab = Lab(LONG, layers=3)
    tokens, pages = some_tokens(1100, 1), Pool(lab).pages(1100)
    lab.run(Part(tokens, 0, 1099, pages))
    check(lab, Part(tokens, 1099, 1100, pages))


def test_keys_written_in_a_step_are_seen_by_all_who_share_their_page() -> None:
    # so many that they are several tasks, and the page's writer is in the last one
    lab, tokens = Lab(LONG), some_tokens(16, 0)
    readers = [Part([*tokens, i], 16, 17, [0, 1 + i]) for i in range(200)]
    check(lab, Part(tokens, 0, 16, [0, 511]), *readers)


# -- the same bits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fp32", "bf16"])
@pytest.mark.parametrize("window", [None, 100])
def test_a_row_does_not_depend_on_chunks_batches_or_threads(mode: str, window: int | None) -> None:
    shape = Heads(6, 2, 32, window=window)
    tokens, length = some_tokens(1100, 3), 1100
    whole_lab = Lab(shape, mode, threads=1)
    (whole,) = whole_lab.run(Part(tokens, 0, length, Pool(whole_lab).pages(length)))
    lab = Lab(shape, mode, threads=2)
    pool, rng = Pool(lab, seed=9), np.random.default_rng(5)
    pages, others = pool.pages(length), [pool.pages(300) for _ in range(3)]
    start = 0
    while start < length:
        stop = min(length, start + int(rng.choice([1, 2, 7, 50, 130, 400])))
        beside = [Part(some_tokens(300, 70 + i), 0, int(rng.integers(1, 300)), other) for i, other in enumerate(others)]
        chunk = lab.run(beside[0], Part(tokens, start, stop, pages), *beside[1:])[1]
        np.testing.assert_array_equal(chunk, whole[start:stop])
        start = stop


@pytest.mark.parametrize("mode", ["fp32", "bf16"])
@pytest.mark.parametrize("window", [None, 90])
def test_a_cascade_gives_the_bits_of_each_branch_alone(mode: str, window: int | None) -> None:
    shape = Heads(6, 2, 32, window=window)
    together, alone = Lab(shape, mode, threads=2), Lab(shape, mode, threads=1)
    pool = Pool(together)
    # a tree: 624 shared by all (not a multiple of a tile), 32 more by halves, ragged ends of their own
    root, root_pages = some_tokens(624, 0), pool.pages(624)
    together.run(Part(root, 0, 624, root_pages))
    branches = []
    for half in range(2):
        middle, middle_pages = some_tokens(32, 10 + half), pool.pages(32)
        together.run(Part(root + middle, 624, 656, root_pages + middle_pages))
        for i in range(5):
            end = some_tokens(1 + 23 * i, 20 + 5 * half + i)
            tokens, pages = root + middle + end, root_pages + middle_pages + pool.pages(len(end))
            if len(end) > 1:
                together.run(Part(tokens, 656, len(tokens) - 1, pages))
            branches.append(Part(tokens, len(tokens) - 1, len(tokens), pages))
    stacked = together.run(*reversed(branches), Part(root, 600, 624, root_pages))
    for got, branch in zip(stacked, reversed(branches), strict=False):
        pages = list(range(len(branch.pages)))
        whole = alone.run(Part(branch.tokens, 0, branch.stop, pages))[0]
        np.testing.assert_array_equal(got[0], whole[-1])
        assert error(got, together.expected(branch)) < BARS[mode]


def test_the_comparison_of_bits_would_notice_one_changed_key() -> None:
    lab = Lab(LONG)
    tokens, pages = some_tokens(700, 3), Pool(lab).pages(700)
    before = lab.run(Part(tokens, 0, 700, pages))[0][-1]
    tokens[2] = (tokens[2] + 1) % 512
    after = lab.run(Part(tokens, 0, 700, pages))[0][-1]
    assert (before != after).any()


def test_the_comparison_with_float64_would_notice_a_window_that_is_off_by_one() -> None:
    lab = Lab(Heads(6, 2, 32, window=20))
    part = Part(some_tokens(100, 1), 0, 100, Pool(lab).pages(100))
    got = lab.run(part)[0]
    lab.shape = Heads(6, 2, 32, window=21)
    assert error(got, lab.expected(part)) > 100 * BARS["fp32"]


def test_a_page_that_was_never_written_would_be_noticed() -> None:
    lab = Lab(LONG)
    part = Part(some_tokens(100, 1), 0, 100, Pool(lab).pages(100))
    lab.run(part)
    swapped = Part(part.tokens, 99, 100, [part.pages[0], lab.pages - 1 - part.pages[1], *part.pages[2:]])
    assert error(lab.run(swapped)[0], lab.expected(swapped)) > 100 * BARS["fp32"]


# -- bytes ------------------------------------------------------------------------------------------------------------


def bytes_read(lab: Lab, *parts: Part) -> int:
    before = lab.compute.counters()["kv_bytes_read"]
    lab.run(*parts)
    return lab.compute.counters()["kv_bytes_read"] - before


@pytest.mark.parametrize("prefix", [512, 1008, 336])
def test_the_keys_of_a_shared_prefix_are_read_once(prefix: int) -> None:
    lab = Lab(Heads(9, 3, 64), "bf16", threads=2)
    token_bytes = 2 * 3 * 64 * 2
    pool, tokens = Pool(lab), some_tokens(prefix, 0)
    shared = pool.pages(prefix)
    lab.run(Part(tokens, 0, prefix, shared))
    branches, suffixes = [], 0
    for i in range(32):
        length = 16 * (1 + i % 4)
        branch, pages = tokens + some_tokens(length, i), shared + pool.pages(length)
        lab.run(Part(branch, prefix, prefix + length - 1, pages))
        branches.append(Part(branch, prefix + length - 1, prefix + length, pages))
        suffixes += length
    assert bytes_read(lab, *branches) <= (prefix + suffixes) * token_bytes * 1.05
    apart = sum(bytes_read(lab, branch) for branch in branches)  # the control: without a cascade
    assert apart >= (32 * prefix + suffixes) * token_bytes


def test_keys_before_a_window_are_not_read() -> None:
    lab = Lab(Heads(6, 2, 32, window=64), "bf16")
    tokens, pages = some_tokens(1000, 0), Pool(lab).pages(1000)
    lab.run(Part(tokens, 0, 999, pages))
    assert bytes_read(lab, Part(tokens, 999, 1000, pages)) <= 2 * 64 * 2 * 2 * 32 * 2
