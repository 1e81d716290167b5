"""What a section found: claims held against their bars, and tables of everything that was measured."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """One claim. `met` is None where there is no bar, or where what it needs was not to be had."""

    claim: str
    bar: str
    measured: str
    met: bool | None


@dataclass(frozen=True)
class Table:
    """Rows under a heading. A cell is text already: numbers are written where they are known."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        assert len(cells) == len(self.columns), f"{self.title}: {len(cells)} cells, {len(self.columns)} columns"
        self.rows.append(tuple(str(cell) for cell in cells))


@dataclass
class Section:
    """One section's results, complete or up to where it failed."""

    findings: list[Finding] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    rehearsal: bool = False

    def at_least(self, claim: str, value: float, bar: float, unit: str = "x") -> None:
        """A claim that wants this value or more."""
        self.hold(claim, f">= {bar:g}{unit}", f"{value:.3g}{unit}", value >= bar)

    def at_most(self, claim: str, value: float, bar: float, unit: str = "x") -> None:
        """A claim that wants this value or less."""
        self.hold(claim, f"<= {bar:g}{unit}", f"{value:.3g}{unit}", value <= bar)

    def right(self, claim: str, value: float, bar: float) -> None:
        """An error or a count that must be this small whatever the time it takes, in a rehearsal too."""
        self.findings.append(Finding(claim, f"<= {bar:g}", f"{value:.3g}", value <= bar))

    def hold(self, claim: str, bar: str, measured: str, met: bool) -> None:
        """A claim that was tried; in a rehearsal it only says that it was."""
        said = Finding(claim, bar, "rehearsed", None) if self.rehearsal else Finding(claim, bar, measured, met)
        self.findings.append(said)

    def without(self, claim: str, bar: str, reason: str) -> None:
        """A claim that could not be tried."""
        self.findings.append(Finding(claim, bar, f"not measured: {reason}", None))

    def table(self, title: str, *columns: str) -> Table:
        made = Table(title, columns)
        self.tables.append(made)
        return made


def time_of(seconds: float) -> str:
    """A duration as people read it."""
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def first_line(error: BaseException) -> str:
    """An error in one line of a table."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"
