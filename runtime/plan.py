"""What the scheduler asks of an executor and what it gets back: plain data, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .request import Request


@dataclass(frozen=True, slots=True)
class Chunk:
    """One request's share of a step: compute `length` of its tokens from `start`, over its first pages."""

    request: Request
    start: int  # position of the first token computed
    length: int
    pages: Sequence[int]  # the page table that covers [0, start + length)
    samples: bool  # the chunk ends at the request's last token: choose the next one

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: which tokens of which requests are computed together."""

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
