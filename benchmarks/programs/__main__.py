"""The command line: `python -m ramify.benchmarks.programs` counts what each part of the design saves."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import ramify

from .. import assets, machine
from . import uses
from .texts import Texts
from .variants import VARIANTS, Variant
from .workloads import MAKERS, Size, Workload

DOCS = assets.CHECKOUT / "docs"


@dataclass(frozen=True)
class Count:
    """What one workload cost in one variant. Tokens and steps are exact; seconds depend on the machine's mood."""

    workload: str
    variant: str
    gens: int
    prompt_tokens: int
    cached_tokens: int
    computed_tokens: int
    recomputed_tokens: int
    forced_tokens: int
    steps: int
    seconds: float

    @property
    def hit_rate(self) -> float:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


class Engines:
    """One engine for each set of options, kept open: loading takes longer than most runs."""

    def __init__(self, cache_tokens: int) -> None:
        self._cache_tokens = cache_tokens
        self._open: dict[str, ramify.Engine] = {}

    def of(self, variant: Variant) -> ramify.Engine:
        """An engine with this variant's options and an empty cache."""
        key = repr(sorted(variant.engine.items()))
        if key not in self._open:
            self._open[key] = ramify.Engine(progress=False, cache_tokens=self._cache_tokens, **variant.engine)
        self._open[key].flush_cache()
        return self._open[key]

    def close(self) -> None:
        for engine in self._open.values():
            engine.close()


@ramify.function
def alone(s, number, program, row):
    s += f"[{number}] "
    program(s, **row)


def measure(workload: Workload, variant: Variant, engine: ramify.Engine) -> Count:
    """Run the workload on an engine whose cache is small and empty, so that what is evicted matters."""
    program = workload.program.compile() if variant.compiled else workload.program
    rows = variant.arranged(workload.rows)
    if variant.apart:
        program, rows = alone, [{"number": i, "program": program, "row": row} for i, row in enumerate(rows)]
    before = engine.stats()
    started = perf_counter()
    states = program.run_batch(
        rows,
        backend=engine,
        temperature=0,
        num_threads=variant.at_once or "auto",
        options=variant.options,
    )
    for state in states:
        state.sync()
    seconds = perf_counter() - started
    failed = [error for state in states if (error := state.error()) is not None]
    if failed:
        raise failed[0]
    after, spent = engine.stats(), ramify.stats(states)
    return Count(
        workload=workload.name,
        variant=variant.name,
        gens=len(spent.gens),
        prompt_tokens=spent.prompt_tokens,
        cached_tokens=spent.cached_tokens,
        computed_tokens=after.computed_tokens - before.computed_tokens,
        recomputed_tokens=after.recomputed_tokens - before.recomputed_tokens,
        forced_tokens=spent.forced_tokens,
        steps=after.steps - before.steps,
        seconds=round(seconds, 3),
    )


def page(counts: list[Count], scale: float, cache_tokens: int) -> str:
    """The result as Markdown: for each workload, every variant beside the one with everything on."""
    facts = machine.describe()
    lines = [
        "# What the parts are worth, on whole programs",
        "",
        f"{facts['processor']}, {facts['cores']} cores, {facts['date']}, commit {facts['commit']}; embedded model, "
        f"greedy, lengths and rows times {scale:g}, a cache of {cache_tokens} tokens.",
        "`python -m ramify.benchmarks.programs --publish` makes this page. Tokens and steps are counted; seconds are",
        "one run's.",
        "",
    ]
    for name in dict.fromkeys(count.workload for count in counts):
        rows = [count for count in counts if count.workload == name]
        base = rows[0]
        lines += [
            f"## {name} ({base.gens} gens)",
            "",
            "| variant | hit rate | tokens computed | ratio | steps | ratio | recomputed | forced | s |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [row(count, base) for count in rows]
        lines.append("")
    return "\n".join(lines)


def row(count: Count, base: Count) -> str:
    """One variant's line, beside the workload's first."""
    cells = (
        count.variant,
        f"{count.hit_rate:.0%}",
        f"{count.computed_tokens:,}",
        f"{count.computed_tokens / base.computed_tokens:.2f}",
        str(count.steps),
        f"{count.steps / base.steps:.2f}",
        f"{count.recomputed_tokens:,}",
        str(count.forced_tokens),
        f"{count.seconds:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.programs", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.25, help="of lengths and rows (default 0.25; the paper's: 1)")
    parser.add_argument("--cache-tokens", type=int, default=8192, help="KV memory (default 8192 tokens)")
    parser.add_argument("--workloads", metavar="A,B", help=f"only these of {', '.join(MAKERS)}")
    parser.add_argument("--variants", metavar="A,B", help=f"only these of {', '.join(v.name for v in VARIANTS)}")
    parser.add_argument("--publish", action="store_true", help="write docs/programs-benchmark.{md,json}")
    return parser.parse_args(arguments)


def chosen(asked: str | None, known: list[str]) -> list[str]:
    wanted = known if not asked else [name.strip() for name in asked.split(",")]
    for name in wanted:
        if name not in known:
            sys.exit(f"benchmarks.programs: there is no {name!r}; choose from {', '.join(known)}")
    return wanted


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    names = chosen(args.workloads, list(MAKERS))
    variants = [v for v in VARIANTS if v.name in chosen(args.variants, [v.name for v in VARIANTS])]
    wheel: Path = assets.fetch_wheel(*assets.TEXT_WHEEL)
    counts: list[Count] = []
    engines = Engines(args.cache_tokens)
    for name in names:
        for variant in variants:
            workload = MAKERS[name](Texts(wheel), Size(args.scale))
            counts.append(measure(workload, variant, engines.of(variant)))
            c = counts[-1]
            print(
                f"{c.workload:10} {c.variant:24} {c.hit_rate:4.0%} hits {c.computed_tokens:7} computed "
                f"{c.steps:5} steps {c.recomputed_tokens:6} recomputed {c.seconds:6.1f} s",
                flush=True,
            )
    engines.close()
    if args.publish:
        used = "\n".join(["## The uses of the graph, one by one", "", uses.table(uses.measure()), ""])
        (DOCS / "programs-benchmark.md").write_text(page(counts, args.scale, args.cache_tokens) + "\n" + used)
        found = {"machine": machine.describe(), "scale": args.scale, "counts": [asdict(count) for count in counts]}
        (DOCS / "programs-benchmark.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
