"""Runs one engine's worker over the tasks, and starts it again behind whatever hangs or kills it."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import assets
from ..driver import last_line, thread_environ
from ..peers_table import ENVIRONMENTS, Environment

HERE = Path(__file__).resolve().parent
PATIENCE = 30.0  # seconds for one grammar with everything that is done with it
LOADING = 300.0
ENVIRONMENT = Environment(
    "grammars",
    (
        "numpy",
        "tokenizers",
        "transformers>=5,<6",
        "jsonschema-rs",
        "xgrammar==0.2.8",
        "llguidance==1.9.1",
        "outlines-core==0.2.14",
        "lm-format-enforcer==0.11.3",
    ),
    torch="torch==2.13.0",
)
ENVIRONMENTS.setdefault(ENVIRONMENT.name, ENVIRONMENT)


@dataclass(frozen=True)
class Contestant:
    """An engine in the report. `context_free`: the language it reads such grammars in, if it reads any.

    `every`: of the schemas it is given only every so many, since it takes minutes for some. `schemas_alone`: it
    is given nothing else.
    """

    name: str
    title: str
    context_free: str | None
    ours: bool = False
    every: int = 1
    schemas_alone: bool = False


CONTESTANTS = {
    one.name: one
    for one in (
        Contestant("ramify", "ramify", "gbnf", ours=True),
        Contestant("ramify_any_order", "ramify, any order", None, ours=True, schemas_alone=True),
        Contestant("llguidance", "llguidance 1.9.1", "lark"),
        Contestant("xgrammar", "xgrammar 0.2.8", "gbnf"),
        Contestant("llguidance_fixed", "llguidance 1.9.1, fixed separators", None, schemas_alone=True),
        Contestant("xgrammar_loose", "xgrammar 0.2.8, strict_mode off", None, every=4),
        Contestant("outlines", "outlines-core 0.2.14", None, every=4),
        Contestant("lmfe", "lm-format-enforcer 0.11.3", None, every=4),
    )
}


def run(contestant: Contestant, tokenizer: Path, tasks: list[dict[str, Any]], logs: Path) -> dict[str, Any]:
    """All results of one engine, in the order of the tasks; what hung or died says so in its place."""
    python = assets.python_of(None if contestant.ours else ENVIRONMENT.name, logs)
    task_file, result_file = logs / f"{contestant.name}.tasks.jsonl", logs / f"{contestant.name}.results.jsonl"
    task_file.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    results: dict[int, dict[str, Any]] = {}
    ready: float | None = None
    begin = 0
    while begin < len(tasks):
        result_file.unlink(missing_ok=True)
        arguments = [contestant.name, str(tokenizer), str(task_file), str(result_file), str(begin)]
        reason = watched(
            [str(python), str(HERE / "worker.py"), *arguments], result_file, logs / f"{contestant.name}.log"
        )
        number = begin - 1
        for line in result_file.read_text().splitlines() if result_file.exists() else []:
            try:
                record = json.loads(line)
            except ValueError:
                break
            if "begun" in record:
                number = record["begun"]
            elif "id" in record:
                results[number] = record
            else:
                ready = record["ready_ms"] if ready is None else ready
        if number not in results:
            if number < begin:  # it did not even load
                raise assets.UnavailableError(f"{reason} ({last_line(logs / f'{contestant.name}.log')})")
            results[number] = {
                "id": tasks[number]["id"],
                "kind": tasks[number]["kind"],
                "compiled": False,
                "hung": reason,
            }
        begin = number + 1
    return {"title": contestant.title, "ready_ms": ready, "results": [results[number] for number in range(len(tasks))]}


def watched(command: list[str], result_file: Path, log: Path) -> str:
    """Why the process ended: it was done, it died, or it was ended because nothing moved for too long."""
    environ = {**assets.clean_environ(), **thread_environ(1), "PYTHONSAFEPATH": ""}
    with log.open("a") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environ, start_new_session=True)
        size, since = -1, time.monotonic()
        while (code := process.poll()) is None:
            time.sleep(0.05)
            now = result_file.stat().st_size if result_file.exists() else 0
            if now != size:
                size, since = now, time.monotonic()
            if time.monotonic() - since > (PATIENCE if size > 0 else LOADING):
                process.kill()
                process.wait()
                return f"no end after {PATIENCE:.0f} s"
    return "done" if code == 0 else f"it ended with code {code}"
