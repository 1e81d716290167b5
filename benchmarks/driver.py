"""Runs the variants one at a time, each in a process of its own environment, and gathers their figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import assets
from .peers.protocol import Job
from .peers_table import Variant
from .workloads import Workload

POLL_SECONDS = 0.5
REPEAT_BUDGET_SECONDS = 30.0  # no further repeat of a workload is begun after this
STEP_TIMEOUT_SECONDS = 900.0  # loading, warming up, or one workload with its repeats


def run_variant(
    variant: Variant, workloads: list[Workload], warm_up: list[dict[str, Any]], threads: int, logs: Path
) -> dict[str, Any]:
    """Measure one variant; whatever goes wrong becomes a reason in the result, never an exception or a gap."""
    outcome: dict[str, Any] = {"title": variant.title, "ours": variant.ours, "status": "ok", "workloads": {}}
    started = time.perf_counter()
    try:
        python = assets.python_of(variant.environment, logs)
        paths = {name: str(assets.model_path(model, logs)) for name, model in variant.models.items()}
        for name, model in variant.optional.items():
            try:
                paths[name] = str(assets.model_path(model, logs))
            except assets.UnavailableError as error:
                outcome.setdefault("notes", []).append(str(error))
        outcome["setup_seconds"] = time.perf_counter() - started
        started = time.perf_counter()
        chosen = [w for w in workloads if variant.workloads is None or w.name in variant.workloads]
        command = [str(python), str(assets.HERE / "peers" / variant.script)]
        while chosen:
            job = Job(
                peer=variant.name,
                threads=threads,
                options=variant.options,
                paths=paths,
                warm_up=warm_up,
                workloads=[workload.to_json() for workload in chosen],
                repeats=variant.repeats or 1000,
                repeat_budget_seconds=REPEAT_BUDGET_SECONDS,
            )
            partial = run_process(command, job, variant, logs)
            for key in ("settings", "versions", "load_seconds"):
                outcome.setdefault(key, partial.get(key))
            outcome["workloads"].update(partial["workloads"])
            chosen = [w for w in chosen if w.name not in partial["workloads"]]
    except assets.UnavailableError as error:
        outcome.update(status="unavailable", reason=str(error))
    outcome["seconds"] = time.perf_counter() - started
    return outcome


def run_process(command: list[str], job: Job, variant: Variant, logs: Path) -> dict[str, Any]:
    """Run one job to its end; a workload that crashes or hangs is marked, and the caller goes on with the rest.

    Raises UnavailableError when the engine did not even load and warm up.
    """
    job_path, result_path = logs / f"{variant.name}.job.json", logs / f"{variant.name}.result.json"
    log_path = logs / f"{variant.name}.log"
    job.save(job_path)
    result_path.unlink(missing_ok=True)
    environ = {**assets.clean_environ(), **thread_environ(job.threads)}
    if variant.environment is None and "PYTHONPATH" in os.environ:
        environ["PYTHONPATH"] = os.environ["PYTHONPATH"]
    with log_path.open("a") as log:
        process = subprocess.Popen(
            [*command, str(job_path), str(result_path)], stdout=log, stderr=log, env=environ, start_new_session=True
        )
        try:
            reason = wait(process, result_path)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    result: dict[str, Any] = json.loads(result_path.read_text()) if result_path.exists() else {"workloads": {}}
    running = result.get("running", "load")
    if running in ("load", "warm-up"):
        raise assets.UnavailableError(f"{reason or 'it ended'} during {running} ({last_line(log_path)})")
    if running is not None:
        result["workloads"][running] = {"status": "failed", "reason": reason or "the process ended early"}
    return result


def thread_environ(threads: int) -> dict[str, str]:
    """What limits the thread pools of every engine alike, and keeps them off the network."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return {name: str(threads) for name in names} | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def wait(process: subprocess.Popen[bytes], result_path: Path) -> str | None:
    """Wait while the result file keeps moving; the reason when it died or stood still, None when it ended well."""
    running: Any = "load"
    since = time.monotonic()
    while (code := process.poll()) is None:
        time.sleep(POLL_SECONDS)
        now = read_running(result_path, running)
        if now != running:
            running, since = now, time.monotonic()
        if time.monotonic() - since > STEP_TIMEOUT_SECONDS:
            return f"no end after {STEP_TIMEOUT_SECONDS:.0f} s"
    if code < 0:
        return f"the process was killed by {signal.Signals(-code).name}"
    return f"the process ended with code {code}" if code else None


def read_running(result_path: Path, before: Any) -> Any:
    try:
        return json.loads(result_path.read_text())["running"]
    except (OSError, ValueError, KeyError):
        return before


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def run_all(
    variants: list[Variant],
    workloads: list[Workload],
    warm_up: list[dict[str, Any]],
    threads: int,
    logs: Path,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Run the variants in order; `keep` is called with all the outcomes after each, so that nothing is lost."""
    outcomes: dict[str, Any] = {}
    for number, variant in enumerate(variants, 1):
        print(f"[bench] {number}/{len(variants)} {variant.title}", flush=True)
        (logs / f"{variant.name}.log").unlink(missing_ok=True)
        outcome = run_variant(variant, workloads, warm_up, threads, logs)
        outcomes[variant.name] = outcome
        for name, figures in outcome["workloads"].items():
            unit = next(w.unit for w in workloads if w.name == name)
            shown = f"{figures['value']:.4g} {unit}" if figures["status"] == "ok" else figures["reason"]
            print(f"[bench]     {name:6} {shown}", flush=True)
        if outcome["status"] != "ok":
            print(f"[bench]     not available: {outcome['reason']}", flush=True)
        print(f"[bench]     took {outcome['seconds']:.0f} s", flush=True)
        keep(outcomes)
    return outcomes
