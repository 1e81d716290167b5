"""The vocabulary a model is written in, and the step it is run on: the one contract between models and kernels.

A model file calls these operations in the order of the paper. What a call does is the implementation's business:
the torch implementation computes at once; the native one records a tape, once, which a compiled core then runs for
every step. So a model is written once and never mentions a device, a dtype or a page.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch

from .draws import Chosen, Draws, Ints, Words

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Activation = Any  # a torch.Tensor when computing eagerly, a buffer's handle when recording
Vector = Any  # a packed one-dimensional parameter
Linear = Any  # a packed matrix, with its bias if it has one
Gate = Literal["silu", "gelu_tanh"]


class Stored(Protocol):
    """A parameter as it lies in its file: nothing is read before one of the two methods is called."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def format(self) -> str:
        """The storage type in GGUF's names: F32, F16, BF16, Q4_1, Q8_0, ..."""
        ...

    def rows(self) -> Bytes:
        """The raw bytes, [rows, bytes per row], in the order of the checkpoint's rows."""
        ...

    def dense(self) -> torch.Tensor:
        """A new fp32 tensor of `shape`, dequantized."""
        ...


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What one page of KV holds. The scheduler only ever counts pages; their content is private to the kernels."""

    layers: int
    kv_heads: int
    head_dim: int
    page_size: int  # tokens in a page
    pages: int


@dataclass(frozen=True, slots=True)
class Columns:
    """Which logits are wanted of a step's logit rows, where some rows want only a few: the others need no computing.

    Row r wants ids[start[r] : start[r + 1]]; none listed: it wants all. Rows that want all come before those that do
    not. What is wanted is, to the bit, what the whole row would hold; the rest of the row is undefined.
    """

    start: Ints  # [R + 1]
    ids: Ints  # [sum], ascending within a row


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass over a ragged batch: T rows (tokens) of S sequences, without padding."""

    tokens: Ints  # [T]
    positions: Ints  # [T]; consecutive within a sequence
    query_start: Ints  # [S + 1]: the rows of sequence s are query_start[s] .. query_start[s + 1]
    context: Ints  # [S]: tokens of s in the cache once this step is done, its own rows included
    pages: Ints  # [sum of pages]: the page tables, one after the other
    page_start: Ints  # [S + 1]: the table of s is pages[page_start[s] : page_start[s + 1]]
    logit_rows: Ints  # [R]: the rows whose logits are wanted
    columns: Columns | None = None  # None: all logits of these rows are wanted
    follows: Ints | None = None  # [T]: the draw of the last `Compute.choose` whose token is this row's, or -1: `tokens`


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """One layer's attention, from packed projections to the heads' outputs."""

    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: float  # the scores are multiplied by it (usually head_dim ** -0.5)
    rope: int  # which of the tables given to `Ops.rope_table`
    window: int | None = None  # a query sees itself and the window - 1 keys before it
    softcap: float | None = None  # scores become cap * tanh(scores / cap)
    q_norm: Vector | None = None  # per-head RMS norm before the rotation (Qwen 3, Gemma 3)
    k_norm: Vector | None = None
    norm_eps: float = 1e-6


class Ops(ABC):
    """Parameters are packed once with the first group; the second group is the forward pass."""

    # -- parameters -----------------------------------------------------------------------------------------------

    @abstractmethod
    def vector(self, values: torch.Tensor) -> Vector:
        """Pack a 1-d fp32 parameter (a norm's weight)."""

    @abstractmethod
    def linear(self, parts: Sequence[Stored], bias: Sequence[torch.Tensor] | None = None, *, name: str) -> Linear:
        """Pack matrices of shape [N_i, K], stacked along N: y = x W^T + b. `name` is for messages and calibration."""

    @abstractmethod
    def embedding(self, table: Stored) -> Linear:
        """Pack a [vocabulary, width] table that `embed` reads by row and, when tied, `matmul` multiplies by."""

    @abstractmethod
    def rope_table(self, cos: torch.Tensor, sin: torch.Tensor) -> int:
        """Register [positions, head_dim / 2] fp32 tables (halves convention, as in transformers); returns the index."""

    # -- the forward pass -----------------------------------------------------------------------------------------

    @abstractmethod
    def embed(self, table: Linear, scale: float = 1.0) -> Activation:
        """The rows of the step's tokens: [T, width]."""

    @abstractmethod
    def rms_norm(self, x: Activation, weight: Vector, eps: float) -> Activation:
        """x / sqrt(mean(x^2) + eps) * weight, over the last axis."""

    @abstractmethod
    def matmul(self, x: Activation, weight: Linear, residual: Activation | None = None) -> Activation:
        """x W^T + b (+ residual): [rows, N]."""

    @abstractmethod
    def attention(self, qkv: Activation, spec: AttentionSpec) -> Activation:
        """[T, (H + 2 Hkv) D] packed q, k, v -> [T, H D]. Norms and rotates q and k, writes k and v to the step's
        pages, then attends causally over each sequence's pages."""

    @abstractmethod
    def gated(self, x: Activation, gate: Gate) -> Activation:
        """[rows, 2 F] packed gate, up -> act(gate) * up: [rows, F]."""

    @abstractmethod
    def add(self, x: Activation, y: Activation) -> Activation: ...

    @abstractmethod
    def select(self, x: Activation) -> Activation:
        """Keep the step's `logit_rows`: [T, width] -> [R, width]."""

    @abstractmethod
    def softcap(self, x: Activation, cap: float) -> Activation: ...


Forward = Callable[[Ops], Activation]  # a model's forward pass: returns the logits, [R, vocabulary]


class Compute(ABC):
    """A place where models run: it packs parameters, owns the cache and runs steps. Made by `kernels.compute`."""

    mode: str  # fp32, bf16, fp8, int8, int4, auto
    summary: str  # one line for people: what runs the model, and with what
    chooses = False  # whether `choose` is there, and steps may follow its draws (`Step.follows`)

    @property
    @abstractmethod
    def ops(self) -> Ops:
        """What a model packs its parameters with while it loads."""

    @abstractmethod
    def allocate(self, shape: CacheShape) -> None:
        """Take the memory of the KV cache. Called once, after the parameters are packed."""

    @abstractmethod
    def bytes_per_page(self, shape: CacheShape) -> int: ...

    @abstractmethod
    def compile(self, forward: Forward) -> Callable[[Step], torch.Tensor]:
        """The function that runs one step: fp32 logits [R, vocabulary], valid until the next step."""

    def choose(self, logits: torch.Tensor, draws: Draws) -> Chosen:
        """Begin to draw tokens from the last step's logits. Returns before they are known where the device can.

        Only where `chooses`. A step whose rows follow these draws may be run before they are read; a draw that came to
        no token is followed as token 0.
        """
        raise NotImplementedError(f"{type(self).__name__} leaves choosing to the host")

    def mask(self, logits: torch.Tensor, rows: Sequence[int], masks: Sequence[Words]) -> None:
        """In these rows of the logits [R, vocabulary], in place: minus infinity for every token that is not allowed.

        Token i is allowed when bit i % 32 of a mask's word i // 32 is set.
        """
        for row, words in zip(rows, masks, strict=True):
            bits = np.unpackbits(words.view(np.uint8), bitorder="little")[: logits.shape[1]]
            logits[row].masked_fill_(torch.from_numpy(bits == 0).to(logits.device), float("-inf"))
