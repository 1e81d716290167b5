"""What the language itself costs a gen, ours and SGLang's old frontend, in one run on one machine.

    python -m ramify.benchmarks.programs.overhead [--quick]

Both sides run the same programs (overhead_side.py) on a backend that answers at once, turn by turn in processes of
their own. SGLang's frontend gets an environment of its own under .venvs/sglang, made the first time; no torch in it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..assets import CHECKOUT, ENVIRONMENTS_HOME, UnavailableError, clean_environ, run_logged
from ..machine import describe

SGLANG = "sglang==0.5.9"
BESIDE = ("requests", "aiohttp", "tqdm", "numpy", "ipython", "pydantic", "pybase64")
SIZES = [("chain", 2000), ("agent", 2000), ("branches", 500), ("batch", 2000), ("branches", 10_000)]
QUICK = [("chain", 300), ("agent", 300), ("branches", 100), ("batch", 300), ("branches", 1000)]
RESULTS = CHECKOUT / "benchmarks" / "results"


def sglang_python() -> Path:
    """The interpreter of SGLang's frontend, its environment made now if it is not there."""
    folder = ENVIRONMENTS_HOME / "sglang"
    python, stamp = folder / "bin" / "python", folder / ".bench-ready"
    wanted = " ".join((SGLANG, *BESIDE))
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"[bench] setting up .venvs/sglang (once): {wanted}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        RESULTS.joinpath("logs").mkdir(parents=True, exist_ok=True)
        log = RESULTS / "logs" / "install-sglang.log"
        log.unlink(missing_ok=True)
        run_logged([sys.executable, "-m", "venv", folder], log, "making .venvs/sglang")
        pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run_logged([*pip, "--no-deps", SGLANG], log, f"installing {SGLANG}")
        run_logged([*pip, *BESIDE], log, "installing what SGLang's frontend imports")
        stamp.write_text(wanted)
    return python


def run_side(side: str, python: Path, sizes: list[tuple[str, int]], repeats: int) -> dict[str, Any]:
    """One side in a process of its own."""
    script = Path(__file__).with_name("overhead_side.py")
    command = [str(python), str(script), side, json.dumps(sizes), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environ(), timeout=1800)
    if done.returncode:
        raise UnavailableError(f"{side} failed: {done.stderr.strip().splitlines()[-1][:200] if done.stderr else '?'}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The smaller times of two measurements of the same thing."""
    if "failed" in one or "failed" in other:
        return one
    smaller = {name: min(one[name], other[name]) for name in ("best_us", "median_us", "processor_us")}
    return {**one, **smaller, "threads": max(one["threads"], other["threads"])}


def table(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Both sides, line by line."""
    lines = [
        f"microseconds a gen, wall (processor)   ramify {ours['version']:>8}   sglang {theirs['version']:>8}   ratio   "
        "threads"
    ]
    for name, mine in ours.items():
        if not isinstance(mine, dict):
            continue
        other = theirs.get(name, {"failed": "not run"})
        left = _cell(mine)
        right = _cell(other)
        both = "processor_us" in mine and "processor_us" in other
        ratio = f"{other['processor_us'] / mine['processor_us']:.1f}x" if both else ""  # it does not see other loads
        lines.append(
            f"{name:<37}  {left:>15}   {right:>15}   {ratio:>5}   {mine.get('threads')} / {other.get('threads')}"
        )
    lines.append(f"{'peak memory of the process, MB':<37}  {ours['peak_mb']:>15}   {theirs['peak_mb']:>15}")
    return "\n".join(lines)


def _cell(found: dict[str, Any]) -> str:
    return found["failed"][:15] if "failed" in found else f"{found['best_us']:.0f} ({found['processor_us']:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: a minute instead of five")
    parser.add_argument("--rounds", type=int, default=2, help="how often the two sides take turns")
    options = parser.parse_args()
    sizes = QUICK if options.quick else SIZES
    machine = describe()
    pythons = {"ramify": Path(sys.executable), "sglang": sglang_python()}
    best: dict[str, dict[str, Any]] = {}
    for _ in range(options.rounds):
        for side, python in pythons.items():
            found = run_side(side, python, sizes, 3 if options.quick else 5)
            known = best.get(side, found)
            best[side] = {
                name: better(value, known[name]) if isinstance(value, dict) else max(value, known[name])
                for name, value in found.items()
            }
    print(f"{machine['processor']}, {machine['cores']} cores, load before {machine['load_before']:.1f}")
    print(table(best["ramify"], best["sglang"]))
    RESULTS.mkdir(parents=True, exist_ok=True)
    target = RESULTS / "overhead.json"
    target.write_text(json.dumps({"machine": machine, **best}, indent=1) + "\n")
    print(f"written to {target.relative_to(CHECKOUT)}")


if __name__ == "__main__":
    main()
