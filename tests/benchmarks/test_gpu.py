"""The GPU's benchmark is rehearsed without one: every path of every section, with no library but those it names."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from ramify.benchmarks.gpu.__main__ import SECTIONS, chosen
from ramify.benchmarks.gpu.engine import idle_share
from ramify.benchmarks.gpu.engines import engine
from ramify.benchmarks.gpu.findings import Section
from ramify.benchmarks.gpu.page import markdown
from ramify.benchmarks.gpu.scene import Scene

NEEDED = ("torch", "triton", "transformers", "numpy", "tokenizers", "safetensors")
SCRIPT = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
BLOCKED = set(sys.argv[2].split(","))
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from ramify.benchmarks.gpu.__main__ import main
sys.exit(main(["--rehearse", "--out", sys.argv[1]]))
"""


def not_there() -> set[str]:
    """The top-level packages here that the needed ones do not bring along."""
    wanted, brought = list(NEEDED), set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in brought:
            continue
        brought.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        wanted += [re.split(r"[^\w.-]", line)[0] for line in requires if "extra ==" not in line]
    owners = importlib.metadata.packages_distributions()
    return {
        package
        for package, distributions in owners.items()
        if package not in ("ramify", *sys.stdlib_module_names)
        and not {re.sub(r"[-_.]+", "-", one).lower() for one in distributions} & brought
    }


@pytest.mark.slow
def test_every_section_runs_with_nothing_but_what_is_there(tmp_path: Path) -> None:
    blocked = not_there()
    assert {"gguf", "msgpack", "greenlet", "pytest", "hypothesis"} <= blocked
    assert not {"torch", "numpy", "huggingface_hub", "jinja2"} & blocked
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), ",".join(sorted(blocked))]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert shown.returncode == 0, shown.stdout + shown.stderr[-4000:]
    data: dict[str, Any] = json.loads((tmp_path / "benchmarks-h200.json").read_text())
    assert list(data["sections"]) == list(SECTIONS)
    wrong = [cell for section in data["sections"].values() for cell in cells(section) if "Error" in cell]
    assert wrong in ([], ["ModuleNotFoundError: not installed"])  # the peer that cannot be had
    for name, section in data["sections"].items():
        assert section["error"] is None
        assert not [one for one in section["findings"] if one["met"] is False], name  # what is exact is right
        assert all(one["measured"] == "rehearsed" for one in section["findings"] if one["met"] is None), name
    text = (tmp_path / "benchmarks-h200.md").read_text()
    assert "A rehearsal" in text and "TFLOP/s" in text


def cells(section: dict[str, Any]) -> list[str]:
    return [cell for table in section["tables"] for row in table["rows"] for cell in row]


def test_an_engine_that_is_let_go_gives_its_memory_back() -> None:
    """The next engine takes what is free: nothing may hold on to the one before."""
    scene = Scene(torch.device("cpu"), rehearsal=True, quick=True)
    before = weakref.ref(engine(scene)._model.compute)
    assert before() is not None
    engine(scene, prefix_cache=False)
    assert before() is None
    scene.release()


def test_a_section_that_fails_is_on_the_page_and_the_others_too() -> None:
    broken, fine = Section(error="ValueError: planted"), Section()
    fine.at_least("fast enough", 0.5, 0.75)
    fine.at_most("small enough", 0.5, 0.75, "")
    fine.without("never tried", ">= 1", "no peer")
    about = {"gpu": "a GPU", "command": "a command"}
    text = markdown(about, {"a": ("The broken one", broken), "b": ("The other", fine)}, rehearsal=False)
    assert "| The broken one | | ValueError: planted | **failed** |" in text
    assert "| fast enough | >= 0.75x | 0.5x | **no** |" in text
    assert "| small enough | <= 0.75 | 0.5 | yes |" in text
    assert "| never tried | >= 1 | not measured: no peer | - |" in text
    assert "rehearsal" not in text.lower()


def test_a_rehearsal_claims_no_times() -> None:
    section = Section(rehearsal=True)
    section.at_least("fast enough", 5.0, 0.75)
    section.right("error", 0.5, 0.1)
    assert [(one.measured, one.met) for one in section.findings] == [("rehearsed", None), ("0.5", False)]


def test_idle_is_what_no_kernel_covers() -> None:
    def event(begin: float, length: float, kind: str = "kernel") -> dict[str, Any]:
        return {"cat": kind, "ts": begin, "dur": length}

    busy = [event(0, 4), event(2, 3), event(5, 1, "gpu_memcpy"), event(8, 2), event(0, 100, "cpu_op")]
    assert idle_share(busy) == (pytest.approx(0.2), 4)
    assert idle_share([event(0, 10), event(1, 2), event(3, 1)]) == (0.0, 3)
    with pytest.raises(RuntimeError, match="nothing"):
        idle_share([event(0, 1, "cpu_op")])


def test_the_ceilings_always_come_first() -> None:
    assert chosen("decode") == ["ceilings", "decode"]
    assert chosen("engine,prefill") == ["ceilings", "prefill", "engine"]
    assert chosen(None) == list(SECTIONS)
    with pytest.raises(SystemExit, match="no section 'deocde'"):
        chosen("deocde")
