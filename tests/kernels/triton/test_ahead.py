"""Every kernel compiles for GPUs that are not here, without spilling, within their memory, onto their tensor cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "kernels.md"
SCRIPT = """
import dataclasses, json, sys
from ramify.kernels.triton.ahead import REGISTERS, SHARED_MEMORY, TARGETS, compiled, markdown, variants
wanted = sys.argv[1]
found = []
for variant in variants():
    for target in TARGETS:
        if wanted == "all" or (variant.name, target) in (("extend_attention head 64", 90), ("rms_norm 4096", 80)):
            report = compiled(variant, target)
            found.append({
                **dataclasses.asdict(report), "line": markdown([report]).splitlines()[-1],
                "fits": report.shared <= SHARED_MEMORY[target] and report.registers <= REGISTERS,
                "needs": variant.tensor_cores,
            })
print(json.dumps(found))
"""
STACK = 16  # bytes of local memory that are no spill: Triton keeps a few scalars on the stack


def reports(wanted: str) -> list[dict[str, object]]:
    """Compiled in a process of its own, where Triton's interpreter is off."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-c", SCRIPT, wanted]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert shown.returncode == 0, shown.stderr
    found: list[dict[str, object]] = json.loads(shown.stdout)
    return found


def wrong(report: dict[str, object]) -> str | None:
    """What keeps a kernel from being fast, or from running at all."""
    if int(str(report["spilled"])) > STACK:
        return "spills"
    if not report["fits"]:
        return "does not fit"
    if report["needs"] and report["target"] == 90 and report["instruction"] != "wgmma":
        return "misses the tensor cores"
    return None


def test_two_kernels_compile_as_the_table_says() -> None:
    found = reports("some")
    assert len(found) == 2
    assert [wrong(report) for report in found] == [None, None]


@pytest.mark.slow
def test_every_kernel_compiles_as_the_table_says() -> None:
    found = reports("all")
    assert {report["variant"]: wrong(report) for report in found if wrong(report)} == {}
    import triton

    text = DOCUMENT.read_text()
    if f"Triton {triton.__version__}." in text:  # another version may use registers otherwise
        for report in found:
            cell = str(report["line"]).split(" | ")[1].removesuffix(" |")
            assert cell in next(line for line in text.splitlines() if line.startswith(f"| {report['variant']} |"))


@pytest.mark.parametrize(
    "change", [{"spilled": 64}, {"fits": False}, {"needs": True, "target": 90, "instruction": "mma.sync"}]
)
def test_what_is_wrong_would_be_seen(change: dict[str, object]) -> None:
    right = {"spilled": 0, "fits": True, "needs": False, "target": 80, "instruction": "none"}
    assert wrong(right) is None
    assert wrong({**right, **change}) is not None
