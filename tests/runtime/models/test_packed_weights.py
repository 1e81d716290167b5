"""Whole models with a GPU's packed weights, against fp32: what each format costs, and that the kernels pay no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ramify
import torch
import torch.nn.functional as F
import transformers
from ramify.errors import InvalidRequest
from ramify.kernels import compute, twins
from ramify.kernels.ops import Linear, Stored
from ramify.kernels.torch_attention import StepTensors
from ramify.kernels.torch_ops import Memory, TorchOps
from ramify.kernels.triton import weights
from ramify.kernels.triton.compute import TritonCompute
from ramify.kernels.triton.products import MANY, Format, Product, by_rule
from ramify.kernels.triton.weights import Packing, multiply
from ramify.runtime.calibration import whole_text
from ramify.runtime.calibration_text import CALIBRATION_TEXT
from ramify.runtime.models.registry import load
from ramify.runtime.text.tokenizer import load_tokenizer
from ramify.runtime.weights.checkpoint import Checkpoint, open_checkpoint
from ramify.runtime.weights.locate import locate

CPU = torch.device("cpu")
PAGE = 16
TOKENS = 200
TWINS = (
    "flat_matmul", "gemv", "int4_gemv", "int4_matmul", "int4_unpacked", "w8a8_matmul", "quantize_rows",
    "quantize_rows_fp8",
)  # fmt: skip


class PackedOps(TorchOps):
    """torch's operations in fp32, with matrices packed as for a GPU."""

    def __init__(self, memory: Memory, step: StepTensors, packing: Packing) -> None:
        super().__init__(memory, step)
        self._packing = packing

    def linear(self, parts: Sequence[Stored], bias: Sequence[torch.Tensor] | None = None, *, name: str) -> Linear:
        return self._packing.linear(parts, bias, name=name)

    def embedding(self, table: Stored) -> Linear:
        matrix = self._packing.embedding(table)
        return replace(matrix, weight=matrix.weight.float())  # plain tables are bf16, the activations here are not

    def matmul(self, x: torch.Tensor, weight: Linear, residual: torch.Tensor | None = None) -> torch.Tensor:
        product = multiply(x, weight)
        return product if residual is None else residual + product


@dataclass(frozen=True)
class Cost:
    """Of a mode, against fp32."""

    perplexity: float  # relative: 0.01 is one per cent worse
    divergence: float  # mean KL from the reference, nats
    agreed: float  # share of positions with the same first choice


@pytest.fixture(scope="module")
def checkpoint(smollm2_files: Any) -> Checkpoint:
    return open_checkpoint(smollm2_files)


@pytest.fixture(scope="module")
def text(checkpoint: Checkpoint) -> list[int]:
    return load_tokenizer(checkpoint).encode(CALIBRATION_TEXT)[:TOKENS]


def logits(checkpoint: Checkpoint, text: Sequence[int], mode: str) -> torch.Tensor:
    step, pages = whole_text(text, PAGE)
    config = replace(checkpoint.config, context_length=len(text))
    memory = Memory(CPU, torch.float32)
    memory.cache = torch.zeros(config.layers, 2, pages, PAGE, config.kv_heads, config.head_dim)
    ops = PackedOps(memory, StepTensors.from_step(step, PAGE, CPU), Packing(mode, CPU))
    with torch.inference_mode():
        found: torch.Tensor = load(config, checkpoint.weights, ops)(ops)
    return found


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint, text: list[int]) -> torch.Tensor:
    return logits(checkpoint, text, "fp32")


def cost(found: torch.Tensor, reference: torch.Tensor, text: Sequence[int]) -> Cost:
    came = torch.tensor(text[1:])
    mine, theirs = found.log_softmax(-1)[:-1], reference.log_softmax(-1)[:-1]
    return Cost(
        float((F.nll_loss(mine, came) - F.nll_loss(theirs, came)).expm1()),
        float(F.kl_div(mine, theirs, reduction="batchmean", log_target=True)),
        float((mine.argmax(-1) == theirs.argmax(-1)).float().mean()),
    )


def test_fp8_is_refused_on_a_cpu(smollm2_files: Any) -> None:
    with pytest.raises(InvalidRequest, match=r'mode="fp8" is for GPUs.*"int8" is as small'):
        ramify.Engine(mode="fp8", progress=False)
    with pytest.raises(ValueError, match="is for GPUs"):
        compute("cpu", "fp8")


# -- the kernels, on a small random model -----------------------------------------------------------------------------

# Of a row of logits: what rounding random weights to the format makes of two layers, where real models lose less.
BARS = {"bf16": 0.04, "fp8": 0.25, "int8": 0.08, "int4": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize("mode", BARS)
def test_the_gpu_kernels_against_transformers(mode: str, runner: Any, tmp_path: Path) -> None:
    """A prompt of many rows at once, then one token by decoding: different products."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=203, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, attention_bias=True, mlp_bias=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(mean=float("norm" in name), std=parameter.shape[-1] ** -0.5)
        tokens = torch.randint(3, 203, (1, MANY + 6))
        expected = model(tokens, use_cache=False).logits[0]
    model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(locate(tmp_path))
    place = TritonCompute(mode, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    running = runner(checkpoint.config, checkpoint.weights, place)
    text = tokens[0].tolist()
    found = torch.cat([running.step({0: text[:-1]}), running.step({0: text[-1:]})]).cpu()
    errors = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert errors.max() <= BARS[mode]
    assert errors.mean() >= BARS[mode] / 20  # it did run in that mode


# -- the twins, on the embedded model ---------------------------------------------------------------------------------

# (mode, rows multiplied at a time): the most that it may add to the perplexity, and its divergence
BOUNDS = {
    ("auto", 1): (0.003, 1e-4),  # the file's own 4-bit blocks: only the table of embeddings is rounded, to bf16
    ("int8", 1): (0.02, 6e-3),
    ("int8", MANY + 1): (0.03, 2e-2),
    ("fp8", 1): (0.05, 3e-2),
    ("fp8", MANY + 1): (0.06, 5e-2),
}


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "rows"), BOUNDS)
def test_what_packed_weights_cost(
    mode: str,
    rows: int,
    checkpoint: Checkpoint,
    text: list[int],
    reference: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when so many rows are computed at a time."""

    def chosen(format: Format, n: int, k: int, _: int, device: torch.device) -> Product:
        return by_rule(format, n, k, rows, device)

    monkeypatch.setattr(weights, "product", chosen)
    for name in TWINS:
        monkeypatch.setattr(weights, name, getattr(twins, name))
    found = cost(logits(checkpoint, text, mode), reference, text)
    perplexity, divergence = BOUNDS[mode, rows]
    assert found.perplexity <= perplexity
    assert found.divergence <= divergence


@pytest.mark.slow
def test_a_wrong_scale_would_cost_more(
    checkpoint: Checkpoint, text: list[int], reference: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rolled(x: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return twins.int4_gemv(x, packed, scales.roll(1, 1), bias)

    monkeypatch.setattr(weights, "product", lambda *_: Product("gemv"))
    monkeypatch.setattr(weights, "gemv", twins.gemv)
    monkeypatch.setattr(weights, "int4_gemv", rolled)
    assert cost(logits(checkpoint, text, "int4"), reference, text).divergence > 0.1
