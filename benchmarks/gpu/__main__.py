"""The command line: `python -m ramify.benchmarks.gpu` measures everything on one GPU and writes the page."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
import tempfile
import traceback
from pathlib import Path
from time import perf_counter

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAME = "benchmarks-h200"
SECTIONS = {  # name: module, in the order in which they run; the ceilings always run, and first
    "ceilings": "ceilings",
    "prefill": "prefill",
    "decode": "decode",
    "cascade": "cascade",
    "kernels": "kernels",
    "engine": "engine",
    "sampling": "sampling",
    "prefix": "prefix",
    "programs": "programs",
    "narrow": "narrow",
}
EPILOG = """\
Needs torch, triton, numpy, tokenizers and safetensors, and what transformers brings along; nothing is installed and
nothing is fetched: the model has the shape of Llama 3 8B and random weights, made on the device. With the checkout
anywhere, a link named ramify to it on PYTHONPATH is enough.

  python -m ramify.benchmarks.gpu --publish              everything, written to docs/benchmarks-h200.{md,json}
  python -m ramify.benchmarks.gpu --only decode,cascade  some of it, printed
  python -m ramify.benchmarks.gpu --rehearse             every path without a GPU, in Triton's interpreter; no figures
  python -m ramify.benchmarks.gpu --tests                the test-suite on the GPU first (needs pytest and hypothesis)
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ramify.benchmarks.gpu",
        description="Measure the kernels and the engine on one GPU.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="A,B", help=f"only these of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, shorter decodes")
    parser.add_argument("--publish", action="store_true", help=f"write docs/{NAME}.md and .json")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the page and the data there as well")
    parser.add_argument("--rehearse", action="store_true", help="run every path without a GPU; measures nothing")
    parser.add_argument("--tests", action="store_true", help="run the test-suite on the GPU first")
    parser.add_argument("--commit", help="the commit to name where the checkout has no .git")
    return parser.parse_args(arguments)


def chosen(asked: str | None) -> list[str]:
    names = list(SECTIONS) if asked is None else [name.strip() for name in asked.split(",")]
    for name in names:
        if name not in SECTIONS:
            sys.exit(f"ramify.benchmarks.gpu: there is no section {name!r}; choose from {', '.join(SECTIONS)}")
    return ["ceilings", *(name for name in SECTIONS if name in names and name != "ceilings")]


def command(args: argparse.Namespace) -> str:
    """What to call for the same page, without where it was put."""
    words = ["python", "-m", "ramify.benchmarks.gpu", *(["--only", args.only] if args.only else [])]
    words += [f"--{name}" for name in ("quick", "tests", "rehearse", "publish") if getattr(args, name)]
    return shlex.join(words)


def main(arguments: list[str] | None = None) -> int:
    """Returns how many sections failed."""
    args = parse(arguments)
    names = chosen(args.only)
    if args.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

    from . import stand_ins  # what the interpreter has to be told comes first: everything else is imported from here on

    missing = stand_ins.install()

    import torch

    from . import page
    from .findings import Section, first_line
    from .scene import Scene

    if not args.rehearse and not torch.cuda.is_available():
        sys.exit("ramify.benchmarks.gpu: torch finds no GPU here; --rehearse runs every path without one")
    device = torch.device("cpu" if args.rehearse else "cuda")
    about = page.facts(device, command(args))
    about["commit"] = about["commit"] or args.commit or "unknown"
    scene = Scene(device, args.rehearse, args.quick)
    torch.manual_seed(0)
    started = perf_counter()

    def say(text: str) -> None:
        print(f"[{perf_counter() - started:6.1f} s] {text}", flush=True)

    say(f"{about['gpu']}, torch {about['torch']}, triton {about['triton']}")
    if missing:
        say(f"not installed, and not needed here: {', '.join(missing)}")
    sections: dict[str, tuple[str, Section]] = {}
    if args.tests:
        from . import suite

        sections["tests"] = (suite.TITLE, found := Section(rehearsal=args.rehearse))
        suite.measure(scene, found)
        say(found.notes[-1])
    for name in names:
        section = Section(rehearsal=args.rehearse)
        title = name
        try:
            module = importlib.import_module(f"{__package__}.{SECTIONS[name]}")
            title = module.TITLE
            module.measure(scene, section)
        except Exception as error:
            section.error = first_line(error)
            traceback.print_exc()
            scene.release()
        sections[name] = (title, section)
        for one in section.findings:
            say(f"{name}: {one.claim}: {one.measured} (bar {one.bar})")
        say(f"{name}: {section.error or 'done'}")
        if not args.rehearse:
            torch.cuda.empty_cache()
    scene.release()
    about["seconds"] = f"{perf_counter() - started:.0f}"
    folders = [folder for folder in (DOCS if args.publish else None, args.out) if folder is not None]
    if args.rehearse:
        folders = [args.out or Path(tempfile.mkdtemp(prefix="ramify-rehearsal-"))]
    text = page.markdown(about, sections, args.rehearse)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{NAME}.md").write_text(text)
        (folder / f"{NAME}.json").write_text(page.as_json(about, sections))
        say(f"written to {folder / NAME}.md")
    if not folders:
        print(text)
    return sum(section.error is not None for _, section in sections.values())


if __name__ == "__main__":
    sys.exit(min(1, main()))
