"""The driver: a peer that crashes, hangs or cannot be installed is a reason in the result, and the rest goes on."""

from __future__ import annotations

import ast
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from ramify.benchmarks import __main__ as command_line
from ramify.benchmarks import assets, driver
from ramify.benchmarks.peers_table import ENVIRONMENTS, MODELS, VARIANTS, Environment, Variant
from ramify.benchmarks.workloads import RECIPES, Run, Workload

PEERS = assets.HERE / "peers"

SCRIPT = """
    import os, sys, time
    sys.path.insert(0, {peers!r})
    from measuring import main
    from protocol import Adapter, Completion

    class Fake(Adapter):
        settings, versions = {{"a": 1}}, {{}}
        def __init__(self, job):
            if job.options.get("load") == "crash":
                raise RuntimeError("no such instruction")
        def generate(self, requests):
            if requests[0].tokens[0] == 13:
                os._exit(3)
            if requests[0].tokens[0] == 14:
                time.sleep(60)
            return [Completion([0] * request.max_tokens) for request in requests]

    main(Fake)
"""


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    script = tmp_path / "fake_engine.py"
    script.write_text(textwrap.dedent(SCRIPT).format(peers=str(PEERS)))
    return Variant("fake", "Fake", None, str(script))


def workload(name: str, token: int) -> Workload:
    return Workload(name, name, name, "s", [Run([{"tokens": [token], "max_tokens": 2}])])


def run(variant: Variant, tmp_path: Path, *workloads: Workload) -> dict[str, Any]:
    return driver.run_variant(variant, list(workloads), [{"tokens": [1], "max_tokens": 1}], 1, tmp_path)


def test_a_crash_costs_one_workload(variant: Variant, tmp_path: Path) -> None:
    outcome = run(variant, tmp_path, workload("A", 1), workload("B", 13), workload("C", 2))
    statuses = {name: figures["status"] for name, figures in outcome["workloads"].items()}
    assert outcome["status"] == "ok"
    assert statuses == {"A": "ok", "B": "failed", "C": "ok"}
    assert "code 3" in outcome["workloads"]["B"]["reason"]
    json.dumps(outcome)


def test_a_hang_costs_one_workload(variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "STEP_TIMEOUT_SECONDS", 2.0)
    outcome = run(variant, tmp_path, workload("A", 14), workload("B", 1))
    assert outcome["workloads"]["A"]["status"] == "failed"
    assert "no end after 2 s" in outcome["workloads"]["A"]["reason"]
    assert outcome["workloads"]["B"]["status"] == "ok"


def test_an_engine_that_does_not_load_is_unavailable(variant: Variant, tmp_path: Path) -> None:
    broken = Variant("fake", "Fake", None, variant.script, options={"load": "crash"})
    outcome = run(broken, tmp_path, workload("A", 1))
    assert outcome["status"] == "unavailable"
    assert "no such instruction" in outcome["reason"]


def test_an_environment_that_cannot_be_made_is_a_reason(
    variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(environment: Environment, folder: Path, python: Path, log: Path) -> None:
        raise assets.UnavailableError("installing it failed (no wheel)")

    monkeypatch.setattr(assets, "ENVIRONMENTS_HOME", tmp_path / "venvs")
    monkeypatch.setattr(assets, "install", refuse)
    outcome = run(Variant("v", "V", "vllm", variant.script), tmp_path, workload("A", 1))
    assert outcome["status"] == "unavailable"
    assert "no wheel" in outcome["reason"]


def test_a_second_best_way_is_noted(variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, logs: Path) -> Path:
        raise assets.UnavailableError(f"making {name} failed")

    monkeypatch.setattr(assets, "model_path", refuse)
    outcome = run(
        Variant("v", "V", None, variant.script, optional={"server": "llama-server"}), tmp_path, workload("A", 1)
    )
    assert outcome["status"] == "ok"
    assert outcome["notes"] == ["making llama-server failed"]


def test_a_failed_command_says_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(assets.UnavailableError, match=r"trying failed \(it is broken\)"):
        assets.run_logged(["sh", "-c", "echo first; echo it is broken; exit 1"], tmp_path / "log", "trying")


def test_everything_named_exists() -> None:
    for entry in VARIANTS.values():
        assert entry.environment is None or entry.environment in ENVIRONMENTS
        assert set(entry.workloads or ()) <= set(RECIPES)
        assert (set(entry.models.values()) | set(entry.optional.values())) - {"gguf"} <= set(MODELS)
        tree = ast.parse((PEERS / entry.script).read_text())
        called = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "id")]
        assert "main" in called, f"{entry.script} never starts"
    for model in MODELS.values():
        assert model.environment in ENVIRONMENTS
        assert model.source in (None, "gguf") or model.source in MODELS
        assert (PEERS / model.script).exists()


def test_names_on_the_command_line() -> None:
    known = list(VARIANTS)
    assert command_line.choose("ramify", known, "peer", []) == ["ramify"]
    assert command_line.choose("vllm,transformers", known, "peer", []) == [
        "vllm-eager",
        "vllm-compiled",
        "transformers",
    ]
    assert command_line.choose(None, known, "peer", ["ramify"]) == ["ramify"]
    with pytest.raises(SystemExit, match="no peer 'sglang'; there are: ramify"):
        command_line.choose("sglang", known, "peer", [])


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    command_line.main(["--list"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in [*VARIANTS, *RECIPES])
