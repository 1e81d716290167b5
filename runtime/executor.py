"""Turns a plan into one forward pass and its rows of logits into choices: the only place where a step meets tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch

from ..kernels.ops import Step
from .sampling.sampler import Choice, Sampler
from .scheduling.plan import Chunk, Plan, StepResult
from .ticket import Ticket


@dataclass(frozen=True, slots=True)
class ModelStepResult(StepResult):
    """A step's result with what the sampler had to say about each choice."""

    choices: Mapping[int, Choice] = field(default_factory=dict)

    @classmethod
    def failed(cls, plan: Plan, error: Exception) -> ModelStepResult:
        """Every request of the plan ends with this error."""
        return cls(tokens={}, errors={chunk.request.id: error for chunk in plan.chunks})


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
        step, wanted = self._step(plan)
        started = perf_counter()
        logits = self._forward(step)  # [R, vocabulary]
        self.forward_seconds += perf_counter() - started
        errors: dict[int, Exception] = {}
        choosing: list[tuple[Ticket, int]] = []
        row = 0
        for chunk, positions, samples in wanted:
            ticket = self._tickets[chunk.request.id]
            if positions:
                try:
                    ticket.record_prompt(self._sampler, positions, logits[row : row + len(positions)])
                except Exception as error:
                    errors[chunk.request.id] = error
            row += len(positions)
            if samples:
                choosing.append((ticket, row))
                row += 1
        return self._choose(logits, choosing, errors)

    def _step(self, plan: Plan) -> tuple[Step, list[tuple[Chunk, range, bool]]]:
        """The ragged batch of a plan, and which chunks want logits: for prompt positions, and to choose a token."""
        tokens: list[int] = []
        positions: list[int] = []
        pages: list[int] = []
        query_start, page_start, context, logit_rows = [0], [0], [], []
        wanted: list[tuple[Chunk, range, bool]] = []
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
            if reported or chunk.samples:
                wanted.append((chunk, reported, chunk.samples))
                logit_rows += [first_row + position - start for position in reported]
                if chunk.samples:  # never one of the reported: the last prompt token predicts no prompt token
                    logit_rows.append(query_start[-1] - 1)
        step = Step(
            tokens=_ints(tokens),
            positions=_ints(positions),
            query_start=_ints(query_start),
            context=_ints(context),
            pages=_ints(pages),
            page_start=_ints(page_start),
            logit_rows=_ints(logit_rows),
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
            rows = [row for _, row in drawing]
            every = len(rows) == logits.shape[0]
            choices = self._sampler.sample(logits if every else logits[rows], [ticket.row for ticket, _ in drawing])
            for (ticket, _), choice in zip(drawing, choices, strict=True):
                if choice.token is None:
                    errors[ticket.request.id] = choice.error or RuntimeError("no token was chosen")
                else:
                    chosen[ticket.request.id] = choice
                    tokens[ticket.request.id] = (choice.token,)
        return ModelStepResult(tokens=tokens, errors=errors, choices=chosen)


def _ints(values: Iterable[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, dtype=np.int32)
