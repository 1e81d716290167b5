"""Chooses the next token from each row of logits: one row never sees another, so a batch changes nothing."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ...errors import InvalidRequest, RequestFailed
from ..results import Distribution, TokenLogprobs
from .logprobs import log_softmax, token_logprobs
from .params import SamplingParams
from .penalties import Penalties
from .truncation import draw, uniform

Row = npt.NDArray[np.float32]  # [vocabulary]


@dataclass(frozen=True, slots=True)
class Choice:
    """What became of one row: a token, or the error that ends its request and no other."""

    token: int | None
    logprobs: TokenLogprobs | None = None  # when the request asked for them
    error: Exception | None = None


class RowState:
    """What sampling remembers of one request between its steps. Made by Sampler.row, advanced by accept."""

    __slots__ = ("_bans", "_biases", "_edits", "_penalties", "edit", "mask", "params", "position", "seed")

    def __init__(
        self, params: SamplingParams, seed: int, prompt_tokens: Iterable[int], stop_tokens: Iterable[int]
    ) -> None:
        self.params = params
        self.seed = seed
        self.position = 0  # output tokens accepted so far
        self.mask: npt.NDArray[np.uint32] | None = None  # bit i of word i // 32: token i is allowed; None: all are
        self.edit: Callable[[Row], None] | None = None  # changes a private copy of the row before all else
        self._biases = sparse(params.logit_bias.keys(), params.logit_bias.values())
        self._bans = np.fromiter(stop_tokens, np.int64) if params.min_tokens else None
        self._penalties = Penalties.of(params, prompt_tokens)
        self._edits = bool(params.logit_bias or self._penalties)

    def accept(self, tokens: Iterable[int]) -> None:
        """These tokens, chosen or forced, are now part of the output."""
        for token in tokens:
            self.position += 1
            if self._penalties is not None:
                self._penalties.count(token)

    @property
    def untouched(self) -> bool:
        """Whether the next row is sampled from as the model made it."""
        banned = self._bans is not None and self.position < self.params.min_tokens
        return not (self._edits or banned) and self.mask is None and self.edit is None

    def edited(self, row: Row) -> Row:
        """A changed copy of the row, in the order that SamplingParams states."""
        row = row.copy()
        if self.edit is not None:
            self.edit(row)
        if self.mask is not None:
            allowed = np.unpackbits(self.mask.view(np.uint8), bitorder="little")[: len(row)]  # [vocabulary]
            np.copyto(row, -np.inf, where=allowed == 0)
        if self._biases is not None:
            tokens, values = self._biases
            row[tokens] += values
        if self._bans is not None and self.position < self.params.min_tokens:
            row[self._bans] = -np.inf
        if self._penalties is not None:
            self._penalties.apply(row)
        return row


class Sampler:
    """Chooses tokens for a model of `vocabulary` tokens.

    `text_of` spells a token for log-probabilities; `eos_tokens` are the ones that min_tokens puts off.
    """

    def __init__(self, vocabulary: int, text_of: Callable[[int], str], eos_tokens: Iterable[int]) -> None:
        self.vocabulary = vocabulary
        self._text_of = text_of
        self._eos = tuple(eos_tokens)

    def row(
        self, params: SamplingParams, prompt_tokens: Iterable[int] = (), *, index: int = 0, seed: int | None = None
    ) -> RowState:
        """The state of one request's output number `index`; `seed` overrides params.seed (both None: a random one).

        Raises InvalidRequest for token ids beyond the vocabulary.
        """
        for name, tokens in (("logit_bias", params.logit_bias), ("stop_token_ids", params.stop_token_ids)):
            if beyond := [token for token in tokens if token >= self.vocabulary]:
                raise InvalidRequest(
                    f"{name} names token {beyond[0]}, but the vocabulary ends at {self.vocabulary - 1}."
                )
        chosen = params.seed if seed is None else seed
        base = secrets.randbits(63) if chosen is None else chosen
        stops = {*params.stop_token_ids, *(() if params.ignore_eos else self._eos)}
        return RowState(params, base + index * 0x9E3779B97F4A7C15, prompt_tokens, stops)

    def sample(self, logits: torch.Tensor, rows: Sequence[RowState]) -> list[Choice]:
        """One choice for each row of logits [rows, vocabulary], which are not changed. Never raises for a single row.

        The states are not advanced: call accept with the tokens that are kept.
        """
        array = host(logits)
        choices: list[Choice] = []
        for row, state in zip(array, rows, strict=True):
            try:
                choices.append(self._choose(row, state))
            except Exception as error:  # a bad row or a callback that raises ends its own request only
                choices.append(Choice(None, error=error))
        return choices

    def _choose(self, row: Row, state: RowState) -> Choice:
        params = state.params
        final = row if state.untouched else state.edited(row)
        best = int(final.argmax())  # the first NaN, if there is one
        if not math.isfinite(final[best]):
            raise RequestFailed(describe(float(final[best])))
        if params.greedy:
            token = best
        else:
            noise = uniform(state.seed, state.position)
            token = draw(final, best, noise, params.temperature, params.top_k, params.top_p, params.min_p)
        if params.logprobs is None:
            return Choice(token)
        return Choice(token, token_logprobs(log_softmax(row), token, params.logprobs, self._text_of))

    def distribution(self, logits: torch.Tensor) -> Distribution:
        """The model's distribution over the next token, from one row of logits [vocabulary]."""
        return Distribution(log_softmax(host(logits)))

    def token_logprobs(self, logits: torch.Tensor, tokens: Sequence[int], top: int = 0) -> list[TokenLogprobs]:
        """What the rows of logits [rows, vocabulary] say about these tokens, one for each row, for prompts."""
        rows = zip(host(logits), tokens, strict=True)
        return [token_logprobs(log_softmax(row), token, top, self._text_of) for row, token in rows]

    def score(self, logits: torch.Tensor, tokens: Sequence[int]) -> list[float]:
        """The log-probability of one token for each row of logits [rows, vocabulary], and nothing else."""
        return [float(log_softmax(row)[token]) for row, token in zip(host(logits), tokens, strict=True)]


def host(logits: torch.Tensor) -> npt.NDArray[np.float32]:
    """The logits as a numpy array, without a copy where they are fp32 on the CPU already."""
    array: npt.NDArray[np.float32] = logits.detach().to("cpu", torch.float32).numpy()
    return array


def sparse(tokens: Iterable[int], values: Iterable[float]) -> tuple[npt.NDArray[np.int64], Row] | None:
    """Index and value arrays, or None when there is nothing."""
    index = np.fromiter(tokens, np.int64)
    return (index, np.fromiter(values, np.float32)) if len(index) else None


def describe(best: float) -> str:
    """Why no token can be chosen."""
    if best == -math.inf:
        return "no token is allowed here: masks, bans and biases of this request exclude the whole vocabulary."
    return f"the model's logits for this request are broken: the largest one is {best}."
