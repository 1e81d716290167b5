"""The test-suite with every engine on the GPU, as a section: whether it passes, and how to run it by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .findings import Section
from .scene import Scene
from .stand_ins import is_here

TITLE = "The tests, on this device"
TESTS = Path(__file__).resolve().parents[2] / "tests"
FOLDERS = ("kernels/triton", "runtime")
NEEDED = ("pytest", "hypothesis", "gguf", "msgpack", "greenlet", "pydantic", "lark", "jinja2")  # by them, and by ramify


def measure(scene: Scene, section: Section) -> None:
    claim = 'the test-suite passes with device="cuda"'
    missing = [name for name in NEEDED if not is_here(name)]
    if missing:
        section.without(claim, "all", f"not installed: {', '.join(missing)}")
        section.notes.append(f"Not installed, so the tests were not run: {', '.join(missing)}.")
        return
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=20", "-m", "not slow"]
    command += [str(TESTS / folder) for folder in FOLDERS]
    if scene.rehearsal:
        command += ["--collect-only", "-qq"]
    environment = {**os.environ, "RAMIFY_TEST_DEVICE": scene.pick("cuda", "cpu")}
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = shown.stdout.strip().splitlines() or [shown.stderr.strip()[-200:]]
    section.hold(claim, "all", lines[-1], shown.returncode == 0)
    section.notes += [f"`{line[:200]}`" for line in lines if line.startswith(("FAILED", "ERROR"))]
    section.notes.append(f"pytest on {' and '.join(f'tests/{folder}' for folder in FOLDERS)}: {lines[-1]}")
