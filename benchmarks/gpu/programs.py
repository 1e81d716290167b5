"""Whole programs with and without reuse: a tree of thought, and few-shot questions."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import perf_counter

import ramify

from ..programs.workloads import MAKERS, Size, Workload
from .engines import engine
from .findings import Section
from .random_model import words
from .scene import Scene

TITLE = "Programs with and without reuse"
NAMES = {"tot": "tree of thought", "hellaswag": "few-shot"}


class MadeTexts:
    """As benchmarks.programs' texts, of made-up words: a token each. `share` of them, for a rehearsal."""

    def __init__(self, seed: int, share: float) -> None:
        self._words = iter(words(400_000, seed))
        self._share = share

    def words(self, tokens: float) -> str:
        return " ".join(itertools.islice(self._words, max(1, round(tokens * self._share))))

    def question(self) -> tuple[str, str]:
        return f"{self.words(40)}\n A. {self.words(4)}\n B. {self.words(4)}\nAnswer:", " A"

    def ending(self) -> tuple[str, list[str], str]:
        endings = [" " + self.words(12) for _ in range(4)]
        return self.words(40), endings, endings[0]

    def sum(self) -> str:
        return self.words(50)


def measure(scene: Scene, section: Section) -> None:
    table = section.table(
        "Seconds by the wall clock, and tokens run through the model",
        "program", "rows", "with reuse", "tokens", "without", "tokens", "faster",
    )  # fmt: skip
    found: dict[tuple[str, bool], tuple[float, int]] = {}
    for reuse in (True, False):
        found |= {(name, reuse): cost for name, cost in costs(scene, reuse).items()}
    for name, title in NAMES.items():
        (fast, few), (slow, many) = found[name, True], found[name, False]
        about = workload(scene, name, 2)
        table.add(
            about.title, len(about.rows), f"{fast:.2f} s", f"{few:,}", f"{slow:.2f} s", f"{many:,}",
            f"{slow / fast:.1f}",
        )  # fmt: skip
        section.at_least(f"programs, {title}: faster than without reuse", slow / fast, 3.0)


def costs(scene: Scene, reuse: bool) -> dict[str, tuple[float, int]]:
    """Of each program: seconds, and tokens computed."""
    made = engine(scene) if reuse else engine(scene, prefix_cache=False)
    found = {}
    for name in NAMES:
        if not scene.rehearsal:
            run(made, workload(scene, name, 1))  # kernels are compiled
            made.flush_cache()
        found[name] = run(made, workload(scene, name, 2))
    return found


def workload(scene: Scene, name: str, seed: int) -> Workload:
    """The paper's sizes; in a rehearsal one row of a few words."""
    size = Size(scene.pick(0.5 if scene.quick else 1.0, 0.02))
    made = MAKERS[name](MadeTexts(seed, scene.pick(1.0, 0.02)), size)
    if not scene.rehearsal:
        return made
    small = {"branches": 2, "depth": 1} if name == "tot" else {}
    return replace(made, rows=[made.rows[0] | small])


def run(engine: ramify.Engine, workload: Workload) -> tuple[float, int]:
    """Every row in a thread of its own: seconds, and tokens computed."""
    before, started = engine.stats().computed_tokens, perf_counter()

    def one(row: dict[str, object]) -> None:
        state = workload.program.run(**row, backend=engine, temperature=0)
        state.sync()
        if (error := state.error()) is not None:
            raise error

    with ThreadPoolExecutor(max_workers=len(workload.rows)) as threads:
        list(threads.map(one, workload.rows))
    return perf_counter() - started, engine.stats().computed_tokens - before
