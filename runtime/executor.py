"""Turns a plan into one forward pass and its rows of logits into choices: the only place where a step meets tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch

from ..kernels.ops import Columns, Step
from .sampling.sampler import Choice, Sampler
from .scheduling.plan import Plan, StepResult
from .ticket import Ticket


@dataclass(frozen=True, slots=True)
class ModelStepResult(StepResult):
    """A step's result with what the sampler had to say about each choice."""

    choices: Mapping[int, Choice] = field(default_factory=dict)

    @classmethod
    def failed(cls, plan: Plan, error: Exception) -> ModelStepResult:
        """Every request of the plan ends with this error."""
        return cls(tokens={}, errors={chunk.request.id: error for chunk in plan.chunks})


class Wanted(NamedTuple):
    """Rows of logits from `row` on: one for each reported position, or, without any, the one that a choice is from."""

    ticket: Ticket
    row: int
    reported: Sequence[int] = ()


class ModelExecutor:
    """Runs plans on a compiled model. Knows each admitted request's ticket; holds nothing of a released one."""

    def __init__(self, forward: Callable[[Step], torch.Tensor], sampler: Sampler, page_size: int) -> None:
        self._forward = forward
        self._sampler = sampler
        self._page_size = page_size
        self._tickets: dict[int, Ticket] = {}
        self.forward_seconds = 0.0  # spent in the model itself; the rest of a step is ours

    def admit(self, ticket: Ticket) -> None:
        self._tickets[ticket.request.id] = ticket

    def release(self, ticket: Ticket) -> None:
        self._tickets.pop(ticket.request.id, None)

    def run(self, plan: Plan) -> ModelStepResult:
        errors = self._look(plan)
        step, wanted = self._step(plan)
        started = perf_counter()
        logits = self._forward(step)  # [R, vocabulary]
        self.forward_seconds += perf_counter() - started
        choosing: list[tuple[Ticket, int]] = []
        for one in wanted:
            request_id = one.ticket.request.id
            if one.reported:
                try:
                    rows = logits[one.row : one.row + len(one.reported)]
                    one.ticket.record_reported(self._sampler, one.reported, rows)
                except Exception as error:
                    errors[request_id] = error
            elif request_id not in errors:
                choosing.append((one.ticket, one.row))
        return self._choose(logits, choosing, errors)

    def _look(self, plan: Plan) -> dict[int, Exception]:
        """Ask the grammars of those that will choose a token what they allow; the errors of those that cannot say."""
        errors: dict[int, Exception] = {}
        for chunk in plan.chunks:
            if chunk.samples:
                try:
                    self._tickets[chunk.request.id].row.look()
                except Exception as error:
                    errors[chunk.request.id] = error
        return errors

    def _step(self, plan: Plan) -> tuple[Step, list[Wanted]]:
        """The ragged batch of a plan, and whose logits are wanted: to report on known tokens, and to choose new ones.

        Rows of which a grammar allows only a few tokens come last, and only those tokens' logits are asked for.
        """
        tokens: list[int] = []
        positions: list[int] = []
        pages: list[int] = []
        query_start, page_start = [0], [0]
        context: list[int] = []
        logit_rows: list[int] = []
        wanted: list[Wanted] = []
        few: list[tuple[Ticket, int]] = []
        for chunk in plan.chunks:
            start, stop = chunk.start, chunk.stop
            first_row = query_start[-1]
            tokens += chunk.request.tokens[start:stop]
            positions += range(start, stop)
            pages += chunk.pages[: -(-stop // self._page_size)]
            query_start.append(first_row + chunk.length)
            page_start.append(len(pages))
            context.append(stop)
            ticket = self._tickets[chunk.request.id]
            ticket.computed += chunk.length
            reported = ticket.reported(start, stop)
            if reported:
                wanted.append(Wanted(ticket, len(logit_rows), reported))
                logit_rows += [first_row + position - start for position in reported]
            if chunk.samples and ticket.row.allowed is not None and ticket.params.logprobs is None:
                few.append((ticket, query_start[-1] - 1))
            elif chunk.samples:
                wanted.append(Wanted(ticket, len(logit_rows)))
                logit_rows.append(query_start[-1] - 1)
        columns = None
        if few:
            ids = [ticket.row.allowed for ticket, _ in few if ticket.row.allowed is not None]
            starts = [0] * len(logit_rows) + [0, *accumulate(map(len, ids))]
            columns = Columns(_ints(starts), np.concatenate(ids))
            for ticket, row in few:
                wanted.append(Wanted(ticket, len(logit_rows)))
                logit_rows.append(row)
        step = Step(
            tokens=_ints(tokens),
            positions=_ints(positions),
            query_start=_ints(query_start),
            context=_ints(context),
            pages=_ints(pages),
            page_start=_ints(page_start),
            logit_rows=_ints(logit_rows),
            columns=columns,
        )
        return step, wanted

    def _choose(
        self, logits: torch.Tensor, choosing: list[tuple[Ticket, int]], errors: dict[int, Exception]
    ) -> ModelStepResult:
        chosen: dict[int, Choice] = {}
        tokens: dict[int, tuple[int, ...]] = {}
        drawing = []
        for ticket, row in choosing:
            if ticket.params.max_tokens == 0:
                ticket.next_token = self._sampler.distribution(logits[row])
                tokens[ticket.request.id] = ()
            else:
                drawing.append((ticket, row))
        if drawing:
            choices = self._sampler.sample(logits, [ticket.row for ticket, _ in drawing], [row for _, row in drawing])
            for (ticket, _), choice in zip(drawing, choices, strict=True):
                if choice.token is None:
                    errors[ticket.request.id] = choice.error or RuntimeError("no token was chosen")
                else:
                    ticket.offer(choice)
                    chosen[ticket.request.id] = choice
                    tokens[ticket.request.id] = (choice.token,)
        return ModelStepResult(tokens=tokens, errors=errors, choices=chosen)


def _ints(values: Iterable[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, dtype=np.int32)
