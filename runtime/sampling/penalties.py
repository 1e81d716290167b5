"""Repetition, frequency and presence penalties of one request, kept up token by token."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from .params import SamplingParams


class Penalties:
    """How often each token has occurred, as two arrays that grow, so that a step costs O(different tokens)."""

    def __init__(self, params: SamplingParams, prompt_tokens: Iterable[int]) -> None:
        self._params = params
        self._slots: dict[int, int] = {}
        self._tokens = np.empty(64, np.int64)
        self._counts = np.zeros(64, np.float32)  # in the output; 0 for a token of the prompt alone
        if params.repetition_penalty != 1.0:  # the other two look at the output only
            for token in dict.fromkeys(prompt_tokens):
                self._slot(token)

    @staticmethod
    def of(params: SamplingParams, prompt_tokens: Iterable[int]) -> Penalties | None:
        """None when the request asks for no penalty."""
        asked = params.repetition_penalty != 1.0 or params.frequency_penalty or params.presence_penalty
        return Penalties(params, prompt_tokens) if asked else None

    def count(self, token: int) -> None:
        """The token is now part of the output."""
        slot = self._slot(token)  # may make the array anew
        self._counts[slot] += 1

    def uncount(self, token: int) -> None:
        """The token was taken back out of the output."""
        self._counts[self._slots[token]] -= 1

    def terms(self) -> tuple[npt.NDArray[np.int64], np.float32, npt.NDArray[np.float32]]:
        """What `apply` does: to which tokens, by what it divides positive logits and multiplies others, and what it
        subtracts then."""
        known = len(self._slots)
        counts = self._counts[:known]
        less = np.float32(self._params.frequency_penalty) * counts
        less += np.float32(self._params.presence_penalty) * (counts > 0)
        return self._tokens[:known], np.float32(self._params.repetition_penalty), less

    def apply(self, row: npt.NDArray[np.float32]) -> None:
        """Penalize the row [vocabulary] in place."""
        known = len(self._slots)
        tokens, counts = self._tokens[:known], self._counts[:known]
        values = row[tokens]
        factor = np.float32(self._params.repetition_penalty)
        if factor != 1.0:
            values = np.where(values > 0, values / factor, values * factor)
        values -= np.float32(self._params.frequency_penalty) * counts
        values -= np.float32(self._params.presence_penalty) * (counts > 0)
        row[tokens] = values

    def _slot(self, token: int) -> int:
        slot = self._slots.setdefault(token, len(self._slots))
        if slot == len(self._tokens):
            self._tokens = np.concatenate((self._tokens, np.empty_like(self._tokens)))
            self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
        self._tokens[slot] = token
        return slot
