"""The order of planning, running and committing: one step after the other, or each planned while the last one runs.

Overlapped, the host works for one step while the device computes the next:

    device    forward n ──── draw n ─ forward n+1 ──────────── draw n+1 ─ forward n+2 ─────
    host      plan n+1, launch │ wait for n, commit n, draw n+1 │ tell, plan n+2, launch │ wait for n+1 ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol

from .plan import DeviceFull, Executor, F, OverlapExecutor, Plan, StepResult
from .request import Request
from .scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Committed:
    """A step that is over: what it produced, and the requests that it finished, failed ones included."""

    plan: Plan
    result: StepResult
    finished: Sequence[Request]


class Stepping(Protocol):
    """Carries a scheduler's work forward. An error in a step fails the requests of that step and no others."""

    @property
    def busy(self) -> bool:
        """Whether a step is in flight."""
        ...

    def step(self) -> list[Committed]:
        """Plan and launch a step, if there is one; returns those that were committed meanwhile."""
        ...

    def drain(self) -> list[Committed]:
        """Wait for what is in flight and commit it."""
        ...


class OneByOne:
    """Each step is committed before the next is planned."""

    busy = False

    def __init__(self, scheduler: Scheduler, executor: Executor) -> None:
        self._scheduler = scheduler
        self._executor = executor

    def step(self) -> list[Committed]:
        plan = self._scheduler.plan()
        if plan is None:
            return []
        try:
            result = self._executor.run(plan)
        except DeviceFull as full:
            return [withdrawn(self._scheduler, plan, full)]
        except Exception as error:
            result = failed(plan, error)
        return [Committed(plan, result, self._scheduler.commit(plan, result))]

    def drain(self) -> list[Committed]:
        return []


class Overlapped(Generic[F]):
    """Each step is planned and launched while the one before it runs; the scheduler must allow it (`overlap`).

    Choosing the tokens of a step waits for the commit of the one before, so that masks, penalties and ends are known;
    only its forward pass is ahead. With nothing left to plan, a step drains what is in flight.
    """

    def __init__(self, scheduler: Scheduler, executor: OverlapExecutor[F]) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._flight: F | None = None

    @property
    def busy(self) -> bool:
        return self._flight is not None

    def step(self) -> list[Committed]:
        before = self._flight
        if before is not None and before.grounded:
            return self.drain()
        plan = self._scheduler.plan()
        flight: F | None = None
        problem: Exception | None = None
        if plan is not None:
            try:
                flight = self._executor.launch(plan, before)
            except Exception as error:
                problem = error
        committed = self.drain()
        if plan is None:
            return committed
        if flight is not None:
            try:
                self._executor.choose(flight, self._scheduler.live(plan))
            except Exception as error:
                problem = error
        if isinstance(problem, DeviceFull):
            committed.append(withdrawn(self._scheduler, plan, problem))
        elif problem is not None:
            result = failed(plan, problem)
            committed.append(Committed(plan, result, self._scheduler.commit(plan, result)))
        else:
            self._flight = flight
        return committed

    def drain(self) -> list[Committed]:
        flight, self._flight = self._flight, None
        if flight is None:
            return []
        try:
            result = self._executor.collect(flight)
        except Exception as error:
            result = failed(flight.plan, error)
        return [Committed(flight.plan, result, self._scheduler.commit(flight.plan, result))]


def failed(plan: Plan, error: Exception) -> StepResult:
    """Every request of the plan ends with this error."""
    return StepResult(tokens={}, errors={chunk.request.id: error for chunk in plan.chunks})


def withdrawn(scheduler: Scheduler, plan: Plan, full: DeviceFull) -> Committed:
    """The device had no memory for the plan: nothing came of it, and the next will be smaller."""
    return Committed(plan, StepResult({}), scheduler.withdraw(plan, full))
