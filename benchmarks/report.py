"""Turns a result into the terminal's table and the page docs/benchmarks.md: nothing there is typed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from . import chart
from .comparison import BARS, NO_REUSE, OURS, REUSE_BAR, Result, compare, speedup, value, without_reuse


def figure(number: float | None) -> str:
    """Three digits, no exponent."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def cell(result: Result, peer: str, workload: str) -> str:
    """A figure, or what stands in its place: the full reason is in the list below the table."""
    found = value(result, peer, workload)
    if found is not None:
        return figure(found)
    entry = result["peers"][peer]
    if entry["status"] != "ok":
        return "n/a"
    return {"not supported": "not yet", "failed": "failed"}.get(entry["workloads"].get(workload, {}).get("status"), "-")


def rows(result: Result) -> Iterator[list[str]]:
    """The table: a row for each peer, then the best peer's name, our ratio and the bars."""
    names = list(result["workloads"])
    yield ["", *(f"{name} {result['workloads'][name]['unit']}" for name in names)]
    for peer, entry in result["peers"].items():
        yield [entry["title"], *(cell(result, peer, name) for name in names)]
    comparisons = [compare(result, name) for name in names]
    yield ["ramify against the best peer", *("-" if c.ratio is None else f"{c.ratio:.2f}x" for c in comparisons)]
    yield ["the bar", *("-" if c.bar is None else f"{c.bar:g}x" for c in comparisons)]
    yield ["reached", *({True: "yes", False: "no", None: "-"}[c.reached] for c in comparisons)]


def table(result: Result) -> str:
    """The table in aligned columns, for a terminal, with the reasons under it."""
    cells = list(rows(result))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(text.ljust(widths[0]) if i == 0 else text.rjust(widths[i]) for i, text in enumerate(row))
        for row in cells
    ]
    return "\n".join([*lines, *reasons(result)])


