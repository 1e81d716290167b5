"""Chooses the next token from each row of logits: one row never sees another, so a batch changes nothing."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ...errors import InvalidRequest, RequestFailed
from ..results import Distribution, TokenLogprobs
from .constraint import Matcher
from .logprobs import log_softmax, token_logprobs
from .params import SamplingParams
from .penalties import Penalties
from .truncation import draw, uniform

Row = npt.NDArray[np.float32]  # [vocabulary]
Words = npt.NDArray[np.uint32]
Ids = npt.NDArray[np.int32]
MaskRows = Callable[[torch.Tensor, Sequence[int], Sequence[Words]], None]  # in place; see Compute.mask

FEW = 256  # allowed tokens, at most: then only their logits are computed


@dataclass(frozen=True, slots=True)
class Choice:
    """What became of one row: a token, or the error that ends its request and no other."""

    token: int | None
    logprobs: TokenLogprobs | None = None  # when the request asked for them
    error: Exception | None = None


class Edits(NamedTuple):
    """What is done to the logits of single tokens, each at most once: v + bias; divided by the factor where positive,
    multiplied where not; less the penalty."""

    tokens: npt.NDArray[np.int64]
    bias: Row
    factor: Row
    penalty: Row


_NO_TOKENS, _NO_VALUES = np.empty(0, np.int64), np.empty(0, np.float32)
NO_EDITS = Edits(_NO_TOKENS, _NO_VALUES, _NO_VALUES, _NO_VALUES)


class RowState:
    """What sampling remembers of one request between its steps. Made by Sampler.row, advanced by accept.

    `matcher`, when the text is constrained, is asked by `look` before each step what it allows: `allowed`, when that is
    few tokens, or else `mask`.
    """

    __slots__ = (
        "_bans", "_biases", "_edits", "_ends", "_penalties",
        "allowed", "edit", "mask", "matcher", "narrow", "params", "position", "seed",
    )  # fmt: skip

    def __init__(
        self,
        params: SamplingParams,
        seed: int,
        prompt_tokens: Iterable[int],
        stop_tokens: Iterable[int],
        end_tokens: Iterable[int] = (),
    ) -> None:
        self.params = params
        self.seed = seed
        self.position = 0  # output tokens accepted so far
        self.matcher: Matcher | None = None
        self.narrow: Callable[[Ids], Ids] | None = (
            None  # leaves out allowed tokens that must not come next all the same
        )
        self.allowed: Ids | None = None  # the only tokens that are allowed, ascending
        self.mask: Words | None = None  # bit i of word i // 32: token i is allowed; None: all are
        self.edit: Callable[[Row], None] | None = None  # changes a private copy of the row before all else
        self._biases = sparse(params.logit_bias.keys(), params.logit_bias.values())
        self._bans = np.fromiter(stop_tokens, np.int64) if params.min_tokens else None
        self._ends = np.fromiter(end_tokens, np.int64)
        self._penalties = Penalties.of(params, prompt_tokens)
        self._edits = bool(params.logit_bias or self._penalties)

    def accept(self, tokens: Iterable[int]) -> None:
        """These tokens, chosen or forced, are now part of the output."""
        for token in tokens:
            self.position += 1
            if self._penalties is not None:
                self._penalties.count(token)

    def take_back(self, tokens: Iterable[int]) -> None:
        """These tokens, the last of the output, are no part of it any more. The matcher is the caller's business."""
        for token in tokens:
            self.position -= 1
            if self._penalties is not None:
                self._penalties.uncount(token)

    def look(self) -> None:
        """Ask the matcher, if there is one, which tokens may come next."""
        if self.matcher is None:
            return
        few = self.matcher.allowed(FEW)
        if few is not None and self.narrow is not None:
            kept = self.narrow(few)
            few = kept if len(kept) else few
        unwanted = self._ends if self.params.ignore_eos else self._bans if self.banning else None
        if few is not None:
            # Where nothing but the end is possible, the grammar is right and the ban is not.
            kept = few if unwanted is None else few[~np.isin(few, unwanted)]
            self.allowed, self.mask = (kept if len(kept) else few), None
            return
        mask = self.matcher.mask()
        if unwanted is not None and len(unwanted):
            mask = mask.copy()
            np.bitwise_and.at(mask, unwanted >> 5, ~(np.uint32(1) << (unwanted & 31).astype(np.uint32)))
        self.allowed, self.mask = None, mask

    @property
    def banning(self) -> bool:
        """Whether stop tokens may not come yet."""
        return self._bans is not None and self.position < self.params.min_tokens

    @property
    def masked_in_place(self) -> bool:
        """Whether the mask is all that is done to the row, and nobody wants to see it without."""
        return self.mask is not None and not self._edits and self.edit is None and self.params.logprobs is None

    @property
    def untouched(self) -> bool:
        """Whether the next row is sampled from as the model made it."""
        return not (self._edits or self.banning) and self.mask is None and self.edit is None

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
        if self._bans is not None and self.banning and self.allowed is None:
            row[self._bans] = -np.inf
        if self._penalties is not None:
            self._penalties.apply(row)
        return row

    def edits(self) -> Edits | None:
        """What `edited` does to single tokens, where that is anything: biases, bans, penalties."""
        bans = self._bans if self.banning and self.allowed is None and self._bans is not None else None
        if not self._edits and bans is None:
            return None
        biased, values = self._biases if self._biases is not None else (_NO_TOKENS, _NO_VALUES)
        banned = bans if bans is not None else _NO_TOKENS
        penalized, factor, less = (_NO_TOKENS, np.float32(1), _NO_VALUES)
        if self._penalties is not None:
            penalized, factor, less = self._penalties.terms()
        tokens = np.unique(np.concatenate((biased, banned, penalized)))
        edits = Edits(tokens, *(np.full(len(tokens), value, np.float32) for value in (0, 1, 0)))
        edits.bias[np.searchsorted(tokens, biased)] = values
        edits.bias[np.searchsorted(tokens, banned)] = -np.inf
        where = np.searchsorted(tokens, penalized)
        edits.factor[where] = factor
        edits.penalty[where] = less
        return edits

    def few(self, row: Row) -> Row:
        """The row's values for the `allowed` tokens, treated like the whole row; nothing else of it is looked at."""
        assert self.allowed is not None
        values: Row = row[self.allowed]
        if not self._edits and self.edit is None:
            return values
        alone = np.full(len(row), -np.inf, np.float32)
        alone[self.allowed] = values
        return self.edited(alone)[self.allowed]


