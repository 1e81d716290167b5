"""`python -m ramify.benchmarks.grammars --data DIR`: grammars against their peers over a directory of grammars."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import assets, machine
from . import context_free, report
from .figures import summary
from .run import CONTESTANTS, run

OURS = [name for name, one in CONTESTANTS.items() if one.ours]
EPILOG = """\
DIR holds files *.jsonl or *.jsonl.gz: one grammar a line, {"id", "split", "kind": "json_schema" or "regex", "grammar",
"valid": [...], "invalid": [...]}; instances of schemas are JSON values, of regexes strings. The context-free grammars
are our own. The peers' environment is made once, with plain pip, under .venvs/grammars.
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.grammars", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the grammars; see below")
    parser.add_argument("--peers", action="store_true", help="the peers too, not ramify alone")
    parser.add_argument("--engines", metavar="A,B", help=f"only these of {', '.join(CONTESTANTS)}")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer.json (default: the embedded model's)")
    parser.add_argument("--vocabulary", type=Path, action="append", default=[], metavar="FILE", help="more of them")
    parser.add_argument("--limit", type=int, help="only so many of each kind, evenly spread")
    parser.add_argument("--walks", type=int, default=3, help="random walks for each schema (default 3)")
    parser.add_argument("--publish", action="store_true", help="write docs/grammars-benchmark.{md,json} too")
    return parser.parse_args(arguments)


def read(folder: Path, limit: int | None, walks: int) -> list[dict[str, Any]]:
    """The tasks of a directory."""
    found: dict[str, list[dict[str, Any]]] = {"json_schema": [], "regex": []}
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for line in data.splitlines():
            task = json.loads(line)
            if task["kind"] == "json_schema":
                task |= {"walk_count": walks, "jump": True}
            found[task["kind"]].append(task)
    if not any(found.values()):
        sys.exit(f"benchmarks.grammars: no grammars in {folder} (*.jsonl, *.jsonl.gz)")
    step = {kind: max(1, len(tasks) // limit) if limit else 1 for kind, tasks in found.items()}
    return [task for kind, tasks in found.items() for task in tasks[:: step[kind]][: limit or None]]


def measure(tokenizer: Path, tasks: list[dict[str, Any]], engines: list[str], logs: Path) -> Iterator[dict[str, Any]]:
    """All engines over one tokenizer: what is known after each of them."""
    outcomes: dict[str, Any] = {}
    vocabulary = len(json.loads(tokenizer.read_text())["model"]["vocab"])
    counts = {kind: sum(task["kind"] == kind for task in tasks) for kind in ("json_schema", "regex")}
    counts["context-free"] = len(context_free.SAMPLES)
    found = {"tokenizer": tokenizer.name, "vocabulary": vocabulary, "counts": counts, "engines": outcomes}
    for name in engines:
        contestant = CONTESTANTS[name]
        begin = time.perf_counter()
        schemas = [task for task in tasks if task["kind"] == "json_schema"][:: contestant.every]
        others = [task for task in tasks if task["kind"] != "json_schema" and not contestant.schemas_alone]
        own = [*schemas, *others, *(context_free.tasks(contestant.context_free) if contestant.context_free else [])]
        print(f"[bench] {contestant.title}", flush=True)
        try:
            outcome = run(contestant, tokenizer, own, logs)
        except assets.UnavailableError as error:
            outcomes[name] = {"title": contestant.title, "reason": str(error)}
            print(f"[bench]     {error}", flush=True)
            yield found
            continue
        results = outcome.pop("results")
        kinds = {"json_schema": "json_schema", "regex": "regex", "gbnf": "context-free", "lark": "context-free"}
        outcome["kinds"] = {
            kind: summary([result for result in results if kinds[result["kind"]] == kind]) for kind in report.KINDS
        }
        outcome["failures"] = [
            {key: result.get(key) for key in ("id", "error", "hung", "valid", "invalid")}
            for result in results
            if result.get("offered", True)
            and not (result["compiled"] and all(result["valid"]) and not any(result["invalid"]))
        ]
        outcomes[name] = outcome
        print(f"[bench]     took {time.perf_counter() - begin:.0f} s", flush=True)
        yield found


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    logs = assets.HERE / "results" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    tasks = read(options.data, options.limit, options.walks)
    engines = options.engines.split(",") if options.engines else list(CONTESTANTS) if options.peers else OURS
    tokenizers = [options.tokenizer or assets.model_path("checkpoint", logs) / "tokenizer.json", *options.vocabulary]
    flags = " --peers" if options.peers else f" --engines {options.engines}" if options.engines else ""
    command = f"python -m ramify.benchmarks.grammars --data DIR{flags}" + " --vocabulary FILE" * len(options.vocabulary)
    result: dict[str, Any] = {"machine": machine.describe(), "command": command, "runs": []}
    kept = assets.HERE / "results" / f"grammars-{time.strftime('%Y%m%d-%H%M%S')}.json"
    for tokenizer in tokenizers:
        done = list(result["runs"])
        for run_so_far in measure(tokenizer, tasks, engines, logs):  # kept as it comes: peers take long
            result["runs"] = [*done, run_so_far]
            text = json.dumps(result, indent=1) + "\n"
            kept.write_text(text)
            if options.publish:
                report.write(result, text, assets.CHECKOUT / "docs")
    print(report.page(result))


if __name__ == "__main__":
    main()
