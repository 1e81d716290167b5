"""Calibration: the channel maxima are those of the inputs, are kept, and are made anew when the copy is broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from ramify.kernels.ops import CacheShape, Stored
from ramify.kernels.torch_attention import StepTensors
from ramify.kernels.torch_compute import TorchCompute
from ramify.kernels.torch_ops import Memory
from ramify.runtime import calibration
from ramify.runtime.models.registry import load
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


def test_maxima_are_those_of_the_inputs(source: RandomSource) -> None:
    """Of the first linear and of the head, whose inputs are computed here by hand and by plain TorchCompute."""
    tokens = characters("some text to calibrate on")
    maxima = calibration.calibrate(CONFIG, source, tokens)
    embedded = source.tensors["model.embed_tokens.weight"][tokens]
    normed = embedded / (embedded.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    inputs = normed * source.tensors["model.layers.0.input_layernorm.weight"]
    torch.testing.assert_close(maxima["layers.0.attention.qkv"], inputs.abs().amax(0))
    assert maxima["layers.0.attention.qkv"].argmax() == 5  # the outlier that was planted


def test_measuring_changes_nothing(source: RandomSource) -> None:
    step, pages = calibration.whole_text(characters("some text to calibrate on"), 16)
    compute = TorchCompute("fp32")
    model = load(CONFIG, source, compute.ops)
    compute.allocate(CacheShape(CONFIG.layers, CONFIG.kv_heads, CONFIG.head_dim, 16, pages))
    expected = compute.compile(model)(step)
    memory = Memory(torch.device("cpu"), torch.float32)
    memory.cache = torch.zeros(CONFIG.layers, 2, pages, 16, CONFIG.kv_heads, CONFIG.head_dim)
    measuring = calibration.MeasuringOps(
        memory, StepTensors.from_step(step, 16, memory.device), lambda done, total: None, CONFIG.layers
    )
    torch.testing.assert_close(load(CONFIG, source, measuring)(measuring), expected, rtol=0, atol=0)


def test_every_linear_is_measured_and_progress_counts_layers(source: RandomSource) -> None:
    seen: list[tuple[int, int]] = []
    maxima = calibration.calibrate(CONFIG, source, characters("abc" * 20), progress=lambda *now: seen.append(now))
    widths = {"attention.qkv": 32, "attention.output": 32, "mlp.gate_up": 32, "mlp.down": 48}
    expected = {f"layers.{i}.{name}": width for i in range(2) for name, width in widths.items()} | {"embedding": 32}
    assert {name: len(largest) for name, largest in maxima.items()} == expected
    assert all(largest.isfinite().all() and (largest > 0).all() for largest in maxima.values())
    assert seen == sorted(seen) and seen[-1] == (2, 2)


def test_maxima_are_kept_and_a_broken_copy_is_repaired(source: RandomSource, tmp_path: Path) -> None:
    def maxima(identity: str = "a model") -> dict[str, torch.Tensor]:
        return dict(calibration.channel_maxima(CONFIG, source, characters, folder=tmp_path / "kept", identity=identity))

    first = maxima()
    (path,) = (tmp_path / "kept").iterdir()
    source.read.clear()
    again = maxima()
    assert not source.read and again.keys() == first.keys()
    assert all(torch.equal(again[name], first[name]) for name in first)

    path.write_bytes(path.read_bytes()[:100])
    repaired = maxima()
    assert source.read and all(torch.equal(repaired[name], first[name]) for name in first)

    source.read.clear()
    maxima(identity="another model")
    assert source.read


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    before = calibration.identity_of([path])
    assert calibration.identity_of([path]) == before
    path.write_bytes(b"another")
    assert calibration.identity_of([path]) != before