class Sampler:
    """Chooses tokens for a model of `vocabulary` tokens.

    `text_of` spells a token for log-probabilities; `eos_tokens` are the ones that min_tokens puts off; `mask_rows`
    masks many rows in one call (without it, each row is masked by itself).
    """

    def __init__(
        self,
        vocabulary: int,
        text_of: Callable[[int], str],
        eos_tokens: Iterable[int],
        mask_rows: MaskRows | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self._mask_rows = mask_rows
        self.text_of = text_of
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
        return RowState(params, base + index * 0x9E3779B97F4A7C15, prompt_tokens, stops, self._eos)

    def sample(
        self, logits: torch.Tensor, rows: Sequence[RowState], places: Sequence[int] | None = None
    ) -> list[Choice]:
        """One choice for each state, from row places[i] of the logits [?, vocabulary] (None: row i).

        Never raises for a single row. The states are not advanced: call accept with the tokens that are kept. Rows
        under a mask are masked in place; nothing else is changed.
        """
        where = range(len(logits)) if places is None else places
        if self._mask_rows is not None:
            masked = [(place, state) for place, state in zip(where, rows, strict=True) if state.masked_in_place]
            self._mask_rows(
                logits, [place for place, _ in masked], [one.mask for _, one in masked if one.mask is not None]
            )
            for _, state in masked:
                state.mask = None
        array = host(logits)
        choices: list[Choice] = []
        for place, state in zip(where, rows, strict=True):
            try:
                choices.append(self._choose(array[place], state))
            except Exception as error:  # a bad row or a callback that raises ends its own request only
                choices.append(Choice(None, error=error))
        return choices

    def _choose(self, row: Row, state: RowState) -> Choice:
        params = state.params
        if state.allowed is not None:
            return self._choose_few(row, state)
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
        return Choice(token, token_logprobs(log_softmax(row), token, params.logprobs, self.text_of))

    def _choose_few(self, row: Row, state: RowState) -> Choice:
        """`_choose` where few tokens are allowed: the same choice, from their logits alone."""
        params, ids = state.params, state.allowed
        if ids is None or not len(ids):
            raise RequestFailed(describe(-math.inf))
        values = state.few(row)
        best = int(values.argmax())
        if not math.isfinite(values[best]):
            raise RequestFailed(describe(float(values[best])))
        if params.greedy or len(ids) == 1:
            place = best
        else:
            noise = uniform(state.seed, state.position)
            place = draw(values, best, noise, params.temperature, params.top_k, params.top_p, params.min_p)
        token = int(ids[place])
        if params.logprobs is None:
            return Choice(token)
        return Choice(token, token_logprobs(log_softmax(row), token, params.logprobs, self.text_of))

    def distribution(self, logits: torch.Tensor) -> Distribution:
        """The model's distribution over the next token, from one row of logits [vocabulary]."""
        return Distribution(log_softmax(host(logits)))

    def token_logprobs(self, logits: torch.Tensor, tokens: Sequence[int], top: int = 0) -> list[TokenLogprobs]:
        """What the rows of logits [rows, vocabulary] say about these tokens, one for each row, for prompts."""
        rows = zip(host(logits), tokens, strict=True)
        return [token_logprobs(log_softmax(row), token, top, self.text_of) for row, token in rows]

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
