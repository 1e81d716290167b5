"""What the GPU's path computes is what the CPU computes in fp32, as near as its weights' type allows.

On a GPU where there is one, else in Triton's interpreter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ramify.kernels.torch_compute import TorchCompute
from ramify.kernels.triton.compute import TritonCompute
from ramify.runtime.weights.checkpoint import open_checkpoint
from ramify.runtime.weights.locate import locate

PROMPTS = {0: [5, 9, 200, 31, 7, 77, 150, 3, 18, 42, 11], 1: [4, 4, 8]}
# Of the logits' norm. A number has 8 bits in bf16, 4 in e4m3, and is a sixteenth of its block's range in int4. Errors
# of random weights add up like noise: a model's are about those of its weights and activations together.
BOUND = {"fp32": 1e-4, "bf16": 0.02, "int8": 0.03, "fp8": 0.09, "int4": 0.2}


def logits(model: Path, runner: Any, place: Any) -> torch.Tensor:
    """Of two prompts at once, then of a token each, decoded."""
    checkpoint = open_checkpoint(locate(model))
    running = runner(checkpoint.config, checkpoint.weights, place, pages=8)
    return torch.cat([running.step(PROMPTS).cpu(), running.step({0: [21], 1: [22]}).cpu()])


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.fixture(scope="module")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("mode", BOUND)
def test_logits_agree_with_the_cpus(tiny_model: Path, runner: Any, device: torch.device, mode: str) -> None:
    expected = logits(tiny_model, runner, TorchCompute("fp32"))
    error = distance(logits(tiny_model, runner, TritonCompute(mode, device)), expected)
    assert error <= BOUND[mode]
    finer = {"bf16": "fp32", "int8": "bf16", "fp8": "bf16", "int4": "fp8"}
    assert mode not in finer or error > BOUND[finer[mode]] / 10  # and the type that was asked for was used


def test_a_wrong_weight_would_be_seen(tiny_model: Path, runner: Any) -> None:
    expected = logits(tiny_model, runner, TorchCompute("fp32"))
    place = TorchCompute("fp32")
    linear = type(place.ops).linear

    class Wrong(TorchCompute):
        @property
        def ops(self) -> Any:
            made = super().ops

            def planted(parts: Any, bias: Any = None, *, name: str) -> Any:
                matrix = linear(made, parts, bias, name=name)
                if name.endswith("mlp.down"):
                    matrix.weight.neg_()
                return matrix

            made.linear = planted
            return made

    assert distance(logits(tiny_model, runner, Wrong("fp32")), expected) > max(BOUND.values())
