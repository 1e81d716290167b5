"""How `select` chooses among options from what a model thinks of their tokens: SGLang's three methods, exact.

l is an option's token log-probabilities after the text, u those of the same tokens with no text before them.

    token_length_normalized              the largest mean(l)
    greedy_token_selection               column by column, the rows that have the column's largest l; ties: the first
    unconditional_likelihood_normalized  the largest mean(l - u)
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidRequest
from .backends.base import OptionScore, ScoreCall

MAX_OPTIONS = 100_000


@dataclass(frozen=True, slots=True)
class Decision:
    """The option that was chosen, and why, under SGLang's names for it."""

    text: str
    index: int  # of the option; of equal options, the first
    meta: Mapping[str, Any]


class ChoicesMethod(ABC):
    """A rule for choosing. Without state; compare with `is`."""

    name: str
    alone: bool = False  # whether it wants the options' scores without the text before them, too

    def __repr__(self) -> str:
        return self.name

    @abstractmethod
    def ranks(self, scores: Sequence[OptionScore]) -> tuple[list[float], dict[str, Any]]:
        """A number for each option, the largest wins, the first among equals; and what to report beside it."""


class TokenLengthNormalized(ChoicesMethod):
    """The largest mean log-probability a token. Favours options whose later tokens are certain: often the long ones."""

    name = "token_length_normalized"

    def ranks(self, scores: Sequence[OptionScore]) -> tuple[list[float], dict[str, Any]]:
        return [_mean(score.logprobs) for score in scores], {}


class GreedyTokenSelection(ChoicesMethod):
    """The option that greedy decoding among the options reaches: token by token, only the best stay."""

    name = "greedy_token_selection"

    def ranks(self, scores: Sequence[OptionScore]) -> tuple[list[float], dict[str, Any]]:
        longest = max(len(score.logprobs) for score in scores)
        rows = _same_where_shared(scores)
        matrix = [row + [_mean(row)] * (longest - len(row)) for row in rows]  # [options, longest]
        remaining = list(range(len(matrix)))
        for column in range(longest):
            best = max(matrix[row][column] for row in remaining)
            remaining = [row for row in remaining if matrix[row][column] == best]
            if len(remaining) == 1:
                break
        winner = remaining[0]
        ranks = [1.0 if row == winner else 0.0 for row in range(len(matrix))]
        return ranks, {"greedy_logprob_matrix": matrix}


class UnconditionalLikelihoodNormalized(ChoicesMethod):
    """The option that the text made likelier by the most a token: what is common anyway has no advantage."""

    name = "unconditional_likelihood_normalized"
    alone = True

    def ranks(self, scores: Sequence[OptionScore]) -> tuple[list[float], dict[str, Any]]:
        for score in scores:
            if len(score.alone) != len(score.logprobs):
                raise InvalidRequest(
                    f"{self.name} needs each option scored without the text before it, which this backend did not do"
                )
        ranks = [_mean([a - b for a, b in zip(score.logprobs, score.alone, strict=True)]) for score in scores]
        return ranks, {
            "unconditional_token_logprobs": [_entries(score.alone, score.token_ids) for score in scores],
            "normalized_unconditional_prompt_logprobs": ranks,
        }


token_length_normalized = TokenLengthNormalized()
greedy_token_selection = GreedyTokenSelection()
unconditional_likelihood_normalized = UnconditionalLikelihoodNormalized()
METHODS = {
    method.name: method
    for method in (token_length_normalized, greedy_token_selection, unconditional_likelihood_normalized)
}


def checked_options(options: object) -> tuple[str, ...]:
    """The options as a tuple. Raises InvalidRequest for none, for what is no text, and for an empty one."""
    if isinstance(options, str | bytes) or not isinstance(options, Sequence) or not options:
        raise InvalidRequest(f"choices={options!r:.60} is not allowed: give a list of at least one text")
    if len(options) > MAX_OPTIONS:
        raise InvalidRequest(f"choices: {len(options):,} options; {MAX_OPTIONS:,} are the most")
    for index, option in enumerate(options):
        if not isinstance(option, str):
            raise InvalidRequest(f"choices[{index}] is {option!r:.60}, not a text; write str(...) around it")
        if not option:
            raise InvalidRequest(
                f"choices[{index}] is empty: there is nothing to score; give it a text, or leave it out"
            )
    return tuple(options)


def score_call(options: Sequence[str], method: ChoicesMethod, priority: int = 0) -> ScoreCall:
    """What to ask a backend for: each different option once, in order of appearance."""
    return ScoreCall(tuple(dict.fromkeys(options)), alone=method.alone, priority=priority)


def decide(
    options: Sequence[str],
    method: ChoicesMethod,
    scores: Sequence[OptionScore],
    *,
    temperature: float = 0.0,
    seed: int | None = None,
) -> Decision:
    """Choose among `options` by the scores that `score_call` asked for.

    With a temperature, an option is drawn in proportion to exp(rank / temperature) instead; greedy_token_selection has
    no ranks to draw by, and raises InvalidRequest. Raises it too where scores are missing.
    """
    distinct = tuple(dict.fromkeys(options))
    if len(scores) != len(distinct) or any(not score.logprobs for score in scores):
        raise InvalidRequest(f"select: {len(scores)} scores came back for {len(distinct)} options, each with tokens")
    ranks, found = method.ranks(scores)
    if temperature > 0 and isinstance(method, GreedyTokenSelection):
        raise InvalidRequest(f"select: {method.name} cannot sample; use temperature=0 or another choices_method")
    chosen = _drawn(ranks, temperature, seed) if temperature > 0 else max(range(len(ranks)), key=ranks.__getitem__)
    at = {option: index for index, option in enumerate(distinct)}
    listed = [scores[at[option]] for option in options]  # equal options are reported each by itself, as SGLang does
    meta = {
        "normalized_prompt_logprobs": [_mean(score.logprobs) for score in listed],
        "input_token_logprobs": [_entries(score.logprobs, score.token_ids) for score in listed],
        "output_token_logprobs": [[] for _ in listed],
        **{name: [value[at[option]] for option in options] for name, value in found.items()},
    }
    return Decision(distinct[chosen], list(options).index(distinct[chosen]), meta)


def _mean(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values) / len(values)
    return -math.inf if math.isnan(mean) else mean  # -inf against -inf: the model excludes it


def _same_where_shared(scores: Sequence[OptionScore]) -> list[list[float]]:
    """The rows of log-probabilities; where options begin with the same tokens, their numbers are the same.

    Reduced precision may make them differ by a rounding, which would decide between options that have not parted yet.
    """
    known: dict[tuple[int, ...], float] = {}
    return [
        [known.setdefault(score.token_ids[: position + 1], logprob) for position, logprob in enumerate(score.logprobs)]
        for score in scores
    ]


def _drawn(ranks: Sequence[float], temperature: float, seed: int | None) -> int:
    best = max(ranks)
    weights = [math.exp((rank - best) / temperature) if math.isfinite(rank) else 0.0 for rank in ranks]
    if not any(weights):
        return 0
    return random.Random(seed).choices(range(len(ranks)), weights)[0]


def _entries(logprobs: Sequence[float], token_ids: Sequence[int]) -> list[list[Any]]:
    """As SGLang reports log-probabilities: [logprob, token_id, text or None]."""
    return [[logprob, token, None] for logprob, token in zip(logprobs, token_ids, strict=True)]
