"""Times the launches of each kernel on the GPU at hand and keeps the fastest in tuning.json, under this device's name.

    python -m ramify.kernels.triton.tune                     all, printed
    python -m ramify.kernels.triton.tune --write             and written to the table
    python -m ramify.kernels.triton.tune --only products     extend_attention, decode_attention, products
    python -m ramify.kernels.triton.tune --rehearse          every path in Triton's interpreter; measures nothing

A launch that spills, does not fit, or misses the tensor cores is not kept, however fast it was here: what it compiles
to is read off the machine code.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tune_attention import Candidate, Sizes
    from .variants import Variant

KERNELS = ("extend_attention", "decode_attention", "products")

Clock = Callable[[Callable[[], object]], float]  # seconds of one run
Check = Callable[["Variant"], str | None]  # what is wrong with what it compiles to
Say = Callable[[str], None]


def fastest(candidates: Iterable[Candidate], clock: Clock, check: Check, say: Say) -> tuple[Candidate, float] | None:
    """The fastest candidate that runs and compiles as it should, and its seconds; None where there is none."""
    timed: list[tuple[float, int, Candidate]] = []
    for number, candidate in enumerate(candidates):
        try:
            timed.append((clock(candidate.run), number, candidate))
        except Exception as refusal:  # more shared memory than there is, a tile that the compiler will not have
            say(f"    {dict(candidate.launch)}: {type(refusal).__name__}: {str(refusal).splitlines()[0][:100]}")
    for seconds, _, candidate in sorted(timed, key=lambda one: one[:2]):
        problems = [problem for variant in candidate.variants if (problem := check(variant)) is not None]
        if not problems:
            return candidate, seconds
        say(f"    {dict(candidate.launch)}: {problems[0]}")
    return None


def tune_attention(
    kernel: str, heads: Iterable[int], device: Any, sizes: Sizes, clock: Clock, check: Check, say: Say
) -> dict[str, dict[str, int]]:
    """{shape: launch} for each head size."""
    from .tune_attention import decode_candidates, extend_candidates, shapes

    make = extend_candidates if kernel == "extend_attention" else decode_candidates
    found = {}
    for shape in shapes(kernel, heads):
        best = fastest(make(shape, device, sizes), clock, check, say)
        if best is not None:
            found[shape] = dict(best[0].launch)
            say(f"  {kernel} {shape}: {best[1] * 1e6:.1f} us with {found[shape]}")
    return found


def tune_products(
    matrices: Iterable[tuple[int, int]], rows: tuple[int, ...], device: Any, clock: Clock, check: Check, say: Say
) -> list[dict[str, Any]]:
    """Entries of the products' table: the fastest kernel and launch by format, matrix and rows."""
    from .tune_products import FORMATS, product_candidates

    found = []
    for format in FORMATS:
        for n, k in matrices:
            for count, candidates in product_candidates(format, n, k, device, rows):
                best = fastest(candidates, clock, check, say)
                if best is not None:
                    found.append({"format": format, "n": n, "k": k, "rows": count, **best[0].launch})
                    say(f"  {format} {n} x {k}, {count} rows: {best[1] * 1e6:.1f} us with {dict(best[0].launch)}")
    return found


def merged(
    table: Mapping[str, Any], device: str, attention: Mapping[str, Mapping[str, Any]], products: list[dict[str, Any]]
) -> dict[str, Any]:
    """The table with this device's rows in it; other devices' stay, and so does what was not tuned now."""
    result: dict[str, Any] = json.loads(json.dumps(table))
    for kernel, shapes in attention.items():
        result[kernel] |= {f"{device} / {shape}": dict(launch) for shape, launch in shapes.items()}
    if products:

        def key(entry: Mapping[str, Any]) -> tuple[Any, ...]:
            return entry["format"], entry["n"], entry["k"], entry["rows"]

        kept = {key(entry): entry for entry in result.setdefault("products", {}).get(device, [])}
        kept |= {key(entry): entry for entry in products}
        result["products"][device] = [kept[at] for at in sorted(kept)]
    return result


