"""One request in flight, beside its scheduling: how it samples, what it has written, what it reports and when."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from .clock import Clock
from .results import Delta, Distribution, Generation, Timings, TokenLogprobs, Usage
from .sampling.params import SamplingParams
from .sampling.sampler import Choice, RowState, Sampler
from .scheduling.finish import Finish
from .scheduling.request import Request
from .stream import Stream
from .text.detokenizer import Detokenizer
from .text.stopping import Stopping
from .text.tokenizer import Tokenizer


class Ticket:
    """Lives on the engine's thread from submission to the end; the caller holds its stream."""

    __slots__ = (
        "_clock", "_deltas", "_logprobs", "_prompt_logprobs", "_stopping", "_submitted", "_text", "_unsent",
        "computed", "index", "next_token", "params", "prompt", "request", "row", "stream",
    )  # fmt: skip

    def __init__(
        self,
        *,
        request_id: int,
        tokens: list[int],
        params: SamplingParams,
        index: int,
        row: RowState,
        stopping: Stopping,
        namespace: Hashable,
        room: int,
        stream: Stream,
        clock: Clock,
        deltas: bool,
    ) -> None:
        self.prompt = tuple(tokens)
        self.params = params
        self.computed = 0  # tokens run through the model for it, a retracted request's second run included
        self.index = index
        self.row = row
        self.stream = stream
        self.next_token: Distribution | None = None
        self._stopping = stopping
        self._clock = clock
        self._deltas = deltas  # whether anybody wants to hear before the end
        self._text: list[str] = []
        self._submitted = clock.now()
        self._logprobs: list[TokenLogprobs] | None = None if params.logprobs is None else []
        self._prompt_logprobs: dict[int, TokenLogprobs] = {}
        self._unsent: list[int] = []
        self.request = Request(
            request_id,
            tokens,
            max_new_tokens=room if params.max_tokens is None else min(params.max_tokens, room),
            priority=-params.priority,  # a caller's smaller number goes first, the scheduler's larger one
            namespace=namespace,
            recompute_from=None if params.prompt_logprobs is None else max(0, params.prompt_logprobs_start - 1),
            arrival=self._submitted,
            stopper=self,
        )

    @classmethod
    def open(
        cls,
        *,
        request_id: int,
        tokens: list[int],
        params: SamplingParams,
        index: int,
        namespace: Hashable,
        context_length: int,
        tokenizer: Tokenizer,
        sampler: Sampler,
        clock: Clock,
        stream: Stream,
        deltas: bool,
    ) -> Ticket:
        """Everything a new request needs; raises InvalidRequest for what only the model can judge."""
        room = max(0, context_length - len(tokens))
        detokenizer = Detokenizer(tokenizer, skip_special_tokens=params.skip_special_tokens)
        return cls(
            request_id=request_id,
            tokens=tokens,
            params=params,
            index=index,
            row=sampler.row(params, tokens, index=index),
            stopping=Stopping(params, detokenizer, eos_tokens=tokenizer.eos_ids, room=room),
            namespace=namespace,
            room=room,
            stream=stream,
            clock=clock,
            deltas=deltas,
        )

    def accept(self, request: Request, new_tokens: Sequence[int]) -> Finish | None:
        """The scheduler asks whether these tokens end the request (its Stopper)."""
        return self._stopping.push(new_tokens)

    # -- during a step --------------------------------------------------------------------------------------------

    def reported(self, start: int, stop: int) -> range:
        """Positions of [start, stop) whose logits say something about the next prompt token that is reported."""
        if self.params.prompt_logprobs is None:
            return range(0)
        first = max(0, self.params.prompt_logprobs_start - 1)
        return range(max(start, first), min(stop, len(self.prompt) - 1))

    def record_prompt(self, sampler: Sampler, positions: range, logits: torch.Tensor) -> None:
        """Keep what the logits [len(positions), vocabulary] say about the prompt tokens after these positions."""
        tokens = [self.prompt[position + 1] for position in positions]
        top = self.params.prompt_logprobs or 0
        for position, entry in zip(positions, sampler.token_logprobs(logits, tokens, top), strict=True):
            self._prompt_logprobs[position + 1] = entry

    def record(self, choice: Choice) -> None:
        """A chosen token was committed: count it, keep its log-probability, and tell whoever listens.

        Raises what the listener's callback raises.
        """
        token = choice.token
        assert token is not None
        self.row.accept((token,))
        if self._logprobs is not None and choice.logprobs is not None:
            self._logprobs.append(choice.logprobs)
        if self._deltas:
            self._unsent.append(token)
            if self.request.finish is None:
                self._send()

    def _send(self) -> None:
        tokens = tuple(self._unsent)
        self._unsent.clear()
        self.stream.publish(Delta(self._take(), tokens, logprobs=self._newest(len(tokens)), index=self.index))

    def _take(self) -> str:
        text = self._stopping.take()
        self._text.append(text)
        return text

    def _newest(self, count: int) -> tuple[TokenLogprobs, ...] | None:
        return None if self._logprobs is None else tuple(self._logprobs[len(self._logprobs) - count :])

    # -- at the end -----------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Publish the last delta and close the stream with the whole answer."""
        self._stopping.close()
        last = self._take()
        generation = self.generation()
        if self._deltas:
            delta = Delta(
                last,
                tuple(self._unsent),
                finish_reason=generation.finish_reason,
                logprobs=self._newest(len(self._unsent)),
                index=self.index,
                stop_matched=generation.stop_matched,
                usage=generation.usage,
            )
            self.stream.publish(delta)
        self.stream.close(generation)

    def generation(self) -> Generation:
        request, finish = self.request, self.request.finish
        output = tuple(request.output)
        return Generation(
            text="".join(self._text),
            token_ids=output,
            finish_reason="abort" if finish is None else finish.reason,
            stop_matched=None if finish is None else finish.matched,
            usage=Usage(
                prompt_tokens=len(self.prompt),
                cached_tokens=request.cached_tokens,
                completion_tokens=len(output),
                computed_tokens=self.computed,
            ),
            timings=self._timings(),
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
            prompt_logprobs=self._prompt_report(),
            prompt_token_ids=self.prompt,
            index=self.index,
            next_token=self.next_token,
        )

    def _prompt_report(self) -> tuple[TokenLogprobs | None, ...] | None:
        if self.params.prompt_logprobs is None:
            return None
        first = self.params.prompt_logprobs_start
        return tuple(self._prompt_logprobs.get(position) for position in range(first, len(self.prompt)))

    def _timings(self) -> Timings:
        now, request = self._clock.now(), self.request
        ended = now if request.finished_at is None else request.finished_at
        admitted = ended if request.admitted_at is None else request.admitted_at
        first = request.first_token_at
        return Timings(
            queued_s=admitted - self._submitted,
            prefill_s=(ended if first is None else first) - admitted,
            decode_s=0.0 if first is None else ended - first,
            total_s=ended - self._submitted,
            time_to_first_token_s=None if first is None else first - self._submitted,
        )
