"""What a model's files say about it, as one frozen record for every architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from ...errors import BrokenModelFile, UnsupportedModel

Architecture = Literal["llama", "mistral", "qwen2", "qwen3", "gemma3"]
Activation = Literal["silu", "gelu_tanh"]
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Positions are divided by `factor`."""

    factor: float


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Long wavelengths are divided by `factor`, short ones kept, those between interpolated."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int


@dataclass(frozen=True, slots=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071, section 3): a ramp over dimensions; cos and sin are multiplied by `attention_factor`."""

    factor: float
    original_context: int
    attention_factor: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True  # round the ends of the ramp to whole dimensions


@dataclass(frozen=True, slots=True)
class FactorScaling:
    """inverse_frequency[i] is divided by `factors[i]`; head_dim / 2 of them (how GGUF stores Llama 3's scaling)."""

    factors: tuple[float, ...]


RopeScaling: TypeAlias = LinearScaling | Llama3Scaling | YarnScaling | FactorScaling


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions: inverse_frequency[i] = theta^(-2 i / head_dim), then scaled."""

    theta: float
    scaling: RopeScaling | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model's shape and constants. Made by the readers beside this file, which have checked all of it.

    Weights are meant in Hugging Face's conventions whatever the file: halves order for rotary dimensions, and for
    Gemma norm weights that lack their 1 (the model adds it: `norm_offset`).
    """

    architecture: Architecture
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    norm_eps: float
    context_length: int
    rope: Rope
    local_rope: Rope | None  # for the layers that have a window; None: they use `rope`
    windows: tuple[int | None, ...]  # by layer: a query sees itself and the window - 1 keys before it
    tied_embeddings: bool
    query_scale: float  # the scores are multiplied by it
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    query_key_norm: bool = False  # per-head RMS norm of q and k before the rotation
    norm_offset: float = 0.0  # what is added to every norm's weight
    embedding_scale: float = 1.0
    activation: Activation = "silu"
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()  # every id that ends an answer, as far as the files say

    def rope_of(self, layer: int) -> Rope:
        """The rotary positions of one layer."""
        return self.rope if self.windows[layer] is None or self.local_rope is None else self.local_rope


# Far above every published model, far below what could exhaust a machine while it is only being described.
LIMITS = {
    "vocab_size": 2**22,
    "hidden_size": 2**17,
    "layers": 1024,
    "heads": 1024,
    "head_dim": 1024,
    "intermediate_size": 2**20,
    "context_length": 2**27,
}


def checked(config: ModelConfig, where: str) -> ModelConfig:
    """The config itself, or BrokenModelFile where its numbers contradict each other or are absurd."""
    for name, limit in LIMITS.items():
        if not 1 <= getattr(config, name) <= limit:
            raise BrokenModelFile(f"{where}: {name} is {getattr(config, name)}, but must be from 1 to {limit}")
    problems = {
        f"{config.heads} attention heads cannot be shared by {config.kv_heads} key/value heads": (
            not 1 <= config.kv_heads <= config.heads or config.heads % config.kv_heads != 0
        ),
        f"head size {config.head_dim} is odd, so it cannot be rotated": config.head_dim % 2 != 0,
        f"{len(config.windows)} windows for {config.layers} layers": len(config.windows) != config.layers,
        "a sliding window below 1": any(window is not None and window < 1 for window in config.windows),
        f"token ids outside the vocabulary of {config.vocab_size}": any(
            not 0 <= token < config.vocab_size for token in (config.bos_id or 0, *config.eos_ids)
        ),
    }
    for rope in (config.rope, config.local_rope):
        if rope is not None and isinstance(rope.scaling, FactorScaling):
            count = len(rope.scaling.factors)
            problems[f"{count} rope factors for heads of {config.head_dim}"] = count * 2 != config.head_dim
    for problem, holds in problems.items():
        if holds:
            raise BrokenModelFile(f"{where}: {problem}")
    return config


def known_architecture(name: str, known: Sequence[str], where: str) -> None:
    """Raise UnsupportedModel, listing the known ones, unless `name` is among `known`."""
    if name not in known:
        raise UnsupportedModel(
            f"{where}: architecture {name[:60]!r} is not supported; ramify runs {', '.join(known)}. "
            "Convert the model or choose one of these"
        )
