"""Calibration: the vectors follow the formula, change nothing that is computed, and are kept and repaired."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from ramify.kernels.ops import Stored
from ramify.runtime import calibration
from ramify.runtime.weights.config import ModelConfig, Rope

CONFIG = ModelConfig(
    architecture="llama",
    vocab_size=50,
    hidden_size=32,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=16,
    intermediate_size=48,
    norm_eps=1e-6,
    context_length=100,
    rope=Rope(1e4),
    local_rope=None,
    windows=(None, None),
    tied_embeddings=True,
    query_scale=0.25,
)


@dataclass(frozen=True)
class Values:
    values: torch.Tensor
    format: str = "F32"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def rows(self) -> np.ndarray:
        raise NotImplementedError

    def dense(self) -> torch.Tensor:
        return self.values.clone()


@dataclass
class RandomSource:
    """Random weights of CONFIG's shapes; counts what is read."""

    tensors: dict[str, torch.Tensor]
    read: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        return list(self.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def stored(self, name: str) -> Stored:
        self.read.append(name)
        return Values(self.tensors[name])


@pytest.fixture
def source() -> RandomSource:
    torch.manual_seed(0)
    queries, keys = CONFIG.heads * CONFIG.head_dim, CONFIG.kv_heads * CONFIG.head_dim
    layer = {
        "self_attn.q_proj.weight": (queries, 32),
        "self_attn.k_proj.weight": (keys, 32),
        "self_attn.v_proj.weight": (keys, 32),
        "self_attn.o_proj.weight": (32, queries),
        "mlp.gate_proj.weight": (48, 32),
        "mlp.up_proj.weight": (48, 32),
        "mlp.down_proj.weight": (32, 48),
        "input_layernorm.weight": (32,),
        "post_attention_layernorm.weight": (32,),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (50, 32), "model.norm.weight": (32,)}
    shapes |= {f"model.layers.{i}.{name}": shape for i in range(CONFIG.layers) for name, shape in layer.items()}
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    tensors["model.layers.0.input_layernorm.weight"][5] = 100.0  # an outlier channel, as real models have
    return RandomSource(tensors)


def characters(text: str) -> list[int]:
    return [ord(character) % CONFIG.vocab_size for character in text]


def test_vectors_follow_the_formula(source: RandomSource) -> None:
    """The first linear's input is known by hand: the normed embeddings of the tokens."""
    tokens = characters("some text to calibrate on")
    vectors = calibration.calibrate(CONFIG, source, tokens, strength=0.5)
    embedded = source.tensors["model.embed_tokens.weight"][tokens]
    normed = embedded / (embedded.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    inputs = (normed * source.tensors["model.layers.0.input_layernorm.weight"]).abs().amax(0)
    parts = [source.tensors[f"model.layers.0.self_attn.{name}_proj.weight"] for name in "qkv"]
    expected = (inputs / torch.cat(parts).abs().amax(0)).sqrt()
    got = vectors["layers.0.attention.qkv"]
    torch.testing.assert_close(got / got[0], expected / expected[0])
    assert got.argmax() == 5 and got[5] > 3 * got.median()
    assert math.isclose(got.log().mean().item(), 0.0, abs_tol=1e-5)


def test_every_linear_has_a_vector_of_its_width(source: RandomSource) -> None:
    vectors = calibration.calibrate(CONFIG, source, characters("abc" * 20))
    widths = {"attention.qkv": 32, "attention.output": 32, "mlp.gate_up": 32, "mlp.down": 48}
    expected = {f"layers.{i}.{name}": width for i in range(2) for name, width in widths.items()} | {"embedding": 32}
    assert {name: len(vector) for name, vector in vectors.items()} == expected
    assert all(vector.isfinite().all() and (vector > 0).all() for vector in vectors.values())


def test_smoothing_makes_8_bit_activations_better() -> None:
    """The point of it: with an outlier channel, rounding x / s and W s loses less than rounding x and W."""
    torch.manual_seed(0)
    x, weight = torch.randn(64, 32), torch.randn(48, 32)
    x[:, 5] *= 100

    def rounded(values: torch.Tensor) -> torch.Tensor:  # to 8 bits, one scale for each row
        scale = values.abs().amax(-1, keepdim=True) / 127
        return (values / scale).round() * scale

    s = calibration.smoothing(x.abs().amax(0), weight.abs().amax(0), 0.5)
    exact = x @ weight.T
    torch.testing.assert_close((x / s) @ (weight * s).T, exact, rtol=1e-4, atol=1e-3)
    plain_loss = (rounded(x) @ rounded(weight).T - exact).norm()
    assert (rounded(x / s) @ rounded(weight * s).T - exact).norm() < plain_loss / 2


def test_vectors_are_kept_and_a_broken_copy_is_repaired(source: RandomSource, tmp_path: Path) -> None:
    def vectors(identity: str = "a model") -> dict[str, torch.Tensor]:
        return dict(
            calibration.smoothing_vectors(CONFIG, source, characters, folder=tmp_path / "kept", identity=identity)
        )

    first = vectors()
    (path,) = (tmp_path / "kept").iterdir()
    source.read.clear()
    again = vectors()
    assert not source.read and again.keys() == first.keys()
    assert all(torch.equal(again[name], first[name]) for name in first)

    path.write_bytes(path.read_bytes()[:100])
    repaired = vectors()
    assert source.read and all(torch.equal(repaired[name], first[name]) for name in first)

    source.read.clear()
    vectors(identity="another model")
    assert source.read


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    before = calibration.identity_of([path])
    assert calibration.identity_of([path]) == before
    path.write_bytes(b"another")
    assert calibration.identity_of([path]) != before
