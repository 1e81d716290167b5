"""The page docs/grammars-benchmark.md out of a result: no figure in it is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

KINDS = {"json_schema": "JSON schemas", "regex": "Regular expressions", "context-free": "Context-free grammars"}
EXPLANATION = """\
A grammar passes when it compiles, all its valid texts are accepted token by token and end in an accepting state, and
all its invalid ones are refused. Each engine runs in a process of its own, one after the other, on one thread; a
grammar that takes more than 30 s with all that is done with it is ended, and counts as not compiled. The first mask is
timed from the grammar's text on. Masks are timed as an engine gives them to a sampler, one before each token of the
valid texts. Walks take random tokens out of the masks, with a lean towards what ends things; jsonschema-rs judges what
ended. Jumped are tokens that needed no step, since the grammar leaves only one continuation.
"""


def share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def several(values: list[float | None]) -> str:
    return " / ".join(number(value) for value in values)


def table(engines: dict[str, Any], kind: str) -> list[str]:
    """One row for each engine that reads this kind."""
    walks = kind == "json_schema"
    head = [
        "engine",
        "grammars",
        "compiles",
        "passes",
        "valid accepted, invalid refused",
        "first mask p50 / p95 / max, ms",
    ]
    head += ["mask mean / p50 / p99 / p99.9, us", "hung"]
    head += ["walks: valid of those that ended; stuck", "tokens jumped; not as the tokenizer"] if walks else []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for engine in engines.values():
        found = engine.get("kinds", {}).get(kind)
        if not found:
            continue
        row = [engine["title"], str(found["grammars"]), share(found["compiles"]), share(found["passes"])]
        row += [f"{share(found['valid_accepted'])}, {share(found['invalid_refused'])}"]
        row += [several(found["first_mask_ms"]), several(found["mask_us"]), str(found["hung"])]
        if walks:
            of = found["walks"]
            row += [f"{share(found['walks_valid'])} of {of['ended']}; {of['stuck'] + of['failed']}"]
            row += [f"{share(found['jumped'])}; {found['jumped_otherwise'] if found['jumped'] is not None else '-'}"]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def page(result: dict[str, Any]) -> str:
    """The whole page."""
    machine = result["machine"]
    lines = ["# Grammars against their peers", "", EXPLANATION]
    lines += [
        f"Measured {machine['date']} on {machine['processor']} ({machine['cores']} cores), commit {machine['commit']},"
    ]
    lines += [f"load before {machine['load_before']:.1f}; `{result['command']}`.", ""]
    for run in result["runs"]:
        counts = ", ".join(f"{count} {KINDS[kind]}" for kind, count in run["counts"].items() if count)
        lines += [f"## Vocabulary of {run['vocabulary']:,}: {counts}", ""]
        for kind, title in KINDS.items():
            if run["counts"].get(kind):
                lines += [f"### {title}", "", *table(run["engines"], kind), ""]
        for engine in run["engines"].values():
            if "reason" in engine:
                lines.append(f"- {engine['title']} is missing: {engine['reason']}")
    return "\n".join(lines).rstrip() + "\n"


def write(result: dict[str, Any], json_text: str, folder: Path) -> None:
    """The page and its figures."""
    (folder / "grammars-benchmark.json").write_text(json_text)
    (folder / "grammars-benchmark.md").write_text(page(result))
