"""Which product multiplies what: by the table where something was measured, else by rule, and always the same."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from ramify.kernels.triton import products
from ramify.kernels.triton.gemv import MOST_ROWS
from ramify.kernels.triton.products import Format, Product, by_rule, candidates, measured, possible, product

CPU = torch.device("cpu")
SHAPE = (4096, 4096)


def entry(rows: int, kernel: str, **launch: int) -> dict[str, Any]:
    return {"format": "int4", "n": 4096, "k": 4096, "rows": rows, "kernel": kernel, **launch}


def test_an_entry_is_for_up_to_so_many_rows() -> None:
    table = [entry(64, "flat", splits=4, stages=3), entry(2, "gemv", block_n=8), entry(16, "flat", splits=8)]
    assert measured(table, "int4", *SHAPE, 1) == Product("gemv", {"block_n": 8})
    assert measured(table, "int4", *SHAPE, 2) == Product("gemv", {"block_n": 8})
    assert measured(table, "int4", *SHAPE, 3) == Product("flat", {"splits": 8})
    assert measured(table, "int4", *SHAPE, 64) == Product("flat", {"splits": 4, "stages": 3})
    assert measured(table, "int4", *SHAPE, 65) is None
    assert measured(table, "int4", 4096, 14336, 1) is None
    assert measured(table, "int8", *SHAPE, 1) is None


def test_what_was_measured_goes_before_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    product.cache_clear()
    monkeypatch.setattr(products, "entries", lambda device: [entry(8, "library")] if device == "cpu" else [])
    assert product("int4", *SHAPE, 8, CPU) == Product("library")
    assert product("int4", *SHAPE, 9, CPU) == by_rule("int4", *SHAPE, 9, CPU)
    product.cache_clear()


def test_the_rule() -> None:
    for rows in (1, 17, 4096):
        assert by_rule("bf16", *SHAPE, rows, CPU) == by_rule("fp32", *SHAPE, rows, CPU) == Product("library")
    kernels = {
        (format, rows): by_rule(format, *SHAPE, rows, CPU).kernel
        for format in ("int4", "int8", "fp8")
        for rows in (1, 3, 64, 65)
    }
    assert {kernels[format, 1] for format in ("int4", "int8", "fp8")} == {"gemv"}
    assert by_rule("int4", *SHAPE, 2, CPU).kernel == "gemv"
    assert by_rule("int8", *SHAPE, 2, CPU).kernel == "flat"
    assert {kernels[format, rows] for format in ("int4", "int8", "fp8") for rows in (3, 64)} == {"flat"}
    assert (kernels["int4", 65], kernels["int8", 65], kernels["fp8", 65]) == ("flat", "w8a8", "library")
    assert by_rule("int4", *SHAPE, 1024, CPU).kernel == "library"  # unpacked first, which so many rows outweigh
    assert by_rule("fp8", 4096, 4100, 65, CPU).kernel == "flat"  # the library's fp8 wants multiples of 16


@pytest.mark.parametrize("format", get_args(Format))
@pytest.mark.parametrize("rows", [1, 2, 4, 5, 64, 65, 8192])
@pytest.mark.parametrize(("n", "k"), [(4096, 14336), (576, 192), (8, 37)])
def test_what_is_chosen_and_what_is_tried_can_be_done(format: Format, n: int, k: int, rows: int) -> None:
    chosen = by_rule(format, n, k, rows, CPU)
    assert chosen == by_rule(format, n, k, rows, CPU)
    for one in (chosen, *candidates(format, n, k, rows, CPU)):
        assert possible(one.kernel, format, n, k, rows, CPU)
        assert set(one.launch) <= set(products.LAUNCH)
        assert one.launch.get("splits", 1) <= max(1, k // 32)
    eight = {"fp8": "library", "int8": "w8a8"}.get(format)
    assert rows > products.TILE or eight not in {one.kernel for one in candidates(format, n, k, rows, CPU)}
    assert not possible("gemv", format, n, k, MOST_ROWS + 1, CPU)


def test_narrow_matrices_are_cut_and_wide_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "processors", lambda device: 132)
    assert products.splits(4096, 4096, 16, CPU) == 4
    assert products.splits(128256, 4096, 16, CPU) == 1
    assert products.splits(64, 128, 16, CPU) == 1  # nothing to cut


def test_every_committed_entry_can_be_done() -> None:
    devices = products.json.loads(products.TABLE.read_text()).get("products", {})
    for table in devices.values():
        for one in table:
            assert one["format"] in get_args(Format)
            assert possible(one["kernel"], one["format"], one["n"], one["k"], one["rows"], CPU)
            assert set(one) <= {"format", "n", "k", "rows", "kernel", *products.LAUNCH}
