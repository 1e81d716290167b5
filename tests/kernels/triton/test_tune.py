"""The tuner keeps the fastest launch that compiles as it should, and the table finds the nearest one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ramify.kernels.triton.tune import fastest, main, merged, written
from ramify.kernels.triton.tune_attention import Candidate
from ramify.kernels.triton.tuning import TABLE, nearest, table
from ramify.kernels.triton.variants import Variant


@dataclass
class Timed:
    """A candidate's run: what a clock reads off it."""

    seconds: float

    def __call__(self) -> None:
        if self.seconds < 0:
            raise RuntimeError("out of resource: shared memory\nand more lines")


def candidate(seconds: float, name: str) -> Candidate:
    return Candidate({"block_n": int(seconds * 1000)}, Timed(seconds), (Variant(name, None, {}, {}),))


def clock(run: Any) -> float:
    run()
    return float(run.seconds)


def test_the_fastest_that_is_right_is_kept() -> None:
    said: list[str] = []
    candidates = [candidate(0.03, "slow"), candidate(0.01, "spills"), candidate(0.02, "fine"), candidate(-1, "dies")]
    best = fastest(candidates, clock, lambda variant: "spills" if variant.name == "spills" else None, said.append)
    assert best is not None and best[0].variants[0].name == "fine" and best[1] == 0.02
    assert any("shared memory" in line for line in said) and any("spills" in line for line in said)
    assert fastest(candidates, clock, lambda variant: "does not fit", said.append) is None


ROWS: dict[str, Any] = {
    "any / any": {"block_n": 1},
    "any / head 64": {"block_n": 2},
    "any / head 128": {"block_n": 3},
    "sm_90 / head 128": {"block_n": 4},
    "sm_80 / head 64": {"block_n": 5},
    "sm_100 / head 64": {"block_n": 6},
    "any / head 128 masked": {"block_n": 7},
}


@pytest.mark.parametrize(
    ("device", "shape", "found"),
    [
        ("sm_90", "head 128", 4),
        ("sm_90", "head 96", 4),  # laid out as 128
        ("sm_90", "head 64", 2),  # another generation's row is no better than anybody's
        ("sm_80", "head 64", 5),
        ("sm_86", "head 64", 2),  # less shared memory than sm_80
        ("sm_103", "head 64", 6),
        ("sm_103", "head 40", 6),
        ("sm_120", "head 256", 1),
        ("cpu", "head 80", 3),
        ("sm_90", "head 96 masked", 7),
        ("sm_90", "head 64 masked", 1),
    ],
)
def test_the_nearest_row_is_taken(device: str, shape: str, found: int) -> None:
    assert nearest(ROWS, "a kernel", device, shape)["block_n"] == found


def test_a_kernel_without_a_default_is_named() -> None:
    with pytest.raises(LookupError, match="a kernel"):
        nearest({"sm_90 / head 64": {}}, "a kernel", "sm_80", "head 64")


def test_the_table_is_written_as_it_lies_there() -> None:
    assert written(table()) == TABLE.read_text()


def test_what_was_tuned_joins_what_was_there() -> None:
    before = {"extend_attention": {"any / any": {"block_n": 1}}, "products": {"sm_80": [{"format": "int4"}]}}
    entry = {"format": "int4", "n": 64, "k": 64, "rows": 1, "kernel": "gemv"}
    once = merged(before, "sm_90", {"extend_attention": {"head 64": {"block_n": 2}}}, [entry])
    assert once["extend_attention"] == {"any / any": {"block_n": 1}, "sm_90 / head 64": {"block_n": 2}}
    assert once["products"] == {"sm_80": [{"format": "int4"}], "sm_90": [entry]}
    again = merged(once, "sm_90", {}, [{**entry, "kernel": "flat"}, {**entry, "rows": 4}])
    assert [(one["rows"], one["kernel"]) for one in again["products"]["sm_90"]] == [(1, "flat"), (4, "gemv")]
    assert json.loads(written(again)) == again
    assert before["products"] == {"sm_80": [{"format": "int4"}]}


@pytest.mark.slow
def test_every_path_runs_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "table.json"
    assert main(["--rehearse", "--heads", "64", "--out", str(target)]) == 0
    made = json.loads(target.read_text())
    assert set(made["extend_attention"]["cpu / head 64"]) == {"tile_rows", "block_n", "warps", "stages"}
    assert set(made["decode_attention"]["cpu / head 64 shared"]) == {"block_n", "warps", "stages", "unified"}
    assert "cpu / head 64 masked" in made["extend_attention"] and "cpu / head 64" in made["decode_attention"]
    entries = made["products"]["cpu"]
    assert {(e["format"], e["rows"]) for e in entries} == {
        (format, rows) for format in ("bf16", "fp8", "int8", "int4") for rows in (1, 16)
    }
    assert "Error" not in capsys.readouterr().out
    assert TABLE.read_text() == written(table())  # a rehearsal leaves it alone


def test_what_is_not_there_cannot_be_tuned(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "extend_atention"])
    assert "extend_atention" in capsys.readouterr().err
