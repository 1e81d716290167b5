"""Rotary tables against transformers' own: every scaling, with the odd parameters that checkpoints carry."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from ramify.runtime.models.rope import rope_tables, scaled_frequencies
from ramify.runtime.weights.config import FactorScaling, Llama3Scaling, Rope
from ramify.runtime.weights.config_json import config_from_json
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CASES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "llama 3.1": LLAMA3 | {"factor": 8.0, "original_max_position_embeddings": 8192},
    "llama 3.2": LLAMA3 | {"factor": 32.0, "original_max_position_embeddings": 8192},
    "qwen 2.5": YARN,
    "yarn, betas": YARN | {"beta_fast": 20.0, "beta_slow": 2.0},
    "yarn, not rounded": YARN | {"truncate": False},
    "yarn, its own attention": YARN | {"attention_factor": 1.3},
    "yarn, mscale": YARN | {"mscale": 0.7, "mscale_all_dim": 1.2},
    "yarn, nothing to stretch": YARN | {"factor": 1.0},
    "yarn, no ramp": YARN | {"original_max_position_embeddings": 4, "beta_fast": 1e4, "beta_slow": 1e4},
}


def described(rope: dict[str, Any], theta: float, head_dim: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": 100,
        "hidden_size": 4 * head_dim,
        "intermediate_size": 100,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "head_dim": head_dim,
        "max_position_embeddings": 16384,
        "rope_parameters": rope | {"rope_theta": theta},
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("theta", "head_dim"), [(1e4, 64), (5e5, 128)])
def test_tables_equal_transformers(case: str, theta: float, head_dim: int) -> None:
    config = described(CASES[case], theta, head_dim)
    ours = rope_tables(config_from_json(config, {}, "config.json").rope, head_dim, 16384)
    oracle = LlamaRotaryEmbedding(transformers.LlamaConfig(**config))
    theirs = oracle(torch.zeros(1, dtype=torch.float32), torch.arange(16384)[None])
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, other[0, :, : head_dim // 2])  # both halves of transformers' rows are the same


def test_factors_divide_frequencies() -> None:
    """How GGUF carries Llama 3's scaling: one divisor for each dimension."""
    scaled, _ = scaled_frequencies(Rope(5e5, Llama3Scaling(8.0, 1.0, 4.0, 8192)), 64)
    plain, _ = scaled_frequencies(Rope(5e5), 64)
    factors = tuple((plain / scaled).tolist())
    assert factors[0] == 1.0 and factors[-1] == 8.0
    got, amplitude = scaled_frequencies(Rope(5e5, FactorScaling(factors)), 64)
    torch.testing.assert_close(got, scaled)
    assert amplitude == 1.0
