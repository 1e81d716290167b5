"""SmolLM2 from its GGUF against transformers, in fp32, on real text: the same logits and the same choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch
import transformers
from ramify.kernels.ops import Compute
from ramify.kernels.torch_compute import TorchCompute
from ramify.runtime.weights.checkpoint import Checkpoint, open_checkpoint
from ramify.runtime.weights.config import Rope
from ramify.runtime.weights.locate import ModelFiles

MakeCompute = Callable[[], Compute]
Record = Callable[[str, object], None]
BAR = 1e-5  # relative error of a text's logits, in the Euclidean norm
POSITION_BAR = 3e-5  # of the worst single position: two sound fp32 orders of summation come to 1e-5 now and then


@dataclass(frozen=True)
class Embedded:
    """SmolLM2 as we read it and as transformers reads it, from the same GGUF file."""

    checkpoint: Checkpoint
    oracle: transformers.PreTrainedModel
    tokens: list[int]  # more than 10,000 of real text


@pytest.fixture(scope="module")
def embedded(smollm2_files: ModelFiles) -> Embedded:
    folder, name = str(smollm2_files.path.parent), smollm2_files.path.name
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    text = "\n\n".join(topics[topic] for topic in sorted(topics)[:60])
    return Embedded(open_checkpoint(smollm2_files), oracle, tokenizer(text)["input_ids"])


@dataclass(frozen=True)
class Comparison:
    """Ours against the oracle, over many positions."""

    positions: int
    relative_error: float  # of the worst text
    worst_position: float  # the relative error there
    absolute_error: float  # of the worst logit
    margins_where_they_differ: list[float]  # the oracle's lead of its first choice over its second


def compare(embedded: Embedded, runner: Any, compute: Compute, *, positions: int, length: int = 250) -> Comparison:
    """Pairs of texts of `length` tokens, until `positions` logits have been compared."""
    config = replace(embedded.checkpoint.config, context_length=length)
    running = runner(config, embedded.checkpoint.weights, compute, page_size=16)
    relative, worst, absolute, margins = 0.0, 0.0, 0.0, list[float]()
    for start in range(0, positions, 2 * length):
        texts = [embedded.tokens[at : at + length] for at in (start, start + length)]
        got = running.whole(texts)
        with torch.no_grad():
            expected = embedded.oracle(torch.tensor(texts), use_cache=False).logits.flatten(0, 1)  # [2 length, vocab]
        errors, sizes = (got - expected).view(2, length, -1), expected.view(2, length, -1)
        relative = max(relative, (errors.norm(dim=(1, 2)) / sizes.norm(dim=(1, 2))).max().item())
        worst = max(worst, (errors.norm(dim=2) / sizes.norm(dim=2)).max().item())
        absolute = max(absolute, (got - expected).abs().max().item())
        best = expected.topk(2, dim=-1)
        differs = got.argmax(-1) != best.indices[:, 0]
        margins += (best.values[differs, 0] - best.values[differs, 1]).tolist()
    return Comparison(positions, relative, worst, absolute, margins)


def assert_same_choices(comparison: Comparison, record: Record) -> None:
    """The same argmax everywhere, except where the oracle's lead is within what rounding can turn over."""
    record("comparison", comparison)
    print(comparison)  # noqa: T201 - shown on failure, and with -s
    assert comparison.relative_error <= BAR
    assert comparison.worst_position <= POSITION_BAR
    assert all(margin <= 2 * comparison.absolute_error for margin in comparison.margins_where_they_differ)


def test_equals_transformers(
    embedded: Embedded, runner: Any, exact_compute: MakeCompute, record_property: Record
) -> None:
    assert_same_choices(compare(embedded, runner, exact_compute(), positions=500), record_property)


@pytest.mark.slow
def test_equals_transformers_on_10_000_positions(
    embedded: Embedded, runner: Any, exact_compute: MakeCompute, record_property: Record
) -> None:
    assert_same_choices(compare(embedded, runner, exact_compute(), positions=10_000), record_property)


def test_a_wrong_theta_shows(embedded: Embedded, runner: Any) -> None:
    config = replace(embedded.checkpoint.config, rope=Rope(99_000.0))
    wrong = replace(embedded, checkpoint=replace(embedded.checkpoint, config=config))
    assert compare(wrong, runner, TorchCompute("fp32"), positions=100, length=50).relative_error > 10 * BAR
