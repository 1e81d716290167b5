"""What a run cost: for each gen the tokens that were cached, forced, speculated and computed, and their sums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .history import Entry, StreamHistory
from .nodes import Gen, Select

KINDS = ("prompt_tokens", "cached_tokens", "computed_tokens", "forced_tokens", "speculated_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class GenStats:
    """One gen or select. Counts that the backend does not report are 0."""

    name: str | None
    kind: str  # "gen" or "select"
    stream: int  # 0 is the program's own; forks count up
    seconds: float | None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    computed_tokens: int = 0
    forced_tokens: int = 0
    speculated_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class RunStats:
    """One run or several, gen by gen. `str()` is a table for people."""

    gens: tuple[GenStats, ...]
    runs: int = 1

    def total(self, kind: str) -> int:
        """The sum over all gens of one of the counts."""
        return sum(getattr(gen, kind) for gen in self.gens)

    @property
    def prompt_tokens(self) -> int:
        return self.total("prompt_tokens")

    @property
    def cached_tokens(self) -> int:
        return self.total("cached_tokens")

    @property
    def computed_tokens(self) -> int:
        return self.total("computed_tokens")

    @property
    def forced_tokens(self) -> int:
        return self.total("forced_tokens")

    @property
    def speculated_tokens(self) -> int:
        return self.total("speculated_tokens")

    @property
    def completion_tokens(self) -> int:
        return self.total("completion_tokens")

    def __str__(self) -> str:
        of = f" of {self.runs} runs" if self.runs != 1 else ""
        share = self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0
        line = (
            f"[{len(self.gens)} gen{'s' if len(self.gens) != 1 else ''}{of}: {self.prompt_tokens} prompt tokens, "
            f"{self.cached_tokens} of them reused ({share:.0%}), {self.completion_tokens} generated"
        )
        extra = [f"{getattr(self, kind)} {kind[:-7]}" for kind in KINDS[3:5] if getattr(self, kind)]
        return ", ".join([line, *extra]) + "]"

    __repr__ = __str__  # what a notebook shows


def stats_of(histories: Iterable[StreamHistory]) -> RunStats:
    """What these streams and all their forks cost."""
    gens: list[GenStats] = []
    runs = 0
    for root in histories:
        runs += 1
        for history in root.walk():
            gens.extend(
                _gen(entry, history.number)
                for entry in list(history.entries)
                if isinstance(entry.node, Gen | Select) and entry.ended is not None
            )
    return RunStats(tuple(gens), runs)


def _gen(entry: Entry, stream: int) -> GenStats:
    node = entry.node
    usage = entry.usage
    seconds = None if entry.started is None or entry.ended is None else entry.ended - entry.started
    return GenStats(
        node.name if isinstance(node, Gen | Select) else None,
        "gen" if isinstance(node, Gen) else "select",
        stream,
        seconds,
        **{kind: usage.get(kind, 0) for kind in KINDS},
    )
