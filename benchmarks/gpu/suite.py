"""The test-suite with every engine on the GPU, as a section: whether it passes, and how to run it by hand."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from .findings import Finding, Section
from .scene import Scene

TITLE = "The tests, on this device"
TESTS = Path(__file__).resolve().parents[2] / "tests"
FOLDERS = ("kernels/triton", "runtime")


def measure(scene: Scene, section: Section) -> None:
    claim = 'the test-suite passes with device="cuda"'
    missing = [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]
    if missing:
        section.without(claim, "all", f"{' and '.join(missing)} not installed")
        section.notes.append(f"{' and '.join(missing)}: not installed, so the tests were not run.")
        return
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", *(str(TESTS / f) for f in FOLDERS)]
    if scene.rehearsal:
        command += ["--collect-only", "-qq"]
    environment = {**os.environ, "RAMIFY_TEST_DEVICE": scene.pick("cuda", "cpu")}
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    last = (shown.stdout.strip().splitlines() or [shown.stderr.strip()[-200:]])[-1]
    section.findings.append(Finding(claim, "all", last, shown.returncode == 0))
    section.notes.append(last)
