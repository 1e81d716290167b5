"""Log-probabilities of tokens from one row of logits: the model's own, before penalties, masks and temperature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..results import TokenLogprob, TokenLogprobs
from .truncation import best_first

Row = npt.NDArray[np.float32]  # [vocabulary]


def log_softmax(row: Row) -> Row:
    """log p of every token, of a row [vocabulary]; depends on this row alone, to the bit."""
    shifted: Row = row - row.max()  # [vocabulary]
    shifted -= np.float32(np.log(np.exp(shifted).sum(dtype=np.float32)))
    return shifted


def token_logprobs(logprobs: Row, token: int, top: int, text_of: Callable[[int], str]) -> TokenLogprobs:
    """The token's own entry and the `top` best, of log-probabilities [vocabulary]."""

    def entry(one: int, rank: int) -> TokenLogprob:
        return TokenLogprob(one, float(logprobs[one]), text_of(one), rank)

    rank = 1 + int(np.count_nonzero(logprobs > logprobs[token]))
    best = best_first(logprobs, top) if top else ()
    return TokenLogprobs(entry(token, rank), tuple(entry(int(one), place) for place, one in enumerate(best, 1)))
