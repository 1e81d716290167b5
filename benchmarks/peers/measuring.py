"""Runs a job on an adapter: loads, warms up, times every workload, and writes the result after each.

Only the standard library is imported here: each peer has an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol import Adapter, Completion, Job, NotSupportedError, Request, UnequalWorkError


def resolve(requests: list[dict[str, Any]]) -> list[list[int]]:
    """Indices of the requests that can go together: a request waits for its parent's output, so depth by depth."""
    depth: list[int] = []
    for request in requests:
        parent = request.get("parent")
        depth.append(0 if parent is None else depth[parent] + 1)
    return [[i for i, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]


def run_requests(adapter: Adapter, requests: list[dict[str, Any]]) -> tuple[float, list[Request], list[Completion]]:
    """Time one list of requests from the first submit to the last result.

    A request with a parent continues the parent's prompt and output, token for token.
    """
    levels = resolve(requests)
    sent: dict[int, Request] = {}
    done: dict[int, Completion] = {}
    started = time.perf_counter()
    for level in levels:
        for index in level:
            item = requests[index]
            parent = item.get("parent")
            before = [] if parent is None else sent[parent].tokens + done[parent].tokens
            sent[index] = Request(before + item["tokens"], item["max_tokens"], item.get("schema"), item.get("options"))
        batch = [sent[index] for index in level]
        completions = adapter.select(batch) if batch[0].options else adapter.generate(batch)
        done.update(zip(level, completions, strict=True))
    seconds = time.perf_counter() - started
    order = range(len(requests))
    return seconds, [sent[i] for i in order], [done[i] for i in order]


def check_work(requests: list[Request], completions: list[Completion]) -> None:
    """Raise UnequalWorkError unless every plain request got exactly the tokens it asked for."""
    for index, (request, completion) in enumerate(zip(requests, completions, strict=True)):
        if request.options or request.schema:
            continue
        if len(completion.tokens) != request.max_tokens:
            raise UnequalWorkError(f"request {index} got {len(completion.tokens)} tokens, not {request.max_tokens}")


def is_answer(text: str, schema: dict[str, Any]) -> bool:
    """Whether a text is a JSON object with all the fields of a flat schema (the report counts them)."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and set(schema["required"]) <= set(value)


def peak_memory(processes: list[int], reset: bool = False) -> int | None:
    """Peak resident bytes of these processes since the last reset; None where /proc does not tell."""
    total = 0
    for process in processes:
        folder = Path("/proc") / str(process)
        try:
            if reset:
                (folder / "clear_refs").write_text("5")
            line = next(x for x in (folder / "status").read_text().splitlines() if x.startswith("VmHWM:"))
        except (OSError, StopIteration):
            return None
        total += int(line.split()[1]) * 1024
    return total


def measure(adapter: Adapter, workload: dict[str, Any], repeats: int, budget_seconds: float) -> dict[str, Any]:
    """Run a workload's repeats, each on its own texts, and return its figures.

    After the first repeat no other is begun once `budget_seconds` have gone.
    """
    seconds: list[float] = []
    baselines: list[float] = []
    values: list[float] = []
    counters: dict[str, float] = {}
    prompt_tokens = output_tokens = valid = 0
    cached: int | None = 0
    memory = 0
    adapter.begin(workload["name"])
    began = time.perf_counter()
    for run in workload["runs"][:repeats]:
        if seconds and time.perf_counter() - began > budget_seconds:
            break
        adapter.reset()
        peak_memory(adapter.processes(), reset=True)
        baseline = 0.0
        if run.get("baseline"):
            baseline, asked, got = run_requests(adapter, run["baseline"])
            check_work(asked, got)
        before = adapter.counters()
        elapsed, asked, got = run_requests(adapter, run["requests"])
        check_work(asked, got)
        counters = {name: value - before.get(name, 0) for name, value in adapter.counters().items()}
        seconds.append(elapsed)
        baselines.append(baseline)
        counted = run.get("counted_tokens")
        values.append(counted / max(elapsed - baseline, 1e-9) if counted else elapsed)
        prompt_tokens = sum(len(request.tokens) for request in asked)
        output_tokens = sum(len(completion.tokens) for completion in got)
        known = [completion.cached_tokens for completion in got]
        cached = None if None in known else sum(c for c in known if c is not None)
        memory = max(memory, peak_memory(adapter.processes()) or 0)
        valid = sum(is_answer(c.text, r.schema) for r, c in zip(asked, got, strict=True) if r.schema)
    return {
        "status": "ok",
        "value": statistics.median(values),
        "values": values,
        "seconds": seconds,
        "baseline_seconds": baselines,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "cached_tokens": cached,
        "valid_answers": valid,
        "counters": counters,
        "peak_memory_bytes": memory or None,
    }


def pin(threads: int) -> None:
    """Keep this process on as many processors as it may use threads, the same for every engine."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def run_job(job: Job, result_path: Path, make: Callable[[Job], Adapter]) -> None:
    """Load the engine, warm it up on other text, measure every workload; the result is rewritten after each."""
    result: dict[str, Any] = {"peer": job.peer, "settings": {}, "versions": {}, "workloads": {}, "running": "load"}

    def save() -> None:
        partial = result_path.with_suffix(".partial")
        partial.write_text(json.dumps(result))
        partial.replace(result_path)

    save()
    pin(job.threads)
    started = time.perf_counter()
    adapter = make(job)
    result.update(
        load_seconds=time.perf_counter() - started,
        settings=adapter.settings,
        versions=adapter.versions,
        running="warm-up",
    )
    save()
    run_requests(adapter, job.warm_up)
    for workload in job.workloads:
        name = workload["name"]
        result["running"] = name
        save()
        print(f"{job.peer}: {name} ...", flush=True)
        try:
            figures = measure(adapter, workload, job.repeats, job.repeat_budget_seconds)
            print(f"{job.peer}: {name} = {figures['value']:.4g} {workload['unit']}", flush=True)
        except NotSupportedError as error:
            figures = {"status": "not supported", "reason": str(error)}
        except Exception as error:
            traceback.print_exc()
            figures = {"status": "failed", "reason": f"{type(error).__name__}: {str(error).strip()[:300]}"}
        result["workloads"][name] = figures
    result["running"] = None
    save()
    adapter.close()


def main(make: Callable[[Job], Adapter]) -> None:
    """The body of every adapter script: `python <peer>_engine.py JOB.json RESULT.json`."""
    parser = argparse.ArgumentParser(description="Run one benchmark job; started by `python -m benchmarks`.")
    parser.add_argument("job", type=Path)
    parser.add_argument("result", type=Path)
    arguments = parser.parse_args()
    run_job(Job.load(arguments.job), arguments.result, make)
