"""The benchmark of grammars: its samples are what they say, its figures add up, what hangs is a line in the result."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ramify import grammars
from ramify.benchmarks.grammars import context_free, report, run
from ramify.benchmarks.grammars.figures import summary
from ramify.grammars.vocabulary import Vocabulary

BYTES = Vocabulary([bytes([byte]) for byte in range(256)], [0])


@pytest.mark.parametrize("sample", context_free.SAMPLES, ids=lambda sample: sample.name)
def test_samples_are_in_their_languages_in_both_dialects(sample: context_free.Sample) -> None:
    for grammar in (grammars.gbnf(sample.rules.strip() + "\n"), grammars.lark(context_free.lark_of(sample.rules))):
        for texts, wanted in ((sample.valid, True), (sample.invalid, False)):
            for text in texts:
                matcher = grammar.matcher(BYTES)
                assert (matcher.accept_bytes(text.encode()) and matcher.accepting) is wanted, text


def test_a_summary_counts_what_passes() -> None:
    base = {"compiled": True, "compile_ms": 1.0, "first_mask_ms": 2.0, "masks_us": [1.0, 3.0]}
    results = [
        base | {"valid": [True], "invalid": [False]},
        base | {"valid": [True, False], "invalid": []},
        base | {"valid": [True], "invalid": [True]},
        {"compiled": False, "hung": "no end after 30 s"},
        {"compiled": False, "offered": False},
    ]
    found = summary(results)
    assert (found["grammars"], found["passes"], found["compiles"], found["hung"]) == (4, 0.25, 0.75, 1)
    assert (found["valid_accepted"], found["invalid_refused"]) == (0.75, 0.5)
    assert found["mask_us"][:2] == [2.0, 2.0] and found["first_mask_ms"] == [2.0, 2.0, 2.0]
    assert summary([{"compiled": False, "offered": False}]) == {}
    engines = {"x": {"title": "X", "kinds": {"regex": found}}}
    assert "| X | 4 | 75.0% | 25.0% |" in report.table(engines, "regex")[2]


def test_a_grammar_that_hangs_or_kills_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
import json, os, sys, time
tasks, results, begin = sys.argv[3], sys.argv[4], int(sys.argv[5])
with open(results, "a") as out:
    print(json.dumps({"ready_ms": 1.0}), file=out, flush=True)
    for number, line in enumerate(open(tasks)):
        task = json.loads(line)
        if number < begin:
            continue
        print(json.dumps({"begun": number}), file=out, flush=True)
        if task["id"] == "hangs":
            time.sleep(60)
        if task["id"] == "dies":
            os._exit(3)
        print(json.dumps({"id": task["id"], "kind": task["kind"], "compiled": True}), file=out, flush=True)
"""
    (tmp_path / "worker.py").write_text(script)
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "PATIENCE", 1.0)
    monkeypatch.setattr(run.assets, "python_of", lambda name, logs: Path(sys.executable))
    tasks = [{"id": name, "kind": "regex"} for name in ("a", "hangs", "b", "dies", "c")]
    found = run.run(run.CONTESTANTS["ramify"], tmp_path / "tokenizer.json", tasks, tmp_path)
    assert [result["compiled"] for result in found["results"]] == [True, False, True, False, True]
    assert found["results"][1]["hung"] == "no end after 1 s" and "code 3" in found["results"][3]["hung"]
    assert json.dumps(found)
