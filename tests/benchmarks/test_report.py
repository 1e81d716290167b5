"""The page: ratios go the right way, and whoever is missing is shown with the reason."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ramify.benchmarks import comparison, report


def figures(value: float, **more: Any) -> dict[str, Any]:
    return {
        "status": "ok",
        "value": value,
        "values": [value],
        "prompt_tokens": 67840,
        "output_tokens": 1024,
        "cached_tokens": None,
        "valid_answers": 0,
        "counters": {},
        "peak_memory_bytes": 500_000_000,
        **more,
    }


def peer(title: str, ours: bool = False, **workloads: Any) -> dict[str, Any]:
    return {
        "title": title,
        "ours": ours,
        "status": "ok",
        "workloads": workloads,
        "settings": {"mode": "best"},
        "versions": {"engine": "1.2"},
    }


COUNTERS = {"steps": 20, "computed_tokens": 5000, "cached_tokens": 63000, "step_seconds": 4.0, "forward_seconds": 3.8}
RESULT: dict[str, Any] = {
    "command": "python -m benchmarks",
    "size": "full",
    "threads": 2,
    "seconds": 600.0,
    "model": "a model",
    "machine": {
        "date": "2026-01-02 03:04 UTC",
        "processor": "a processor",
        "family": "1/2",
        "cores": 2,
        "features": ["avx2"],
        "memory_gb": 16.0,
        "load_before": 0.1,
        "system": "Linux",
        "python": "3.11",
        "commit": "abc",
        "dirty": False,
    },
    "workloads": {
        "W1": {"title": "few-shot", "label": "few-shot", "unit": "s", "less_is_better": True},
        "W4": {"title": "json", "label": "json", "unit": "s", "less_is_better": True},
        "D8": {"title": "decode", "label": "decode", "unit": "tok/s", "less_is_better": False},
    },
    "peers": {
        "ramify": peer(
            "ramify",
            ours=True,
            W1=figures(4.0, counters=COUNTERS),
            W4={"status": "not supported", "reason": "no grammars"},
            D8=figures(900.0),
        ),
        "ramify-noreuse": peer("ramify, no reuse", ours=True, W1=figures(28.0)),
        "fast": peer("Fast", W1=figures(24.0), W4=figures(5.0), D8=figures(600.0)),
        "slow": peer("Slow", W1=figures(80.0), W4={"status": "failed", "reason": "it crashed"}, D8=figures(100.0)),
        "gone": {
            "title": "Gone",
            "ours": False,
            "status": "unavailable",
            "reason": "installing gone failed (no wheel)",
            "workloads": {},
            "notes": ["a second best"],
        },
    },
}


@pytest.fixture
def result() -> dict[str, Any]:
    return copy.deepcopy(RESULT)


def test_less_seconds_and_more_tokens_are_both_better(result: dict[str, Any]) -> None:
    seconds, rate = comparison.compare(result, "W1"), comparison.compare(result, "D8")
    assert (seconds.best_peer, seconds.ratio) == ("fast", 6.0)
    assert (rate.best_peer, rate.ratio) == ("fast", 1.5)
    assert seconds.reached is True  # the bar is 5
    assert rate.reached is False  # the bar is 2


def test_ours_is_never_the_best_peer(result: dict[str, Any]) -> None:
    result["peers"]["ramify-noreuse"]["workloads"]["W1"]["value"] = 0.1
    assert comparison.compare(result, "W1").best_peer == "fast"


def test_a_failed_peer_is_not_the_best_one(result: dict[str, Any]) -> None:
    result["peers"]["fast"]["workloads"]["W1"] = {"status": "failed", "reason": "x", "value": 1.0}
    assert comparison.compare(result, "W1").best_peer == "slow"


def test_no_figure_of_ours_gives_no_ratio_and_no_verdict(result: dict[str, Any]) -> None:
    json_answers = comparison.compare(result, "W4")
    assert json_answers.best == 5.0
    assert json_answers.ratio is None
    assert json_answers.reached is None


def test_reuse_is_compared_with_ourselves(result: dict[str, Any]) -> None:
    reuse = comparison.without_reuse(result)
    assert reuse is not None
    assert reuse.ratio == 7.0
    assert reuse.reached is True
    del result["peers"]["ramify-noreuse"]
    assert comparison.without_reuse(result) is None


def test_the_page_has_the_table_and_every_reason(result: dict[str, Any]) -> None:
    page = report.page(result)
    assert "| Fast | 24.0 | 5.00 | 600 |" in page
    assert "| ramify | 4.00 | not yet | 900 |" in page
    assert "| Slow | 80.0 | failed | 100 |" in page
    assert "| Gone | n/a | n/a | n/a |" in page
    assert "| ramify against the best peer | 6.00x | - | 1.50x |" in page
    assert "| reached | yes | - | no |" in page
    for reason in ("no wheel", "it crashed", "no grammars", "a second best"):
        assert reason in page
    assert "7.00 times" in page
    assert "abc" in page
    assert "no measurement" not in page


def test_a_quick_page_says_so(result: dict[str, Any]) -> None:
    result["size"] = "smoke"
    assert "no measurement" in report.page(result)


def test_our_counts_are_shown(result: dict[str, Any]) -> None:
    assert "| W1 | 20.0 | 5,000 | 63,000 | 4.00 | 3.80 | 5.0% |" in report.page(result)


def test_the_terminal_table_lists_the_same(result: dict[str, Any]) -> None:
    shown = report.table(result)
    assert "6.00x" in shown
    assert "no wheel" in shown
    assert len({len(line) for line in shown.splitlines()[:9]}) == 1  # aligned


@pytest.mark.parametrize(("number", "text"), [(None, "-"), (4.0, "4.00"), (24.04, "24.0"), (1234.5, "1,234")])
def test_figures_have_three_digits(number: float | None, text: str) -> None:
    assert report.figure(number) == text


def test_the_chart_is_drawn(result: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report.write(result, tmp_path)
    assert (tmp_path / "benchmarks.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "benchmarks.md").read_text() == report.page(result)
