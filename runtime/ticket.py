"""One request in flight, beside its scheduling: how it samples, what it has written, what it reports and when."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial

import torch

from ..errors import InvalidRequest
from .clock import Clock
from .page_table import PageTable
from .results import Delta, Distribution, Generation, Timings, TokenLogprobs, Usage
from .sampling.constraint import Matcher
from .sampling.params import SamplingParams
from .sampling.sampler import Choice, RowState, Sampler
from .scheduling.finish import Finish
from .scheduling.request import Request, Rewrite
from .stream import Stream
from .text.detokenizer import Detokenizer
from .text.jump_forward import JumpForward
from .text.stopping import Stopping
from .text.tokenizer import Tokenizer


class Ticket:
    """Lives on the engine's thread from submission to the end; the caller holds its stream."""

    __slots__ = (
        "_choice", "_clock", "_deltas", "_jumps", "_logprobs", "_prompt_logprobs", "_replaced", "_stopping",
        "_submitted", "_text", "_unsent",
        "computed", "forced", "index", "next_token", "pages", "params", "prompt", "request", "row", "stream",
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
        self.pages = PageTable()  # for the executor
        self.forced = 0  # output tokens that no step was spent on choosing
        self._choice: Choice | None = None  # of the step under way
        self._jumps: JumpForward | None = None
        self._stopping = stopping
        self._clock = clock
        self._deltas = deltas  # whether anybody wants to hear before the end
        self._text: list[str] = []
        self._submitted = clock.now()
        # None where a token was forced and has not been through the model yet
        self._logprobs: list[TokenLogprobs | None] | None = None if params.logprobs is None else []
        self._prompt_logprobs: dict[int, TokenLogprobs] = {}
        self._unsent: list[int] = []
        self._replaced = 0  # tokens that were sent, and gave way to others
        self.request = Request(
            request_id,
            tokens,
            max_new_tokens=room if params.max_tokens is None else min(params.max_tokens, room),
            priority=-params.priority,  # a caller's smaller number goes first, the scheduler's larger one
            namespace=namespace,
            recompute_from=None if params.prompt_logprobs is None else max(0, params.prompt_logprobs_start - 1),
            arrival=self._submitted,
            stopper=self,
            waits=params.constraint is not None and params.max_tokens != 0,
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

    # -- what its text must obey ----------------------------------------------------------------------------------

    def constrain(self, matcher: Matcher, jumps: JumpForward | None) -> Rewrite | None:
        """From now on the text obeys the matcher; with `jumps`, what it forces is appended without steps.

        Returns what the output begins with, if that is forced. To be called once, before a token is chosen.
        """
        before = self.params.continues
        if before is not None and not matcher.accept_bytes(before.encode()):
            raise InvalidRequest(f"continues={before[-40:]!r}: the constraint does not allow this text")
        self.row.matcher = matcher
        self._jumps = jumps
        if jumps is not None and self._logprobs is not None and self._stopping.searching:
            self._jumps = None  # a stop in forced text would end the answer before its log-probabilities are known
        return self._jump(None)

    def _jump(self, finish: Finish | None) -> Rewrite | None:
        """Append what is forced now; `finish` is how the output ended without that, if it did."""
        matcher, request = self.row.matcher, self.request
        if matcher is None or self._jumps is None or finish is not None:
            return None
        output = request.output
        self.row.narrow = None
        jump = self._jumps.plan(matcher, output, request.limit - request.prompt_length)
        if jump is None:
            return None
        tokens, ends = jump.tokens, jump.ends
        if self._logprobs is not None and (ends or len(output) - jump.drop + len(tokens) >= request.limit):
            return None  # the last token is chosen as usual: its step computes the others' log-probabilities
        if jump.opening is not None:
            self.row.narrow = partial(self._jumps.narrowed, jump.opening)
        if not tokens:
            return None
        keep = len(output) - jump.drop
        finish = self._stopping.rewrite(jump.drop, tokens, len(jump.data))
        tokens = tokens[: self._stopping.count - keep]
        matcher.accept_bytes(jump.data)
        if ends and (finish is None or finish.reason == "length"):
            finish = self._stopping.end(Finish("stop"))
        self._put(output[keep:], tokens)
        return Rewrite(keep, tokens, finish, judged=self._logprobs is not None)

    def _put(self, old: Sequence[int], new: Sequence[int]) -> None:
        """Forced tokens take the place of the last ones: in the sampler's books, the report and what was sent."""
        self.row.take_back(old)
        self.row.accept(new)
        self.forced += max(0, len(new) - len(old))
        if self._logprobs is not None:
            del self._logprobs[len(self._logprobs) - len(old) :]
            self._logprobs += [None] * len(new)
        if self._deltas:
            unsent = min(len(old), len(self._unsent))
            del self._unsent[len(self._unsent) - unsent :]
            self._replaced += len(old) - unsent
            self._unsent += new

    # -- during a step --------------------------------------------------------------------------------------------

    def reported(self, start: int, stop: int) -> list[int]:
        """Positions of [start, stop) whose logits say something about the next token, when that is reported.

        Tokens of the prompt, and forced ones.
        """
        positions: list[int] = []
        last = len(self.prompt) - 1  # it judges the first of the output
        if self.params.prompt_logprobs is not None:
            positions += range(max(start, self.params.prompt_logprobs_start - 1, 0), min(stop, last))
        if self._logprobs is not None and stop > last:
            known = self._logprobs
            positions += [
                at for at in range(max(start, last), min(stop, last + len(known))) if known[at - last] is None
            ]
        return positions

    def record_reported(self, sampler: Sampler, positions: Sequence[int], logits: torch.Tensor) -> None:
        """Keep what the logits [len(positions), vocabulary] say about the tokens after these positions."""
        last = len(self.prompt) - 1
        inside = sum(position < last for position in positions)
        if inside:
            tokens = [self.prompt[position + 1] for position in positions[:inside]]
            entries = sampler.token_logprobs(logits[:inside], tokens, self.params.prompt_logprobs or 0)
            self._prompt_logprobs |= {position + 1: entry for position, entry in zip(positions, entries, strict=False)}
        if self._logprobs is not None and inside < len(positions):
            tokens = [self.request.output[position - last] for position in positions[inside:]]
            entries = sampler.token_logprobs(logits[inside:], tokens, self.params.logprobs or 0)
            for position, entry in zip(positions[inside:], entries, strict=True):
                self._logprobs[position - last] = entry

    def offer(self, choice: Choice) -> None:
        """What the step chose, before it is committed."""
        self._choice = choice

    def accept(self, request: Request, new_tokens: Sequence[int]) -> Finish | Rewrite | None:
        """The scheduler asks what becomes of the chosen tokens (its Stopper): whether they end it, what is forced."""
        finish = self._stopping.push(new_tokens)
        new_tokens = new_tokens[: len(new_tokens) - (len(request.output) - self._stopping.count)]  # up to the stop
        self.row.accept(new_tokens)
        finish = self._follow(new_tokens, finish)
        if self._logprobs is not None and self._choice is not None and self._choice.logprobs is not None:
            self._logprobs.append(self._choice.logprobs)
        if self._deltas:
            self._unsent += new_tokens
        if self._stopping.count < len(request.output):
            return Rewrite(self._stopping.count, finish=finish)
        return self._jump(finish) or finish

    def _follow(self, tokens: Sequence[int], finish: Finish | None) -> Finish | None:
        """The matcher goes on with the tokens; a text that is complete ends, unless a stop has ended it before."""
        matcher = self.row.matcher
        if matcher is None:
            return finish
        for token in tokens:
            if not matcher.accept(token):
                raise AssertionError(f"token {token} was chosen and is not allowed by the grammar")
        if matcher.finished and (finish is None or finish.reason == "length"):
            return self._stopping.end(Finish("stop"))
        return finish

    def tell(self) -> None:
        """The step was committed: tell whoever listens what is new. Raises what the listener's callback raises."""
        if not self._deltas or self.request.finish is not None or not self._unsent:
            return
        if self._logprobs is None or None not in self._logprobs[len(self._logprobs) - len(self._unsent) :]:
            self._send()

    def _send(self) -> None:
        tokens, replaced = tuple(self._unsent), self._replaced
        self._unsent.clear()
        self._replaced = 0
        newest = self._newest(len(tokens))
        self.stream.publish(Delta(self._take(), tokens, logprobs=newest, index=self.index, replaces=replaced))

    def _take(self) -> str:
        text = self._stopping.take()
        self._text.append(text)
        return text

    def _newest(self, count: int) -> tuple[TokenLogprobs, ...] | None:
        return None if self._logprobs is None else known(self._logprobs[len(self._logprobs) - count :])

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
                replaces=self._replaced,
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
                forced_tokens=self.forced,
                computed_tokens=self.computed,
            ),
            timings=self._timings(),
            logprobs=None if self._logprobs is None else known(self._logprobs),
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


def known(entries: Sequence[TokenLogprobs | None]) -> tuple[TokenLogprobs, ...]:
    """Those that were computed: all of them, unless an abort came between forced tokens and their step."""
    return tuple(entry for entry in entries if entry is not None)
