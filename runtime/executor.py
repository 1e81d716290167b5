"""Turns a plan into one forward pass, and its rows of logits into choices that the host makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

import torch

from ..kernels.ops import Step
from .batch import Wanted, ragged
from .sampling.sampler import Choice, Sampler
from .scheduling.plan import DeviceFull, Plan, StepResult
from .ticket import Ticket


class ModelExecutor:
    """Runs plans on a compiled model, and chooses on the host.

    Knows each admitted request's ticket; holds nothing of a released one.
    """

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

    def run(self, plan: Plan) -> StepResult:
        """Raises DeviceFull when the model finds no memory."""
        errors = self._look(self._tickets[chunk.request.id] for chunk in plan.chunks if chunk.samples)
        step, wanted = ragged(plan, self._tickets, self._page_size, few=True)
        for chunk in plan.chunks:
            self._tickets[chunk.request.id].computed += chunk.length
        started = perf_counter()
        with memory_of_the_device():
            logits = self._forward(step)  # [R, vocabulary]
        self.forward_seconds += perf_counter() - started
        self._report([(one, logits[one.rows]) for one in wanted if one.reported], errors)
        choosing = [one for one in wanted if not one.reported and one.ticket.request.id not in errors]
        tokens = self._choose(logits, [one.ticket for one in choosing], [one.row for one in choosing], errors)
        return StepResult(tokens, errors)

    def _look(self, tickets: Iterable[Ticket]) -> dict[int, Exception]:
        """Ask the grammars of those that will choose a token what they allow; the errors of those that cannot say."""
        errors: dict[int, Exception] = {}
        for ticket in tickets:
            try:
                ticket.row.look()
            except Exception as error:
                errors[ticket.request.id] = error
        return errors

    def _report(self, seen: Iterable[tuple[Wanted, torch.Tensor]], errors: dict[int, Exception]) -> None:
        """Keep what these rows of logits say about known tokens, where that was asked for."""
        for one, rows in seen:
            try:
                one.ticket.record_reported(self._sampler, one.reported, rows)
            except Exception as error:
                errors[one.ticket.request.id] = error

    def _choose(
        self, logits: torch.Tensor, tickets: Sequence[Ticket], rows: Sequence[int], errors: dict[int, Exception]
    ) -> dict[int, Sequence[int]]:
        """The token of each, by request id (none where only the distribution is asked for); tickets[i] has rows[i]."""
        tokens: dict[int, Sequence[int]] = {}
        drawing: list[tuple[Ticket, int]] = []
        for ticket, row in zip(tickets, rows, strict=True):
            if ticket.params.max_tokens == 0:
                ticket.next_token = self._sampler.distribution(logits[row])
                tokens[ticket.request.id] = ()
            else:
                drawing.append((ticket, row))
        if drawing:
            with torch.inference_mode():  # the logits may be of a kind that is masked in place only there
                choices = self._sampler.sample(logits, [one.row for one, _ in drawing], [row for _, row in drawing])
            tokens |= offered([ticket for ticket, _ in drawing], choices, errors)
        return tokens


def offered(
    tickets: Sequence[Ticket], choices: Sequence[Choice], errors: dict[int, Exception]
) -> dict[int, Sequence[int]]:
    """Tell the tickets what was chosen for them; returns the tokens by request id, and adds to the errors."""
    tokens: dict[int, Sequence[int]] = {}
    for ticket, choice in zip(tickets, choices, strict=True):
        if choice.token is None:
            errors[ticket.request.id] = choice.error or RuntimeError("no token was chosen")
        else:
            ticket.offer(choice)
            tokens[ticket.request.id] = (choice.token,)
    return tokens


@contextmanager
def memory_of_the_device() -> Iterator[None]:
    """What fails for want of the device's memory raises DeviceFull; what torch kept of it unused is given back."""
    try:
        yield
    except torch.OutOfMemoryError as full:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise DeviceFull(
            "the device has no memory left for even one token of this request: give the engine a smaller cache "
            f"(cache_tokens), or close what else uses the device ({str(full).splitlines()[0][:200]})"
        ) from full
