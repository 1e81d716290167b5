"""A model's parameters by name: each is checked against the shape the architecture needs, then packed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from ...errors import BrokenModelFile
from ...kernels.ops import Linear, Ops, Stored, Vector
from ..weights.config import ModelConfig, Rope
from ..weights.source import WeightSource
from .rope import rope_tables

Progress = Callable[[int, int], None]  # layers packed so far, layers in all


@dataclass(frozen=True, slots=True)
class Parameters:
    """Hands a model its packed parameters. A missing or mis-shaped tensor raises BrokenModelFile."""

    config: ModelConfig
    source: WeightSource
    ops: Ops
    progress: Progress

    def layers(self) -> Iterator[int]:
        """0, 1, ...: the layers, reporting each one as done when the next is asked for."""
        for layer in range(self.config.layers):
            yield layer
            self.progress(layer + 1, self.config.layers)

    def norm(self, name: str, size: int) -> Vector:
        """A norm's weight, [size]."""
        return self.ops.vector(self.vector(name, size) + self.config.norm_offset)

    def linear(self, name: str, parts: dict[str, int], width: int, *, bias: bool = False) -> Linear:
        """The matrices `part.weight`, [rows, width] each, stacked into one product called `name`; `part.bias` too."""
        weights = [self.tensor(f"{part}.weight", (rows, width)) for part, rows in parts.items()]
        biases = [self.vector(f"{part}.bias", rows) for part, rows in parts.items()] if bias else None
        return self.ops.linear(weights, biases, name=name)

    def embedding(self) -> Linear:
        """The table of token embeddings, [vocabulary, width]."""
        shape = (self.config.vocab_size, self.config.hidden_size)
        return self.ops.embedding(self.tensor("model.embed_tokens.weight", shape))

    def head(self, embedding: Linear) -> Linear:
        """The product that makes logits: the embedding itself where the two are tied."""
        if self.config.tied_embeddings:
            return embedding
        return self.linear("lm_head", {"lm_head": self.config.vocab_size}, self.config.hidden_size)

    def rope(self, rope: Rope) -> int:
        """Registers the tables of `rope` for the whole context; returns their index."""
        return self.ops.rope_table(*rope_tables(rope, self.config.head_dim, self.config.context_length))

    def vector(self, name: str, size: int) -> torch.Tensor:
        return self.tensor(name, (size,)).dense()

    def tensor(self, name: str, shape: tuple[int, ...]) -> Stored:
        """The stored tensor, once its shape is known to be right; nothing is read yet."""
        if name not in self.source:
            raise BrokenModelFile(
                f"tensor {name!r} of shape {list(shape)} is missing, and a {self.config.architecture} model needs it. "
                "The file is incomplete, or its config belongs to another model"
            )
        stored = self.source.stored(name)
        if tuple(stored.shape) != shape:
            raise BrokenModelFile(
                f"tensor {name!r} has shape {list(stored.shape)}, but the config of this {self.config.architecture} "
                f"model needs {list(shape)}. The weights and the config belong to different models"
            )
        return stored
