"""What the scheduler asks of an executor and what it gets back: plain data, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from ...errors import RequestFailed
from .request import Request


@dataclass(frozen=True, slots=True)
class Chunk:
    """One request's share of a step: compute `length` of its tokens from `start`, over its first pages.

    `pages` is the request's own list, not a copy. While it is the same object from step to step, it has only grown
    at its end, so what was derived from it can be kept; after a retraction, or when a page was exchanged for an
    equal one, it is another object.
    """

    request: Request
    start: int  # position of the first token computed
    length: int
    pages: Sequence[int]  # the page table; covers at least [0, start + length)
    samples: bool  # the chunk ends at the request's last token: choose the next one
    follows: bool = False  # its token is not known yet: it is the one that the plan before chooses

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: which tokens of which requests are computed together. A request has at most one chunk in it."""

    step: int
    chunks: tuple[Chunk, ...]

    @property
    def tokens(self) -> int:
        return sum(chunk.length for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step produced, by request id: the chosen tokens, or the error that ends that request alone."""

    tokens: Mapping[int, Sequence[int]]
    errors: Mapping[int, Exception] = field(default_factory=dict)


class DeviceFull(RequestFailed):
    """The device has no memory left to run this step; a smaller one may run."""


class Executor(Protocol):
    """Runs plans. The scheduler never sees one; the engine's loop, a test or a simulator holds both."""

    def run(self, plan: Plan) -> StepResult: ...


class Flight(Protocol):
    """A step on its way, between its launch and its result."""

    @property
    def plan(self) -> Plan: ...

    @property
    def grounded(self) -> bool:
        """Whether the host must see this step's logits: nothing may be launched before it is collected."""
        ...


F = TypeVar("F", bound=Flight)


class OverlapExecutor(Protocol[F]):
    """Runs plans in two halves, on a device that does by itself what it is told, in the order in which it is told."""

    def launch(self, plan: Plan, before: F | None) -> F:
        """Begin to compute; does not wait. `before` is the step in flight, which has chosen and was not collected:
        chunks that follow it take the tokens that it chooses."""
        ...

    def choose(self, flight: F, live: Mapping[int, Chunk]) -> None:
        """Begin to choose tokens for these of its chunks (`Scheduler.live`), once the step before is committed."""
        ...

    def collect(self, flight: F) -> StepResult:
        """Wait for what was chosen."""
        ...
