"""A model of Llama 3 8B's shape with random weights that are made on the device, and a tokenizer of as many tokens."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ramify.runtime.weights.checkpoint import Checkpoint, parameter_shapes
from ramify.runtime.weights.config import ModelConfig, Rope
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WORDS = 4000  # different words of the made-up language that prompts are written in: a token each


@dataclass(frozen=True)
class Made:
    """A parameter that lies nowhere: it is drawn when it is asked for, the same each time."""

    name: str
    shape: tuple[int, ...]
    device: torch.device
    format: str = "F32"

    def rows(self) -> np.ndarray:
        return self.dense().cpu().numpy().view(np.uint8)

    def dense(self) -> torch.Tensor:
        if len(self.shape) == 1:
            return torch.ones(self.shape, device=self.device)
        generator = torch.Generator(self.device).manual_seed(zlib.crc32(self.name.encode()))
        return torch.randn(self.shape, generator=generator, device=self.device) / self.shape[1] ** 0.5


@dataclass(frozen=True)
class MadeWeights:
    """Every parameter that the config calls for."""

    shapes: dict[str, tuple[int, ...]]
    device: torch.device

    def names(self) -> Iterable[str]:
        return self.shapes

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def stored(self, name: str) -> Made:
        return Made(name, self.shapes[name], self.device)


LLAMA_8B = ModelConfig(
    architecture="llama", vocab_size=128256, hidden_size=4096, layers=32, heads=32, kv_heads=8, head_dim=128,
    intermediate_size=14336, norm_eps=1e-5, context_length=16384, rope=Rope(500000.0), local_rope=None,
    windows=(None,) * 32, tied_embeddings=False, query_scale=128**-0.5, eos_ids=(0,),
)  # fmt: skip
TINY = ModelConfig(
    architecture="llama", vocab_size=384, hidden_size=64, layers=1, heads=2, kv_heads=1, head_dim=32,
    intermediate_size=64, norm_eps=1e-5, context_length=512, rope=Rope(10000.0), local_rope=None,
    windows=(None,), tied_embeddings=False, query_scale=32**-0.5, eos_ids=(0,),
)  # fmt: skip


def checkpoint(config: ModelConfig, device: torch.device, folder: Path) -> Checkpoint:
    """A model that is open already, ready for `Engine` or `load_model`; its tokenizer lies in `folder`."""
    (folder / "tokenizer.json").write_text(_tokenizer(config.vocab_size).to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eos>"}))
    return Checkpoint("random", folder, config, MadeWeights(parameter_shapes(config), device), None)


def words(count: int, seed: int = 0) -> list[str]:
    """Made-up words, drawn from a small vocabulary as words are in texts: few often, many seldom."""
    drawn = random.Random(seed)
    return [_word(min(WORDS - 1, int(drawn.paretovariate(0.7)))) for _ in range(count)]


def _word(number: int) -> str:
    sounds = ("ka", "lo", "mi", "ru", "te", "so", "na", "pe", "vi", "du")
    return "".join(sounds[int(digit)] for digit in str(number))


def _tokenizer(size: int) -> Tokenizer:
    """Byte-level pairs learnt from the made-up words, then filled up to `size` with tokens that no text needs."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=min(size, 3 * WORDS), special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([" " + _word(i) for i in range(WORDS)], trainer)
    definition = json.loads(backend.to_str())
    vocabulary = definition["model"]["vocab"]
    known = len(vocabulary)
    vocabulary |= {f"Ġfiller{i}": i for i in range(known, size)}
    return Tokenizer.from_str(json.dumps(definition))


def parameters(config: ModelConfig) -> tuple[int, int]:
    """(numbers in the matrices that a decode step multiplies by, numbers in all)."""
    shapes = parameter_shapes(config)
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    multiplied = sum(size for name, size in sizes.items() if len(shapes[name]) == 2 and "embed" not in name)
    return multiplied, sum(sizes.values())
