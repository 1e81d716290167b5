"""One side of the overhead benchmark: the same programs on `ramify` or on `sglang`, with a backend that does nothing.

Only the standard library and the library under test are imported; it prints one JSON object.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def null_backend(side: str) -> tuple[Any, Any]:
    """The library, and a backend of it that answers " ok" at once."""
    if side == "ramify":
        import ramify

        return ramify, ramify.NullBackend()
    import sglang
    from sglang.lang.backend.base_backend import BaseBackend

    class Null(BaseBackend):
        def generate(self, s: Any, sampling_params: Any) -> tuple[str, dict[str, Any]]:
            return " ok", {}

    return sglang, Null()


def programs(sgl: Any, backend: Any) -> dict[str, Callable[[int], int]]:
    """Each does its work for a size and returns how many gens that were."""

    @sgl.function
    def chain(s, count):
        for _ in range(count):
            s += "Some text of a prompt. "
            s += sgl.gen("x", max_tokens=16, stop="\n")

    @sgl.function
    def agent(s, count):
        for _ in range(count):
            s += "Some text of a prompt. " + sgl.gen("x", max_tokens=16, stop="\n")
            s["x"].strip()

    @sgl.function
    def branches(s, count):
        s += "A prefix that all share. "
        forks = s.fork(count)
        forks += lambda i: f"Branch {i}: " + sgl.gen("x", max_tokens=16)
        forks.join()

    @sgl.function
    def row(s, question):
        s += question + sgl.gen("x", max_tokens=16)

    def run(program: Any) -> Callable[[int], int]:
        def once(count: int) -> int:
            program.run(count, backend=backend).sync()
            return count

        return once

    def batch(count: int) -> int:
        row.run_batch([{"question": f"Question {index}?"} for index in range(count)], backend=backend)
        return count

    return {"chain": run(chain), "agent": run(agent), "branches": run(branches), "batch": batch}


def measure(work: Callable[[int], int], size: int, repeats: int) -> dict[str, Any]:
    """The best and the median microseconds a gen, on the clock and of processor time; the most threads seen."""
    work(min(size, 20))
    walls, processors = [], []
    most = [0]
    watching = [True]

    def watch() -> None:
        while watching[0]:
            most[0] = max(most[0], threading.active_count() - 1)
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch, daemon=True)
    for repeat in range(repeats + 1):
        if repeat == repeats:  # threads are counted in a run that is not timed
            watcher.start()
        wall, processor = time.perf_counter(), time.process_time()
        gens = work(size)
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
        if repeat < repeats:
            walls.append(wall / gens * 1e6)
            processors.append(processor / gens * 1e6)
    watching[0] = False
    watcher.join()
    return {
        "size": size,
        "best_us": round(min(walls), 1),
        "median_us": round(sorted(walls)[len(walls) // 2], 1),
        "processor_us": round(min(processors), 1),
        "threads": most[0],
    }


def main() -> None:
    side, sizes, repeats = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    sgl, backend = null_backend(side)
    works = programs(sgl, backend)
    found: dict[str, Any] = {"version": sgl.__version__, "python": sys.version.split()[0]}
    for name, size in sizes:
        try:
            found[f"{name} {size}"] = measure(works[name], size, repeats)
        except Exception as error:
            found[f"{name} {size}"] = {"size": size, "failed": f"{type(error).__name__}: {error}"[:120]}
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
