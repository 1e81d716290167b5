"""Compares our figures with the peers' in one result, and with the bars we set ourselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]
OURS = "ramify"
NO_REUSE = "ramify-noreuse"
BARS = {  # the ratio to reach against the best peer of the column
    "P512": 2.0,
    "P2048": 2.0,
    "D1": 1.3,
    "D8": 2.0,
    "D32": 2.0,
    "W1": 5.0,
    "W2": 2.0,
    "W3": 2.0,
    "W4": 2.0,
    "W5": 5.0,
}
REUSE_BAR = 6.4  # W1 against ourselves without the prefix cache


@dataclass(frozen=True)
class Comparison:
    """Us against the best peer in one workload; `ratio` above 1 means that we are faster."""

    workload: str
    ours: float | None
    best: float | None
    best_peer: str | None
    ratio: float | None
    bar: float | None

    @property
    def reached(self) -> bool | None:
        return None if self.ratio is None or self.bar is None else self.ratio >= self.bar


def value(result: Result, peer: str, workload: str) -> float | None:
    """The figure of one peer in one workload, None when there is none."""
    figures = result["peers"].get(peer, {}).get("workloads", {}).get(workload, {})
    found = figures.get("value") if figures.get("status") == "ok" else None
    return None if found is None else float(found)


def speedup(result: Result, workload: str, ours: float, other: float) -> float:
    """How many times faster `ours` is than `other`, whichever way the unit goes."""
    return other / ours if result["workloads"][workload]["less_is_better"] else ours / other


def compare(result: Result, workload: str) -> Comparison:
    """Our figure against the best of the peers' figures in the same result."""
    ours = value(result, OURS, workload)
    peers = {
        name: figure
        for name, peer in result["peers"].items()
        if not peer["ours"] and (figure := value(result, name, workload)) is not None
    }
    bar = BARS.get(workload)
    if not peers:
        return Comparison(workload, ours, None, None, None, bar)
    choose = min if result["workloads"][workload]["less_is_better"] else max
    best_peer = choose(peers, key=lambda name: peers[name])
    ratio = None if ours is None else speedup(result, workload, ours, peers[best_peer])
    return Comparison(workload, ours, peers[best_peer], best_peer, ratio, bar)


def without_reuse(result: Result) -> Comparison | None:
    """W1 with the prefix cache against W1 without it, both ours; None when it was not run."""
    ours, other = value(result, OURS, "W1"), value(result, NO_REUSE, "W1")
    if ours is None or other is None:
        return None
    return Comparison("W1", ours, other, NO_REUSE, speedup(result, "W1", ours, other), REUSE_BAR)
