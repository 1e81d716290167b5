"""The engine with narrow weights: fp8 and int4 against bf16 at batch 1 and 64."""

from __future__ import annotations

from .engine import floor
from .engines import engine, steady
from .findings import Section, Table, first_line, time_of
from .scene import Scene

TITLE = "Narrow weights on the same shape"


def measure(scene: Scene, section: Section) -> None:
    table = section.table(
        "Steady decode, by the wall clock", "weights", "batch", "a step", "floor", "by the floor", "tokens/s"
    )
    seconds: dict[tuple[str, int], float] = {}
    for mode in ("bf16", "fp8", "int4"):
        try:
            seconds |= decoded(scene, mode, section, table)
        except Exception as error:
            table.add(mode, "-", first_line(error), "-", "-", "-")
    claim = "int4 decode of an 8B shape at batch 1: faster than bf16"
    if ("int4", 1) in seconds and ("bf16", 1) in seconds:
        section.at_least(claim, seconds["bf16", 1] / seconds["int4", 1], 2.0)
    else:
        section.without(claim, ">= 2x", "one of the two did not run")


def decoded(scene: Scene, mode: str, section: Section, table: Table) -> dict[tuple[str, int], float]:
    """Seconds of a step by mode and batch."""
    made = engine(scene, mode)
    seconds = {}
    for batch in scene.pick((1, 64), (1,)):
        found = steady(scene, made, batch)
        seconds[mode, batch] = found.seconds
        least = floor(scene, found, mode)
        table.add(
            mode, batch, time_of(found.seconds), time_of(least), f"{found.seconds / least:.2f}",
            f"{batch / found.seconds:.0f}",
        )  # fmt: skip
    section.notes.append(f"`{made!r}`")
    return seconds
