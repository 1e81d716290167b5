"""An executor whose steps are begun and read later: the device chooses, and the next step follows unread draws.

Only who must see logits is served by the host: reports on known tokens, whole distributions, callbacks that edit rows.
A step that has such a row is grounded: nothing is launched before it is collected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch

from ..kernels.draws import Chosen, Draws
from ..kernels.ops import Step
from .batch import Wanted, ragged
from .executor import ModelExecutor, memory_of_the_device, offered
from .sampling.drawing import Drawing
from .sampling.sampler import Sampler
from .scheduling.plan import Chunk, Plan, StepResult
from .ticket import Ticket


@dataclass(slots=True)
class ModelFlight:
    """A step on its way: launched, then chosen from, then collected."""

    plan: Plan
    wanted: list[Wanted]
    logits: torch.Tensor | None  # [R, vocabulary], until tokens are chosen
    grounded: bool
    drawn: list[Ticket] = field(default_factory=list)  # in the order of the draws
    chosen: Chosen | None = None
    tokens: dict[int, Sequence[int]] = field(default_factory=dict)  # chosen by the host
    errors: dict[int, Exception] = field(default_factory=dict)


class DeviceExecutor(ModelExecutor):
    """Runs plans in two halves on a compute that `chooses`: see OverlapExecutor."""

    def __init__(
        self,
        forward: Callable[[Step], torch.Tensor],
        choose: Callable[[torch.Tensor, Draws], Chosen],
        sampler: Sampler,
        page_size: int,
    ) -> None:
        super().__init__(forward, sampler, page_size)
        self._choose_there = choose
        self._drawing = Drawing(sampler.vocabulary, sampler.text_of)

    def launch(self, plan: Plan, before: ModelFlight | None) -> ModelFlight:
        """Begin the forward pass. Raises DeviceFull when there is no memory for it."""
        draws = None if before is None else {ticket.request.id: draw for draw, ticket in enumerate(before.drawn)}
        step, wanted = ragged(plan, self._tickets, self._page_size, draws=draws)
        started = perf_counter()
        with memory_of_the_device():
            logits = self._forward(step)
        self.forward_seconds += perf_counter() - started
        return ModelFlight(plan, wanted, logits, any(one.reported or on_host(one.ticket) for one in wanted))

    def choose(self, flight: ModelFlight, live: Mapping[int, Chunk]) -> None:
        """Begin to draw tokens; what the host does itself is done when this returns."""
        logits, errors = flight.logits, flight.errors
        assert logits is not None, "tokens are chosen once"
        for request_id, chunk in live.items():
            self._tickets[request_id].computed += chunk.length
        wanted = [one for one in flight.wanted if one.ticket.request.id in live]
        choosing = [one for one in wanted if not one.reported and live[one.ticket.request.id].samples]
        errors |= self._look(one.ticket for one in choosing)
        self._report(logits, wanted, errors)
        choosing = [one for one in choosing if one.ticket.request.id not in errors]
        there = [one for one in choosing if not on_host(one.ticket)]
        here = [one for one in choosing if on_host(one.ticket)]
        flight.drawn = [one.ticket for one in there]
        draws = self._drawing.draws([one.ticket.row for one in there], [one.row for one in there])
        with memory_of_the_device():
            flight.chosen = self._choose_there(logits, draws)
        if here:
            rows = logits[[one.row for one in here]]
            flight.tokens |= self._choose(rows, [one.ticket for one in here], range(len(here)), errors)
        flight.logits = None

    def collect(self, flight: ModelFlight) -> StepResult:
        """Wait for the draws."""
        assert flight.chosen is not None, "nothing was chosen yet"
        started = perf_counter()
        chosen = flight.chosen.read()
        self.forward_seconds += perf_counter() - started
        choices = self._drawing.choices([ticket.row for ticket in flight.drawn], chosen)
        tokens = flight.tokens | offered(flight.drawn, choices, flight.errors)
        return StepResult(tokens, flight.errors)


def on_host(ticket: Ticket) -> bool:
    """Whether only the host can do what this request asks for."""
    return ticket.params.max_tokens == 0 or ticket.row.edit is not None
