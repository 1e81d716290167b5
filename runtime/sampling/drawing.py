"""Choosing on a device: what each request asks for, as draws; and what was drawn, as choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ...errors import RequestFailed
from ...kernels.draws import ChosenTokens, Draws
from ..results import TokenLogprob, TokenLogprobs
from .sampler import NO_EDITS, Choice, RowState, describe
from .truncation import noise_bits

MaskRow = np.ndarray[tuple[int], np.dtype[np.uint32]]


class Drawing:
    """Translates for a model of `vocabulary` tokens; `text_of` spells a token for log-probabilities."""

    def __init__(self, vocabulary: int, text_of: Callable[[int], str]) -> None:
        self._words = -(-vocabulary // 32)
        self._vocabulary = vocabulary
        self._text_of = text_of

    def draws(self, states: Sequence[RowState], rows: Sequence[int]) -> Draws:
        """One draw for each state, from row rows[i] of the logits; they were asked to `look` for what is allowed.

        Their `edit` is not in it: a callback is for the host. Equal masks (the same object) are sent once.
        """
        masks = _Masks(self._words)
        mask_of = [masks.index(state) for state in states]
        edits = [state.edits() for state in states]
        ends = np.cumsum([0, *(len(one.tokens) if one is not None else 0 for one in edits)])
        made = [one for one in edits if one is not None] or [NO_EDITS]
        params = [state.params for state in states]
        return Draws(
            rows=np.array(rows, np.int32),
            temperature=np.array([0.0 if one.greedy else one.temperature for one in params], np.float32),
            top_k=np.array([max(0, min(one.top_k, self._vocabulary)) for one in params], np.int32),
            top_p=np.array([one.top_p for one in params], np.float32),
            min_p=np.array([one.min_p for one in params], np.float32),
            seed=np.array([noise_bits(state.seed, state.position) for state in states], np.uint64).view(np.int64),
            masks=masks.stacked(),
            mask_of=np.array(mask_of, np.int32),
            edit_start=ends.astype(np.int32),
            edit_ids=np.concatenate([one.tokens for one in made]).astype(np.int32),
            edit_bias=np.concatenate([one.bias for one in made]).astype(np.float32),
            edit_factor=np.concatenate([one.factor for one in made]).astype(np.float32),
            edit_penalty=np.concatenate([one.penalty for one in made]).astype(np.float32),
            top=max((one.logprobs or 0 for one in params), default=0),
        )

    def choices(self, states: Sequence[RowState], drawn: ChosenTokens) -> list[Choice]:
        """What became of each state's draw: a token, or the error that ends its request and no other."""
        choices: list[Choice] = []
        for draw, state in enumerate(states):
            token, logprob = int(drawn.tokens[draw]), float(drawn.logprobs[draw])
            if token < 0:
                why = math.nan if math.isnan(logprob) else -math.inf
                choices.append(Choice(None, error=RequestFailed(describe(why))))
            elif state.params.logprobs is None:
                choices.append(Choice(token))
            else:
                choices.append(Choice(token, self._logprobs(drawn, draw, state.params.logprobs)))
        return choices

    def _logprobs(self, drawn: ChosenTokens, draw: int, top: int) -> TokenLogprobs:
        def entry(token: int, logprob: float, rank: int) -> TokenLogprob:
            return TokenLogprob(token, logprob, self._text_of(token), rank)

        best = zip(drawn.top_ids[draw, :top].tolist(), drawn.top_logprobs[draw, :top].tolist(), strict=True)
        return TokenLogprobs(
            entry(int(drawn.tokens[draw]), float(drawn.logprobs[draw]), int(drawn.ranks[draw])),
            tuple(entry(token, logprob, place) for place, (token, logprob) in enumerate(best, 1)),
        )


class _Masks:
    """The different masks of a step."""

    def __init__(self, words: int) -> None:
        self._words = words
        self._masks: list[MaskRow] = []
        self._seen: dict[int, int] = {}  # by the identity of arrays that the states hold meanwhile

    def index(self, state: RowState) -> int:
        """The place of what the state allows, or -1 if it allows everything."""
        allowed = state.allowed if state.allowed is not None else state.mask
        if allowed is None:
            return -1
        place = self._seen.setdefault(id(allowed), len(self._masks))
        if place == len(self._masks):
            self._masks.append(self._packed(state))
        return place

    def _packed(self, state: RowState) -> MaskRow:
        words = np.zeros(self._words, np.uint32)
        if state.allowed is not None:
            ids = state.allowed.astype(np.int64)
            np.bitwise_or.at(words, ids >> 5, np.uint32(1) << (ids & 31).astype(np.uint32))
        elif state.mask is not None:
            words[:] = state.mask[: self._words]
        return words

    def stacked(self) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
        """[M, words]"""
        return np.stack(self._masks) if self._masks else np.zeros((0, self._words), np.uint32)
