"""Scores many continuations of shared prompts with as few computed tokens as there can be.

A continuation's first token is judged by the prompt's own last logits, so the prompt is computed once, as a request of
its own, and gives the first log-probability of all its continuations; one of a single token costs nothing more. The
others run their tokens but the last on top of the prompt's pages, and the last is judged by the logits that remain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import InvalidRequest, RamifyError, RequestFailed
from .intake import Intake, Prompt
from .loop import failure
from .results import Distribution, Generation, Score, Usage
from .sampling.params import SamplingParams
from .stream import Stream
from .ticket import Ticket


@dataclass(frozen=True, slots=True)
class Branch:
    """One continuation: the tokens it follows, and its own, at least one."""

    head: tuple[int, ...]
    tail: tuple[int, ...]


def branches(intake: Intake, prompt: Prompt, continuations: Sequence[Prompt]) -> list[Branch]:
    """Where each continuation leaves its prompt. A text continuation is encoded together with a text prompt."""
    if isinstance(continuations, str) or not isinstance(continuations, Sequence) or not continuations:
        raise InvalidRequest("continuations: expected a list of at least one text or list of token ids")
    prefix = intake.encode(prompt)
    made = []
    for index, continuation in enumerate(continuations):
        if isinstance(continuation, str) and isinstance(prompt, str):
            tokens = intake.encode(prompt + continuation)
        else:
            tokens = [*prefix, *intake.encode_bare(continuation)]
        same = next((i for i, (a, b) in enumerate(zip(prefix, tokens, strict=False)) if a != b), len(prefix))
        start = max(1, min(same, len(tokens)))
        if start >= len(tokens):
            raise InvalidRequest(f"continuations[{index}] is empty: there is nothing to score")
        made.append(Branch(tuple(tokens[:start]), tuple(tokens[start:])))
    return made


class ScoreBatch:
    """The requests that score a list of branches, and the scores that their results make."""

    def __init__(self, listed: Sequence[Branch]) -> None:
        self._branches = listed
        self._heads = list(dict.fromkeys(branch.head for branch in listed))
        self._long = [branch for branch in listed if len(branch.tail) > 1]

    def tickets(self, open: Callable[[Sequence[int], SamplingParams], Ticket], priority: int = 0) -> list[Ticket]:
        """One for each different prompt, then one for each continuation of two tokens or more."""
        whole = SamplingParams(max_tokens=0, priority=priority)
        heads = [open(head, whole) for head in self._heads]
        return heads + [
            open(
                [*branch.head, *branch.tail[:-1]],
                whole.replace(prompt_logprobs=0, prompt_logprobs_start=len(branch.head) + 1),
            )
            for branch in self._long
        ]

    def scores(self, results: Sequence[Generation]) -> list[Score]:
        """In the order of the branches, from the results in the order of the tickets."""
        after = dict(zip(self._heads, map(_next_token, results), strict=False))
        rest: Iterator[Generation] = iter(results[len(self._heads) :])
        return [self._score(branch, after[branch.head], rest) for branch in self._branches]

    def _score(self, branch: Branch, after_head: Distribution, rest: Iterator[Generation]) -> Score:
        logprobs = [after_head.logprob(branch.tail[0])]
        if len(branch.tail) > 1:
            result = next(rest)
            logprobs += [entry.chosen.logprob for entry in result.prompt_logprobs or () if entry is not None]
            logprobs.append(_next_token(result).logprob(branch.tail[-1]))
        total = sum(logprobs)
        return Score(branch.tail, tuple(logprobs), total=total, mean=total / len(logprobs))


def _next_token(result: Generation) -> Distribution:
    assert result.next_token is not None, "a request with max_tokens=0 gives the next token's distribution"
    return result.next_token


class Scoring:
    """Continuations that are being scored: a handle that does not block. Made by `Engine.submit_score`."""

    def __init__(
        self, intake: Intake, listed: Sequence[Branch], on_done: Callable[[Scoring], object], priority: int = 0
    ) -> None:
        self.error: RamifyError | None = None  # what went wrong; once done
        self.usage = Usage()  # of all requests that were needed; once done
        self.done = False
        self._scores: tuple[Score, ...] = ()
        self._on_done = on_done
        self._batch = ScoreBatch(listed)

        def open(tokens: Sequence[int], params: SamplingParams) -> Ticket:
            return intake.ticket(tokens, params, on_done=self._one_ended)

        tickets = self._batch.tickets(open, priority)
        self._left = len(tickets)
        self._streams = [ticket.stream for ticket in tickets]
        intake.submit(tickets)

    def scores(self) -> tuple[Score, ...]:
        """One for each continuation, in their order. To be asked when it is done; raises what went wrong."""
        if self.error is not None:
            raise self.error
        return self._scores

    def cancel(self) -> None:
        """Stop; `on_done` is still called, with an error if scores are missing. Harmless when it is done."""
        for stream in self._streams:
            stream.abort()

    def _one_ended(self, _: Stream) -> None:
        self._left -= 1
        if self._left:
            return
        try:
            results = [stream.result(0) for stream in self._streams]
            if any(one.finish_reason == "abort" for one in results):
                raise RequestFailed("this scoring was cancelled before all continuations had their scores")
            self.usage = sum((one.usage for one in results), Usage())
            self._scores = tuple(self._batch.scores(results))
        except Exception as error:
            self.error = failure(error)
        self.done = True
        self._on_done(self)
