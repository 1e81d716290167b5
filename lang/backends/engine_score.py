"""Scores options on the engine: after a stream's tokens, and alone, all from the same token on."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import BackendError
from ...runtime.engine import Engine
from ...runtime.results import Usage
from ...runtime.scoring import Scoring
from ...runtime.text.tokenizer import Tokenizer
from .base import Cancel, OptionScore, ScoreCall, Scored, ScoreOutcome
from .engine_meta import usage_of
from .once import Once


def score_options(engine: Engine, tokens: Sequence[int], call: ScoreCall, done: Scored) -> Cancel:
    """Score options after some tokens, from the first token on that any of the options touches."""
    tokenizer = engine.tokenizer
    whole = [tokenizer.append(tokens, option) if tokens else tokenizer.encode(option) for option in call.options]
    start = min(_agreed(tokens, ids) for ids in whole)
    if start == 0:  # nothing stays before the options: they are judged as the beginning of a text
        head, tails = start_of_text(tokenizer), [tuple(ids) for ids in whole]
    else:
        head, tails = list(tokens[:start]), [tuple(ids[start:]) for ids in whole]
    gathered = _Gathered(tails, 2 if call.alone else 1, done)
    scorings = [engine.submit_score(head, tails, gathered.conditional, priority=call.priority)]
    if call.alone:
        scorings.append(
            engine.submit_score(start_of_text(tokenizer), tails, gathered.unconditional, priority=call.priority)
        )

    def cancel() -> None:
        for scoring in scorings:
            scoring.cancel()

    return cancel


class _Gathered:
    """One or two scorings of the same tokens, put together when both have ended."""

    def __init__(self, tails: Sequence[tuple[int, ...]], count: int, done: Scored) -> None:
        self._tails = tails
        self._left = count
        self._once = Once(done)
        self._rows: list[tuple[float, ...]] = []
        self._alone: list[tuple[float, ...]] = [()] * len(tails)
        self._usage = Usage()

    def conditional(self, scoring: Scoring) -> None:
        if scoring.error is None:
            self._rows = [score.logprobs for score in scoring.scores()]
        self._one_ended(scoring)

    def unconditional(self, scoring: Scoring) -> None:
        if scoring.error is None:
            self._alone = [score.logprobs for score in scoring.scores()]
        self._one_ended(scoring)

    def _one_ended(self, scoring: Scoring) -> None:
        if scoring.error is not None:
            self._once(ScoreOutcome(error=scoring.error))
            return
        self._usage += scoring.usage
        self._left -= 1
        if self._left == 0:
            rows = zip(self._tails, self._rows, self._alone, strict=True)
            self._once(ScoreOutcome(tuple(OptionScore(*row) for row in rows), usage_of(self._usage)))


def start_of_text(tokenizer: Tokenizer) -> list[int]:
    """What stands before a text of its own: the tokenizer's beginning, or the token that parts documents."""
    found = tokenizer.encode("")
    if found:
        return found
    parting = [tokenizer.token_id("<|endoftext|>"), tokenizer.bos_id, *tokenizer.eos_ids]
    known = [token for token in parting if token is not None]
    if not known:
        raise BackendError("this model has no token that begins or ends a text, so no option can be scored alone")
    return known[:1]


def _agreed(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids both begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
