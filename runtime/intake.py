"""From what a caller hands in to requests in flight: prompts are encoded and checked, tickets opened and submitted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from ..errors import InvalidRequest
from ..grammars.grammar import Grammar
from .clock import Clock
from .grammar_desk import GrammarDesk
from .loading import LoadedModel
from .loop import EngineLoop, failure
from .options import EngineOptions
from .results import Delta
from .sampling.params import SamplingParams
from .sampling.sampler import Sampler
from .stream import Stream
from .ticket import Ticket

Prompt = str | Sequence[int]
"""Text, or token ids. Text gets the model's beginning-of-text token; special tokens written in it stay text."""


class Intake:
    """Opens requests on one engine's loop. Safe from any thread; holds nothing of a request."""

    def __init__(
        self, model: LoadedModel, sampler: Sampler, loop: EngineLoop, clock: Clock, options: EngineOptions
    ) -> None:
        self._model = model
        self._tokenizer = model.tokenizer
        self._sampler = sampler
        self._loop = loop
        self._clock = clock
        self._options = options
        self.desk = GrammarDesk(model.tokenizer, model.config.vocab_size)
        self._ids = itertools.count(1)

    def start(
        self,
        prompts: Sequence[Prompt],
        params: Sequence[SamplingParams],
        on_delta: Callable[[Delta], object] | None = None,
        deltas: bool = False,
        on_done: Callable[[Stream], object] | None = None,
    ) -> list[list[Stream]]:
        """Submit everything at once; a prompt that cannot be encoded is an error of its own stream only."""
        if len(params) != len(prompts):
            raise InvalidRequest(f"{len(prompts)} prompts with {len(params)} params: give one, or one for each")
        streams: list[list[Stream]] = []
        tickets: list[Ticket] = []
        constrained: list[tuple[list[Ticket], Future[Grammar]]] = []
        for prompt, one in zip(prompts, params, strict=True):
            try:
                tokens = self.encode(prompt)
                made = [
                    self.ticket(tokens, one, index, on_delta=on_delta, deltas=deltas, on_done=on_done)
                    for index in range(one.n)
                ]
                constraint = one.constraint
                if constraint is not None and one.max_tokens != 0:
                    constrained.append((made, self.desk.grammar(constraint)))
            except Exception as error:
                streams.append([self._failed(failure(error), on_done)])
                continue
            tickets += made
            streams.append([ticket.stream for ticket in made])
        self._loop.submit(tickets)
        for group, compiling in constrained:
            self._constrain(group, compiling)
        return streams

    def _constrain(self, tickets: list[Ticket], compiling: Future[Grammar]) -> None:
        """Let the tickets go on when their grammar is there; meanwhile their prompt is computed."""
        loop, desk = self._loop, self.desk
        wanted = tickets[0].params.jump_forward
        jumping = self._options.jump_forward if wanted is None else wanted

        def ready(done: Future[Grammar]) -> None:
            error = done.exception()  # not raised: where this callback runs is nothing that a caller wants to read
            if error is not None:
                problem = failure(error)
                loop.tell(lambda: loop.refuse(tickets, problem), late=True)
                return
            grammar = done.result()
            jumps = desk.jump_forward if jumping else None
            loop.tell(lambda: loop.constrain(tickets, lambda: desk.matcher(grammar), jumps), late=True)

        compiling.add_done_callback(ready)

    def _failed(self, error: Exception, on_done: Callable[[Stream], object] | None) -> Stream:
        """A stream that has ended before it began; whoever is called back is called on the engine's thread."""
        stream = Stream(lambda: None, on_done=on_done)
        if on_done is None:
            stream.close(error)
        else:
            self._loop.tell(lambda: stream.close(error))
        return stream

    def submit(self, tickets: list[Ticket]) -> list[Stream]:
        """Begin what `ticket` opened; all are planned together."""
        self._loop.submit(tickets)
        return [ticket.stream for ticket in tickets]

    def ticket(
        self,
        tokens: Sequence[int],
        params: SamplingParams,
        index: int = 0,
        *,
        on_delta: Callable[[Delta], object] | None = None,
        deltas: bool = False,
        on_done: Callable[[Stream], object] | None = None,
    ) -> Ticket:
        """A request that has not begun; raises InvalidRequest for what only the model can judge."""
        request_id = next(self._ids)
        loop = self._loop  # not self: a stream holds no more than it needs
        return Ticket.open(
            request_id=request_id,
            tokens=list(tokens),
            params=params,
            index=index,
            namespace=params.cache_salt if self._options.prefix_cache else ("private", request_id),
            context_length=self._model.context_length,
            tokenizer=self._tokenizer,
            sampler=self._sampler,
            clock=self._clock,
            stream=Stream(lambda: loop.abort(request_id), on_delta, on_done),
            deltas=deltas,
        )

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of a whole prompt, checked."""
        if not isinstance(prompt, str):
            return self.encode_bare(prompt)
        tokens = self._tokenizer.encode(prompt)
        if not tokens:
            raise InvalidRequest("the prompt is empty, and this model has no beginning-of-text token: give some text")
        return tokens

    def encode_bare(self, piece: Prompt) -> list[int]:
        """The ids of a piece that follows others, checked; no beginning-of-text token."""
        if isinstance(piece, str):
            return self._tokenizer.encode_continuation(piece)
        if not isinstance(piece, Sequence) or isinstance(piece, bytes) or not piece:
            shown = f"{type(piece).__name__} {piece!r:.60}"
            raise InvalidRequest(f"a prompt is text or a list of token ids, at least one; got {shown}")
        size = self._model.config.vocab_size
        for position, token in enumerate(piece):
            if type(token) is not int or not 0 <= token < size:
                raise InvalidRequest(
                    f"prompt token {position} is {token!r:.40}: expected an integer from 0 to {size - 1}"
                )
        return [*piece]


def is_one(prompts: Any) -> bool:
    """One prompt: a text, a list of token ids, or something that is no prompt at all and will be told so."""
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Sequence):
        return True
    return len(prompts) > 0 and not isinstance(prompts[0], str | Sequence)


def resolved(params: SamplingParams | None, sampling: Mapping[str, Any]) -> SamplingParams:
    """The params that a call means by an object, by keyword arguments, or by both."""
    if params is not None and not isinstance(params, SamplingParams):
        raise InvalidRequest(f"params: expected SamplingParams, got {type(params).__name__}")
    if not sampling:
        return params or SamplingParams()
    try:
        return params.replace(**sampling) if params is not None else SamplingParams(**sampling)
    except TypeError as error:
        known = ", ".join(SamplingParams.__slots__)
        raise InvalidRequest(f"unknown sampling parameter ({error}); the known ones are {known}") from None
