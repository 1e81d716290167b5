"""The floors are what can be counted by hand, and the document has them for every kernel there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from ramify.kernels.triton import floors
from ramify.kernels.triton.floors import Floor, attention, markdown, matmul, stated
from ramify.kernels.triton.variants import variants

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "kernels.md"
SMALL = {"heads": 2, "kv_heads": 1, "head_dim": 10}


def counted(queries: list[int], contexts: list[int], window: int | None = None, shared: int = 0) -> Floor:
    """One key at a time: which queries see it, and whether it has been read before."""
    pairs, keys = 0, set()
    for s, (rows, length) in enumerate(zip(queries, contexts, strict=True)):
        for position in range(length - rows, length):
            for key in range(0 if window is None else max(0, position - window + 1), position + 1):
                pairs += 1
                keys.add((-1 if key < shared else s, key))
    return Floor(2 * len(keys) * 10 * 2 + 2 * sum(queries) * 2 * 10 * 2, 4 * pairs * 2 * 10)


@pytest.mark.parametrize(
    ("queries", "contexts"), [([3], [5]), ([1], [1]), ([1, 1, 1], [7, 9, 20]), ([4, 1, 6], [4, 30, 20]), ([16], [16])]
)
@pytest.mark.parametrize("window", [None, 1, 3, 100])
def test_attention_is_what_counting_says(queries: list[int], contexts: list[int], window: int | None) -> None:
    assert attention(queries, contexts, window=window, **SMALL) == counted(queries, contexts, window)


def test_a_shared_prefix_is_read_once() -> None:
    assert attention([1] * 4, [20, 21, 30, 22], shared=16, **SMALL) == counted([1] * 4, [20, 21, 30, 22], shared=16)
    flat, shared = attention([1] * 32, [8320] * 32, **SMALL), attention([1] * 32, [8320] * 32, shared=8192, **SMALL)
    assert shared.operations == flat.operations and flat.bytes > 20 * shared.bytes


def test_decoding_is_bound_by_bytes_and_prefill_by_operations() -> None:
    assert stated()["decode_attention"][1].bytes == 32 * 8192 * 2 * 8 * 128 * 2 + 2 * 32 * 32 * 128 * 2
    rows = {line.split(" | ")[0]: line for line in markdown().splitlines()}
    assert rows["| decode_attention"].endswith("| bytes |")
    assert rows["| extend_attention"].endswith("| operations |")
    assert rows["| w8a8_matmul"].endswith("| operations |")


def test_a_narrower_weight_moves_less() -> None:
    sizes = [matmul(1, 4096, 4096, format).bytes for format in ("fp32", "bf16", "fp8", "int4")]
    assert sizes == sorted(sizes, reverse=True)
    assert matmul(3, 5, 7, "bf16") == Floor((5 * 7 + 3 * 7 + 3 * 5) * 2, 2 * 3 * 5 * 7)


def test_the_least_time_is_the_larger_of_the_two() -> None:
    assert Floor(100, 100).seconds(10, 100) == 10
    assert Floor(100, 5000).seconds(10, 100) == 50


def test_every_kernel_has_a_floor_and_the_document_states_it() -> None:
    kernels = {variant.name.split()[0] for variant in variants() if ", sm_" not in variant.name}
    assert kernels == set(stated())
    assert markdown() in DOCUMENT.read_text()
    assert f"at {floors.BANDWIDTH / 1e12:g} TB/s" in markdown()
