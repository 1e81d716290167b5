"""What happens inside a peer's process: order of requests, equal work, subtraction, failures that stay inside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import measuring
import protocol
import pytest


class FakeAdapter(protocol.Adapter):
    """Continues every prompt with its own last token plus one; `short` leaves one token out."""

    def __init__(self, job: protocol.Job) -> None:
        self.settings = {"kind": "fake"}
        self.versions = {"fake": "1"}
        self.short = bool(job.options.get("short"))
        self.batches: list[list[protocol.Request]] = []
        self.resets = 0

    def generate(self, requests: list[protocol.Request]) -> list[protocol.Completion]:
        self.batches.append(requests)
        if any(request.schema for request in requests):
            raise protocol.NotSupportedError("no schemas here")
        return [
            protocol.Completion([request.tokens[-1] + 1 + i for i in range(request.max_tokens - self.short)], "", 0)
            for request in requests
        ]

    def reset(self) -> None:
        self.resets += 1

    def counters(self) -> dict[str, float]:
        return {"batches": float(len(self.batches))}


def job(*workloads: dict[str, Any], **options: Any) -> protocol.Job:
    warm_up = [{"tokens": [7], "max_tokens": 2 if not options else 1}]
    return protocol.Job("fake", 1, options, {}, warm_up, list(workloads), 1000, 60.0)


def workload(name: str, *runs: dict[str, Any], unit: str = "s") -> dict[str, Any]:
    return {"name": name, "title": name, "label": name, "unit": unit, "runs": list(runs)}


def plain(tokens: list[int], max_tokens: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    return {"tokens": tokens, "max_tokens": max_tokens, "parent": parent, **more}


@pytest.fixture(autouse=True)
def _keep_affinity() -> Any:
    """run_job pins its process to as many processors as it has threads: undo it here."""
    allowed = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, allowed)


def test_a_job_survives_its_file(tmp_path: Path) -> None:
    given = job(workload("A", {"requests": [plain([1], 1)]}), extra="x")
    given.save(tmp_path / "job.json")
    assert protocol.Job.load(tmp_path / "job.json") == given


def test_a_child_continues_its_parents_prompt_and_answer() -> None:
    adapter = FakeAdapter(job())
    requests = [plain([10, 20], 2), plain([50], 1, parent=0), plain([60], 1, parent=0), plain([99], 1)]
    _, sent, done = measuring.run_requests(adapter, requests)
    assert [request.tokens for request in sent] == [[10, 20], [10, 20, 21, 22, 50], [10, 20, 21, 22, 60], [99]]
    assert [completion.tokens for completion in done] == [[21, 22], [51], [61], [100]]
    assert [len(batch) for batch in adapter.batches] == [2, 2]  # roots together, then their children together


def test_selects_become_one_token_after_each_option() -> None:
    adapter = FakeAdapter(job())
    measuring.run_requests(adapter, [plain([1, 2], 0, options=[[3], [4, 5]])])
    assert [request.tokens for request in adapter.batches[0]] == [[1, 2, 3], [1, 2, 4, 5]]
    assert {request.max_tokens for request in adapter.batches[0]} == {1}


def test_a_missing_token_is_noticed() -> None:
    request = protocol.Request([1], 3)
    measuring.check_work([request], [protocol.Completion([1, 2, 3])])
    with pytest.raises(protocol.UnequalWorkError, match="got 2 tokens, not 3"):
        measuring.check_work([request], [protocol.Completion([1, 2])])


def test_the_baseline_is_subtracted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 12.0, 20.0, 25.0])  # began; baseline from 10 to 12; run from 20 to 25
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    run = {"requests": [plain([1], 4)], "baseline": [plain([2], 1)], "counted_tokens": 30}
    adapter = FakeAdapter(job())
    found = measuring.measure(adapter, workload("D", run, unit="tok/s"), 1, 60.0)
    assert found["value"] == 10.0  # 30 tokens in 5 - 2 seconds
    assert found["seconds"] == [5.0]
    assert found["baseline_seconds"] == [2.0]
    assert found["counters"] == {"batches": 1.0}  # the baseline is not counted
    assert adapter.resets == 1


def test_the_median_of_the_repeats_is_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 5.0, 5.0, 5.0, 6.0, 6.0, 6.0, 8.0])
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    run = {"requests": [plain([1], 1)]}
    found = measuring.measure(FakeAdapter(job()), workload("W", run, run, run), 1000, 60.0)
    assert found["values"] == [5.0, 1.0, 2.0]
    assert found["value"] == 2.0


def test_no_repeat_is_begun_after_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 61.0, 61.0])
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    run = {"requests": [plain([1], 1)]}
    assert measuring.measure(FakeAdapter(job()), workload("W", run, run), 1000, 60.0)["values"] == [61.0]


def test_a_failure_stays_in_its_workload(tmp_path: Path) -> None:
    schema = {"required": ["a"]}
    asked = job(
        workload("good", {"requests": [plain([1], 2)]}),
        workload("json", {"requests": [plain([1], 2, schema=schema)]}),
        workload("again", {"requests": [plain([1], 2)]}),
    )
    measuring.run_job(asked, tmp_path / "result.json", FakeAdapter)
    result = json.loads((tmp_path / "result.json").read_text())
    assert [figures["status"] for figures in result["workloads"].values()] == ["ok", "not supported", "ok"]
    assert result["workloads"]["json"]["reason"] == "no schemas here"
    assert result["running"] is None
    assert result["settings"] == {"kind": "fake"}


def test_unequal_work_is_a_failure_not_a_figure(tmp_path: Path) -> None:
    measuring.run_job(job(workload("W", {"requests": [plain([1], 3)]}), short=True), tmp_path / "r.json", FakeAdapter)
    figures = json.loads((tmp_path / "r.json").read_text())["workloads"]["W"]
    assert figures["status"] == "failed"
    assert "got 2 tokens, not 3" in figures["reason"]


@pytest.mark.parametrize(("text", "valid"), [('{"a": 1, "b": 2}', True), ('{"a": 1}', False), ("[1]", False), ("{", 0)])
def test_an_answer_has_all_its_fields(text: str, valid: bool) -> None:
    assert measuring.is_answer(text, {"required": ["a", "b"]}) == bool(valid)


def test_memory_is_read_where_the_system_tells() -> None:
    found = measuring.peak_memory([os.getpid()])
    assert found is None or found > 10_000_000
    assert measuring.peak_memory([2**30]) is None
