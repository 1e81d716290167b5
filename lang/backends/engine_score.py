"""Scores options on the engine: after a stream's tokens, and alone, all from the same token on."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from ...errors import BackendError
from ...runtime.engine import Engine
from ...runtime.results import Usage
from ...runtime.sampling.params import SamplingParams
from ...runtime.stream import Stream
from ...runtime.text.tokenizer import Tokenizer
from .base import Cancel, OptionScore, ScoreCall, Scored, ScoreOutcome
from .engine_meta import usage_of
from .once import Once
from .option_trie import OptionTrie, Question


def score_options(engine: Engine, tokens: Sequence[int], call: ScoreCall, done: Scored) -> Cancel:
    """Score options after some tokens, from the first token on that any of the options touches."""
    tokenizer = engine.tokenizer
    whole = [tokenizer.append(tokens, option) if tokens else tokenizer.encode(option) for option in call.options]
    start = min(_agreed(tokens, ids) for ids in whole)
    if start == 0:  # nothing stays before the options: they are judged as the beginning of a text
        head, tails = start_of_text(tokenizer), [tuple(ids) for ids in whole]
    else:
        head, tails = list(tokens[:start]), [tuple(ids[start:]) for ids in whole]
    gathered = _Gathered(tails, done)
    heads = [head, start_of_text(tokenizer)] if call.alone else [head]
    batches = [gathered.batch(len(one)) for one in heads]
    for batch, one in zip(batches, heads, strict=True):
        batch.submit(engine, one, call.priority)

    def cancel() -> None:
        for batch in batches:
            batch.cancel()

    return cancel


class _Gathered:
    """The batches of one call, put together when all have ended."""

    def __init__(self, tails: Sequence[tuple[int, ...]], done: Scored) -> None:
        self._tails = tails
        self._batches: list[_Batch] = []
        self._left = 0
        self._once = Once(done)

    def batch(self, head: int) -> _Batch:
        """One more: after this many tokens before the options."""
        made = _Batch(OptionTrie(self._tails), head, self)
        self._batches.append(made)
        self._left += 1
        return made

    def failed(self, error: Exception) -> None:
        """The first error ends the call."""
        self._once(ScoreOutcome(error=error))

    def ended(self) -> None:
        """A batch has all its answers."""
        self._left -= 1
        if self._left == 0:
            rows = [batch.trie.rows() for batch in self._batches]
            alone = rows[1] if len(rows) > 1 else [()] * len(self._tails)
            usage = sum((batch.usage for batch in self._batches), Usage())
            scores = [OptionScore(*score) for score in zip(self._tails, rows[0], alone, strict=True)]
            self._once(ScoreOutcome(tuple(scores), usage_of(usage)))


class _Batch:
    """The requests that a tree of options needs. What a request told is read when it ends, and nothing else is kept."""

    def __init__(self, trie: OptionTrie, head: int, gathered: _Gathered) -> None:
        self.trie = trie
        self.usage = Usage()
        self._head = head
        self._gathered = gathered
        self._asked: dict[tuple[int, ...], Question] = {}
        self._streams: list[weakref.ref[Stream]] = []

    def submit(self, engine: Engine, head: Sequence[int], priority: int) -> None:
        """Ask all at once: what they share is computed once."""
        questions = self.trie.questions()
        self._asked = {question.tokens: question for question in questions}
        prompts = [[*head, *question.tokens] for question in questions]
        params = [self._params(question, priority) for question in questions]
        self._streams = [weakref.ref(one) for one in engine.submit_many(prompts, params, on_done=self._ended)]

    def cancel(self) -> None:
        for reference in self._streams:
            if (stream := reference()) is not None:
                stream.abort()

    def _params(self, question: Question, priority: int) -> SamplingParams:
        if not question.stretch:
            return SamplingParams(max_tokens=0, priority=priority)
        first = self._head + len(question.tokens) - len(question.stretch)
        return SamplingParams(max_tokens=0, priority=priority, prompt_logprobs=0, prompt_logprobs_start=first)

    def _ended(self, stream: Stream) -> None:
        """On the engine's thread."""
        try:
            if stream.error is not None:
                raise stream.error
            told = stream.result()
            if told.finish_reason == "abort" or told.next_token is None:
                raise BackendError("this select was cancelled before all options had their scores")
            question = self._asked.pop(told.prompt_token_ids[self._head :])
            stretch = [one.chosen.logprob for one in told.prompt_logprobs or () if one is not None]
            question.answer(stretch, {token: told.next_token.logprob(token) for token in question.place.below})
            self.usage += told.usage
            if not self._asked:
                self._gathered.ended()
        except Exception as error:  # a defect of ours ends the call, and hangs nobody
            self._gathered.failed(error)


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