def markdown_table(cells: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    lines.insert(1, "|---" + "|--:" * (len(cells[0]) - 1) + "|")
    return "\n".join(lines)


def reasons(result: Result) -> list[str]:
    """A line for everything that has no figure, and for every second-best way that was taken."""
    lines = []
    for entry in result["peers"].values():
        if entry["status"] != "ok":
            lines.append(f"- {entry['title']}: could not be had: {entry['reason']}")
        for name, figures in entry["workloads"].items():
            if figures["status"] != "ok":
                lines.append(f"- {entry['title']}, {name}: {figures['status']}: {figures['reason']}")
        lines += [f"- {entry['title']}: {note}" for note in entry.get("notes", [])]
    return lines


def details(result: Result) -> list[list[str]]:
    """What each engine did in each workload, to check that the work was equal."""
    cells = [["engine", "workload", "repeats", "spread", "prompt tokens", "cached", "made", "valid JSON", "peak MB"]]
    for entry in result["peers"].values():
        for name, figures in entry["workloads"].items():
            if figures["status"] != "ok":
                continue
            values = figures["values"]
            cached = figures["cached_tokens"]
            memory = figures["peak_memory_bytes"]
            cells.append(
                [
                    entry["title"],
                    name,
                    str(len(values)),
                    f"{figure(min(values))} to {figure(max(values))}",
                    f"{figures['prompt_tokens']:,}",
                    "not told" if cached is None else f"{cached:,}",
                    f"{figures['output_tokens']:,}",
                    str(figures["valid_answers"]) if name == "W4" else "",
                    "-" if memory is None else f"{memory / 1e6:,.0f}",
                ]
            )
    return cells


def counters(result: Result) -> list[list[str]]:
    """Our own counts for each workload: what was computed, and in how many steps."""
    shown = ("steps", "computed_tokens", "cached_tokens", "step_seconds", "forward_seconds")
    cells = [["ramify", *(name.replace("_", " ") for name in shown), "outside the model"]]
    for peer in (OURS, NO_REUSE):
        for name, figures in result["peers"].get(peer, {}).get("workloads", {}).items():
            grown = figures.get("counters") or {}
            if not set(shown) <= set(grown):
                continue
            share = 1 - grown["forward_seconds"] / grown["step_seconds"] if grown["step_seconds"] else 0.0
            label = name if peer == OURS else f"{name}, no reuse"
            cells.append([label, *(figure(grown[column]) for column in shown), f"{100 * share:.1f}%"])
    return cells


def page(result: Result) -> str:
    """The whole of docs/benchmarks.md."""
    machine = result["machine"]
    reuse = without_reuse(result)
    names = result["workloads"]
    lines = [
        "# Benchmarks",
        "",
        *([] if result["size"] == "full" else [f"**A {result['size']} run: these figures are no measurement.**", ""]),
        "<!-- generated from benchmarks.json by `python -m ramify.benchmarks --report`; do not edit -->",
        "",
        "![How many times faster ramify is than each peer, for each workload](benchmarks.png)",
        "",
        f"- Machine: {machine['processor']} (family {machine['family']}), {machine['cores']} cores, "
        f"{machine['memory_gb']} GB; {', '.join(machine['features'])}; {machine['system']}; "
        f"load before the run {machine['load_before']:.1f}.",
        f"- Every engine: {result['threads']} threads, greedy, the same prompts in token ids, exactly the same number "
        "of tokens out (counted; W4 ends by its schema).",
        f"- Model: {result['model']}.",
        f"- {machine['date']}, commit {machine['commit']}{' with local changes' if machine['dirty'] else ''}, "
        f"Python {machine['python']}, `{result['command']}`, {result['seconds'] / 60:.0f} minutes. "
        "Every figure is the median of its repeats "
        "(with `--merge`, the other engines' are from that earlier run), each on text of its own with an "
        "empty cache, after a warm-up on "
        "other text; loading is not counted.",
        "",
        markdown_table(list(rows(result))),
        "",
        "Seconds: less is better. tok/s: more is better. The bar is the ratio we mean to reach against the best peer "
        "of the column in the same run.",
    ]
    if reuse is not None and reuse.ratio is not None:
        lines.append(
            f"W1 without our own prefix cache takes {figure(reuse.best)} s: reuse makes it {reuse.ratio:.2f} times "
            f"faster (the bar is {REUSE_BAR:g}: {'reached' if reuse.reached else 'not reached'})."
        )
    lines += ["", *(f"- {name}: {entry['title']}" for name, entry in names.items()), "", *METHOD]
    missing = reasons(result)
    if missing:
        lines += ["", "## What has no figure, and why", "", *missing]
    lines += ["", "## What each engine ran with", ""]
    for entry in result["peers"].values():
        if entry["status"] == "ok":
            parts = {**(entry.get("versions") or {}), **(entry.get("settings") or {})}
            lines.append(f"- {entry['title']}: " + ", ".join(f"{key} {value}" for key, value in parts.items()))
    lines += ["", "## The work that was done", "", markdown_table(details(result))]
    own = counters(result)
    if len(own) > 1:
        lines += ["", "## Our own counts", "", markdown_table(own)]
    return "\n".join(lines) + "\n"


METHOD = [
    "How W5 is done: ramify scores the options (`Engine.score`); the peers do the equal work, one token after each of "
    "the four options, all 256 at once, which is their fastest way (prompt log-probabilities bypass vLLM's prefix "
    "cache, and the others have none). "
    "Prefill is one request of one token; decode is the time of 65 tokens for each stream less that of one token for "
    "as many other streams, so prefill is not in it.",
]


def write(result: Result, folder: Path) -> None:
    """Write the page and its chart into a folder."""
    ratios = {
        entry["title"]: {
            name: speedup(result, name, ours, other)
            for name in result["workloads"]
            if (ours := value(result, OURS, name)) is not None and (other := value(result, peer, name)) is not None
        }
        for peer, entry in result["peers"].items()
        if not entry["ours"]
    }
    labels = {name: f"{name}\n{entry['label']}" for name, entry in result["workloads"].items()}
    chart.draw(list(result["workloads"]), ratios, BARS, labels, folder / "benchmarks.png")
    (folder / "benchmarks.md").write_text(page(result))
    print(f"[bench] wrote {folder / 'benchmarks.md'} and its chart")