def written(table: Mapping[str, Any]) -> str:
    """The table as it lies in the repository: a launch on each line."""
    parts = []
    for kernel, rows in table.items():
        if kernel == "products":
            devices = [
                f"    {json.dumps(device)}: [\n" + ",\n".join(f"      {json.dumps(row)}" for row in entries) + "\n    ]"
                for device, entries in rows.items()
            ]
            parts.append(f"  {json.dumps(kernel)}: {{\n" + ",\n".join(devices) + "\n  }")
        else:
            lines = [f"    {json.dumps(key)}: {json.dumps(launch)}" for key, launch in rows.items()]
            parts.append(f"  {json.dumps(kernel)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ramify.kernels.triton.tune", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", metavar="A,B", default=",".join(KERNELS), help=f"of {', '.join(KERNELS)}")
    parser.add_argument("--heads", default="128", help="head sizes of attention (default 128), as 64,128,256")
    parser.add_argument("--write", action="store_true", help="put what was found into tuning.json")
    parser.add_argument("--out", type=Path, help="put the whole table there instead")
    parser.add_argument("--rehearse", action="store_true", help="run every path without a GPU")
    args = parser.parse_args(arguments)
    wanted = [name.strip() for name in args.only.split(",")]
    if unknown := sorted(set(wanted) - set(KERNELS)):
        parser.error(f"there is no {unknown[0]!r}; choose from {', '.join(KERNELS)}")
    if args.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

    import torch

    from .tune_attention import Sizes
    from .tune_products import MATRICES, ROWS
    from .tuning import TABLE, device_name, table

    if not args.rehearse and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --rehearse runs every path without one")
    device = torch.device("cpu" if args.rehearse else "cuda")
    name = device_name(device)
    heads = [int(head) for head in args.heads.split(",")]
    matrices: tuple[tuple[int, int], ...] = MATRICES
    rows: tuple[int, ...] = ROWS
    clock, check = _device_clock(), _compiled_right(name)
    if args.rehearse:
        heads, matrices, rows = heads[:1], ((64, 64),), (1, 16)
        sizes = Sizes(prompt=16, batch=2, context=96, heads=2, kv_heads=1, programs=2)
        clock, check = _host_clock, lambda variant: None
    else:
        processors = torch.cuda.get_device_properties(device).multi_processor_count
        sizes = Sizes(programs=2 * processors)

    def say(text: str) -> None:
        print(text, flush=True)  # noqa: T201

    say("a rehearsal: the times below mean nothing" if args.rehearse else f"{torch.cuda.get_device_name()}, {name}")
    attention = {
        kernel: tune_attention(kernel, heads, device, sizes, clock, check, say)
        for kernel in KERNELS[:2]
        if kernel in wanted
    }
    products = tune_products(matrices, rows, device, clock, check, say) if "products" in wanted else []
    text = written(merged(table(), name, attention, products))
    target = args.out or (TABLE if args.write and not args.rehearse else None)
    if target is not None:
        target.write_text(text, encoding="utf-8")
        say(f"written to {target}")
    return 0


def _host_clock(run: Callable[[], object]) -> float:
    started = perf_counter()
    run()
    return perf_counter() - started


def _device_clock() -> Clock:
    """Triton's own: by events, the device's cache emptied before each run."""

    def clock(run: Callable[[], object]) -> float:
        from triton.testing import do_bench

        samples: list[float] = do_bench(run, warmup=5, rep=25, return_mode="all")
        return statistics.median(samples) / 1e3

    return clock


def _compiled_right(device: str) -> Check:
    """Whether a variant compiles as it should for this device's generation."""

    generation = int(device.removeprefix("sm_")) if device != "cpu" else 0

    def check(variant: Variant) -> str | None:
        from .ahead import compiled, wrong

        target = max((known for known in variant.targets if known <= generation), default=generation)
        return wrong(variant, compiled(variant, target))

    return check


if __name__ == "__main__":
    sys.exit(main())
