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
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ramify.benchmarks.gpu import ceilings, engines, scene, stand_ins
from ramify.benchmarks.gpu.__main__ import SECTIONS, chosen, command, parse
from ramify.benchmarks.gpu.engine import idle_share
from ramify.benchmarks.gpu.engines import engine
from ramify.benchmarks.gpu.findings import Section
from ramify.benchmarks.gpu.page import facts, markdown
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


class Clock:
    """A GPU's events, on a machine without one: each is a millisecond after the one before."""

    count = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        Clock.count += 1
        self.at = Clock.count

    def elapsed_time(self, other: Clock) -> float:
        return float(other.at - self.at)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """What a run on a GPU calls and a rehearsal does not, without a GPU."""
    about = SimpleNamespace(name="Pretended", total_memory=10**11, multi_processor_count=132, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "Event", Clock)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: about)
    monkeypatch.setattr(scene, "FLUSH_BYTES", 1024)
    return Scene(torch.device("cpu"), rehearsal=False, quick=True)


def test_a_device_is_timed_by_its_events(pretended: Scene) -> None:
    ran = []
    timing = pretended.timed(lambda: ran.append(1))
    assert timing.median == timing.least == pytest.approx(1e-3) and timing.runs >= 7
    assert len(ran) == timing.runs + 4  # three to warm up, one to see how long it takes


def test_the_ceilings_are_what_the_events_say(pretended: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scene, "pick", lambda self, full, rehearsed: rehearsed)
    section = Section()
    ceilings.measure(pretended, section)
    assert pretended.ceilings.bandwidth == pytest.approx(2 * 4096 / 1e-3)
    assert pretended.ceilings.operations == pytest.approx(2 * 16**3 / 1e-3)
    assert pretended.ceilings.floor(8192, 0) == pytest.approx(1e-3)


def test_an_engine_is_asked_for_on_the_gpu(pretended: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("ramify.Engine", lambda model, **options: asked.append({"model": model, **options}))
    monkeypatch.setattr(engines, "LLAMA_8B", engines.TINY)
    engine(pretended, "int4", prefix_cache=False)
    assert asked[0].pop("model").name == "random"
    assert asked == [{"device": "cuda", "mode": "int4", "progress": False, "prefix_cache": False}]


def test_the_page_says_what_it_ran_on(pretended: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramify.benchmarks.gpu.page._driver", lambda: "580.1")
    about = facts(torch.device("cuda"), "a command")
    assert (about["gpu"], about["capability"], about["memory"], about["driver"]) == (
        "Pretended", "sm_90", "100 GB", "580.1"
    )  # fmt: skip
    assert torch.__version__.startswith(about["torch"]) and about["flashinfer-python"] == "not installed"


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


def test_a_stand_in_can_be_imported_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", stand_ins.Missing("gguf"))
    assert not stand_ins.is_here("gguf") and stand_ins.is_here("torch") and not stand_ins.is_here("no_such_library")
    made = stand_ins.Missing("gguf")
    assert issubclass(made.SomeError, Exception)  # it may stand in an except clause, or be a base class
    with pytest.raises(ImportError, match=r"gguf is not installed, and gguf\.dequantize is needed"):
        made.dequantize(b"")
    with pytest.raises(AttributeError):
        made.__version__  # noqa: B018


def test_the_page_names_no_folder_of_the_machine() -> None:
    args = parse(["--publish", "--out", "/somewhere/else", "--quick", "--only", "decode", "--commit", "abc"])
    assert command(args) == "python -m ramify.benchmarks.gpu --only decode --quick --publish"
    assert command(parse([])) == "python -m ramify.benchmarks.gpu"


def test_the_ceilings_always_come_first() -> None:
    assert chosen("decode") == ["ceilings", "decode"]
    assert chosen("engine,prefill") == ["ceilings", "prefill", "engine"]
    assert chosen(None) == list(SECTIONS)
    with pytest.raises(SystemExit, match="no section 'deocde'"):
        chosen("deocde")
