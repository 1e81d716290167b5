"""Choosing tokens where the logits are: what a step draws, and how it comes out.

A place that chooses by itself (`Compute.chooses`) lets steps follow each other without the host in between: the next
step's `Step.follows` names draws whose tokens nobody has read yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int32]]
Words = np.ndarray[Any, np.dtype[np.uint32]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Seeds = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Draws:
    """D tokens to be drawn from rows of a step's logits, in the order in which `Step.follows` counts them.

    In order: a row's edits, its mask, temperature, top-k, top-p over what top-k left, min-p, the draw. An edit changes
    the logit v of one token: v + bias, then divided by `factor` where positive and multiplied where not, then less
    `penalty`. A draw depends on its own row and seed alone.
    """

    rows: Ints  # [D]: of the logits
    temperature: Floats  # [D]; 0: the largest logit
    top_k: Ints  # [D]; 0: all
    top_p: Floats  # [D]; 1: all
    min_p: Floats  # [D]; 0: all
    seed: Seeds  # [D]: of the request and of the position in it
    masks: Words  # [M, words]: bit i % 32 of word i // 32 allows token i
    mask_of: Ints  # [D]: the row of `masks`, or -1
    edit_start: Ints  # [D + 1]: the edits of draw d are edit_start[d] .. edit_start[d + 1]
    edit_ids: Ints  # [E], each token at most once in a draw
    edit_bias: Floats  # [E]
    edit_factor: Floats  # [E]
    edit_penalty: Floats  # [E]
    top: int = 0  # so many of the likeliest tokens are reported with each draw


@dataclass(frozen=True, slots=True)
class ChosenTokens:
    """What came of D draws. Log-probabilities are the model's own: before edits, masks and temperature."""

    tokens: Ints  # [D]; -1: no token has a finite logit
    logprobs: Floats  # [D]: of these tokens
    top_ids: Ints  # [D, top], the likeliest first
    top_logprobs: Floats  # [D, top]
    ranks: Ints  # [D]: 1 + how many tokens the model held likelier than the drawn one


class Chosen(Protocol):
    """Draws on their way."""

    def read(self) -> ChosenTokens:
        """Waits for them and for their step, also where nothing was drawn (D = 0). May be called once the next step is
        under way, and more than once."""
        ...
