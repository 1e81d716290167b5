"""Every kernel compiles for GPUs that are not here, without spilling, within their memory, onto their tensor cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import triton
from ramify.kernels.triton import variants as kernel_variants
from ramify.kernels.triton.ahead import SHARED_MEMORY, Report, wrong
from ramify.kernels.triton.tuning import table
from ramify.kernels.triton.variants import ALL_TARGETS, Variant, variants

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "kernels.md"
SCRIPT = """
import dataclasses, json, sys
from ramify.kernels.triton.ahead import cell, compiled, variants, wrong
some = (("extend_attention head 64", 90), ("rms_norm 4096", 80))
found = []
for variant in variants():
    for target in variant.targets:
        if sys.argv[1] == "all" or (variant.name, target) in some:
            report = compiled(variant, target)
            found.append({**dataclasses.asdict(report), "cell": cell(report), "wrong": wrong(variant, report)})
print(json.dumps(found))
"""


def reports(wanted: str) -> list[dict[str, Any]]:
    """Compiled in a process of its own, where Triton's interpreter is off."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-c", SCRIPT, wanted]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert shown.returncode == 0, shown.stderr
    found: list[dict[str, Any]] = json.loads(shown.stdout)
    return found


def test_two_kernels_compile_as_the_table_says() -> None:
    found = reports("some")
    assert len(found) == 2
    assert [report["wrong"] for report in found] == [None, None]


@pytest.mark.slow
def test_every_kernel_and_every_tuned_launch_compiles_as_the_table_says() -> None:
    found = reports("all")
    assert {
        f"{report['variant']} on sm_{report['target']}": report["wrong"] for report in found if report["wrong"]
    } == {}
    text = DOCUMENT.read_text().split("\n## ")[0]  # the floors come after it
    if f"Triton {triton.__version__}." in text:  # another version may use registers otherwise
        rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
        cells = {(row[0], target): cell for row in rows for target, cell in zip(ALL_TARGETS, row[1:], strict=True)}
        differs = [one for one in found if cells.get((one["variant"], one["target"])) != one["cell"]]
        assert differs == [], "docs/kernels.md is not what the kernels compile to"


RIGHT = Report("a kernel", target=90, registers=128, spilled=0, shared=65536, instruction="wgmma")
KERNEL = Variant("a kernel", None, {}, {}, tensor_cores=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spilled": 8}, "spills"),
        ({"shared": SHARED_MEMORY[90] + 1}, "does not fit"),
        ({"instruction": "mma.sync"}, "misses the tensor cores"),
    ],
)
def test_what_is_wrong_would_be_seen(change: dict[str, Any], said: str) -> None:
    assert wrong(KERNEL, RIGHT) is None
    assert wrong(KERNEL, replace(RIGHT, **change)) == said


def test_every_launch_of_the_table_is_compiled() -> None:
    """A row that is added to tuning.json, for a device or for all, is among the variants."""
    for kernel in ("extend_attention", "decode_attention"):
        made = [variant for variant in variants() if variant.name.startswith(kernel)]
        assert len({variant.name for variant in made}) == len(made)
        for launch in table()[kernel].values():
            wanted = launch["block_n"], launch["warps"], launch["stages"]
            assert wanted in [(variant.constants["BLOCK_N"], variant.warps, variant.stages) for variant in made]
    rows = {"products": {"sm_90": [{"format": "int4", "n": 64, "k": 64, "rows": 16, "kernel": "flat", "splits": 4}]}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_variants, "table", lambda: {**table(), **rows})
        added = list(variants())[-1]
    assert added.targets == (90,) and added.constants["SPLIT"] and added.constants["BLOCK_M"] == 16
    assert added.name == "flat int4 16 rows, sm_90: splits 4"
