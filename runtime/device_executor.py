"""An executor whose steps are begun and read later: the device chooses, and the next step follows unread draws.

Logits that the host must see (to report on known tokens, as whole distributions) travel to it behind the step. Where it
must see them before a token is chosen (callbacks that edit rows), or where they are many, the step is grounded: nothing
is launched before it is collected.
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

MOST_SEEN = 64  # rows of logits that are kept on the host for one step in flight


@dataclass(slots=True)
class ModelFlight:
    """A step on its way: launched, then chosen from, then collected."""

    plan: Plan
    wanted: list[Wanted]
    logits: torch.Tensor | None  # [R, vocabulary], until tokens are chosen
    grounded: bool
    drawn: list[Ticket] = field(default_factory=list)  # in the order of the draws
    chosen: Chosen | None = None
    seen: list[tuple[Wanted, torch.Tensor]] = field(default_factory=list)  # logits, there once the draws are
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
        rows = sum(len(one.reported) or distributed(one) for one in wanted)
        return ModelFlight(plan, wanted, logits, rows > MOST_SEEN or any(map(edited, wanted)))

    def choose(self, flight: ModelFlight, live: Mapping[int, Chunk]) -> None:
        """Begin to draw tokens, and to bring home what the host must see."""
        logits, errors = flight.logits, flight.errors
        assert logits is not None, "tokens are chosen once"
        for request_id, chunk in live.items():
            self._tickets[request_id].computed += chunk.length
        wanted = [one for one in flight.wanted if one.ticket.request.id in live]
        choosing = [one for one in wanted if not one.reported and live[one.ticket.request.id].samples]
        errors |= self._look(one.ticket for one in choosing)
        choosing = [one for one in choosing if one.ticket.request.id not in errors]
        seen = [one for one in wanted if one.reported] + [one for one in choosing if distributed(one)]
        here = [one for one in choosing if edited(one)]
        there = [one for one in choosing if not edited(one) and not distributed(one)]
        flight.drawn = [one.ticket for one in there]
        draws = self._drawing.draws([one.ticket.row for one in there], [one.row for one in there])
        with memory_of_the_device():
            flight.seen = [(one, logits[one.rows] if flight.grounded else homeward(logits[one.rows])) for one in seen]
            flight.chosen = self._choose_there(logits, draws)
        if here:
            rows = logits[[one.row for one in here]]
            flight.tokens |= self._choose(rows, [one.ticket for one in here], range(len(here)), errors)
        flight.logits = None

    def collect(self, flight: ModelFlight) -> StepResult:
        """Wait for the draws, and with them for all that was launched before them."""
        assert flight.chosen is not None, "nothing was chosen yet"
        started = perf_counter()
        chosen = flight.chosen.read()
        self.forward_seconds += perf_counter() - started
        self._report([(one, rows) for one, rows in flight.seen if one.reported], flight.errors)
        for one, rows in flight.seen:
            if not one.reported:
                one.ticket.next_token = self._sampler.distribution(rows[0])
                flight.tokens[one.ticket.request.id] = ()
        choices = self._drawing.choices([ticket.row for ticket in flight.drawn], chosen)
        return StepResult(flight.tokens | offered(flight.drawn, choices, flight.errors), flight.errors)


def distributed(one: Wanted) -> bool:
    """Whether the row is wanted whole, and no token of it."""
    return not one.reported and one.ticket.params.max_tokens == 0


def edited(one: Wanted) -> bool:
    """Whether a callback changes the row before a token is chosen: that is for the host."""
    return not one.reported and not distributed(one) and one.ticket.row.edit is not None


def homeward(rows: torch.Tensor) -> torch.Tensor:
    """A copy for the host. It is there when anything that is launched next on the device has come to its end."""
    if rows.device.type != "cuda":
        return rows.clone()
    home = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    return home.copy_(rows, non_blocking=True)
