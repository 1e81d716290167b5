"""What the scheduler asks of an executor and what it gets back: plain data, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

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


class Executor(Protocol):
    """Runs plans. The scheduler never sees one; the engine's loop, a test or a simulator holds both."""

    def run(self, plan: Plan) -> StepResult: ...
