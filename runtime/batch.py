"""From a plan to the arrays of one forward pass, and whose logits are wanted of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ..kernels.draws import Ints
from ..kernels.ops import Columns, Step
from .scheduling.plan import Plan
from .ticket import Ticket


class Wanted(NamedTuple):
    """Rows of logits from `row` on: one for each reported position, or, without any, the one that a choice is from."""

    ticket: Ticket
    row: int
    reported: Sequence[int] = ()

    @property
    def rows(self) -> slice:
        """All of them."""
        return slice(self.row, self.row + max(1, len(self.reported)))


class Batch(NamedTuple):
    """A step, and the uses of its rows of logits."""

    step: Step
    wanted: list[Wanted]


def ragged(
    plan: Plan,
    tickets: Mapping[int, Ticket],
    page_size: int,
    *,
    draws: Mapping[int, int] | None = None,
    few: bool = False,
) -> Batch:
    """The ragged batch of a plan; logits are wanted to report on known tokens, and to choose new ones.

    `draws` are those of the step before, by request: chunks that follow it take their tokens. With `few`, rows of
    which a grammar allows only a few tokens come last, and only those tokens' logits are asked for.
    """
    tokens: list[int] = []
    follows: list[int] = []
    positions: list[int] = []
    tables: list[Ints] = []
    query_start, page_start = [0], [0]
    context: list[int] = []
    logit_rows: list[int] = []
    wanted: list[Wanted] = []
    narrow: list[tuple[Ticket, int]] = []
    for chunk in plan.chunks:
        start, stop = chunk.start, chunk.stop
        first_row = query_start[-1]
        if chunk.follows:
            tokens.append(0)  # unless the draw says another
            follows.append(-1 if draws is None else draws.get(chunk.request.id, -1))
        else:
            tokens += chunk.request.tokens[start:stop]
            follows += [-1] * chunk.length
        positions += range(start, stop)
        ticket = tickets[chunk.request.id]
        tables.append(ticket.pages.first(chunk.pages, -(-stop // page_size)))
        query_start.append(first_row + chunk.length)
        page_start.append(page_start[-1] + len(tables[-1]))
        context.append(stop)
        reported = ticket.reported(start, stop)
        if reported:
            wanted.append(Wanted(ticket, len(logit_rows), reported))
            logit_rows += [first_row + position - start for position in reported]
        if few and chunk.samples and ticket.row.allowed is not None and ticket.params.logprobs is None:
            narrow.append((ticket, query_start[-1] - 1))
        elif chunk.samples:
            wanted.append(Wanted(ticket, len(logit_rows)))
            logit_rows.append(query_start[-1] - 1)
    columns = None
    if narrow:
        ids = [ticket.row.allowed for ticket, _ in narrow if ticket.row.allowed is not None]
        starts = [0] * len(logit_rows) + [0, *accumulate(map(len, ids))]
        columns = Columns(_ints(starts), np.concatenate(ids))
        for ticket, row in narrow:
            wanted.append(Wanted(ticket, len(logit_rows)))
            logit_rows.append(row)
    step = Step(
        tokens=_ints(tokens),
        positions=_ints(positions),
        query_start=_ints(query_start),
        context=_ints(context),
        pages=np.concatenate(tables),
        page_start=_ints(page_start),
        logit_rows=_ints(logit_rows),
        columns=columns,
        follows=_ints(follows) if max(follows) >= 0 else None,
    )
    return Batch(step, wanted)


def _ints(values: Iterable[int]) -> Ints:
    return np.array(values, dtype=np.int32)
