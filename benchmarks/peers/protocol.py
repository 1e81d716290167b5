"""What passes between the driver and a peer's process, and what an adapter of an engine has to offer.

Only the standard library is imported here: each peer has an environment of its own.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


class NotSupportedError(Exception):
    """The engine has no way to do a workload; the message is what the report says."""


class UnequalWorkError(Exception):
    """The engine produced another number of tokens than it was asked for, so its time means nothing."""


@dataclass(frozen=True)
class Request:
    """One prompt of token ids, and exactly how many tokens to make of it."""

    tokens: list[int]
    max_tokens: int
    schema: dict[str, Any] | None = None  # answer in JSON of this schema; max_tokens is then only a limit
    options: list[list[int]] | None = None  # choose the likeliest of these continuations; max_tokens is 0


@dataclass(frozen=True)
class Completion:
    """What an engine made of one request; `cached_tokens` is None when it does not say."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    cached_tokens: int | None = None
    choice: int | None = None


@dataclass(frozen=True)
class Job:
    """What the driver asks of one peer process; read from a JSON file."""

    peer: str
    threads: int
    options: dict[str, Any]
    paths: dict[str, str]
    warm_up: list[dict[str, Any]]
    workloads: list[dict[str, Any]]
    repeats: int
    repeat_budget_seconds: float

    @staticmethod
    def load(path: Path) -> Job:
        return Job(**json.loads(path.read_text()))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


class Adapter(ABC):
    """One engine, loaded and ready; everything is greedy and ignores the end-of-text token."""

    settings: dict[str, Any]  # what was switched on, for the report
    versions: dict[str, str]

    @abstractmethod
    def generate(self, requests: list[Request]) -> list[Completion]:
        """Submit all the requests at once and wait for the last; results are in the order of the requests."""

    def select(self, requests: list[Request]) -> list[Completion]:
        """Choose among each request's options; here the equal work: one token after each option, all at once."""
        expanded = [Request(item.tokens + option, 1) for item in requests for option in item.options or []]
        self.generate(expanded)
        return [Completion() for _ in requests]

    def begin(self, workload: str) -> None:  # noqa: B027 - most engines need not know
        """Told the name of the workload that comes next, before its first reset."""

    def reset(self) -> None:  # noqa: B027 - each repeat has new texts, so doing nothing is right too
        """Forget every cached prefix, where the engine can (each repeat also has texts of its own)."""

    def counters(self) -> dict[str, float]:
        """The engine's own running totals; the report shows their growth over a run."""
        return {}

    def processes(self) -> list[int]:
        """The processes whose memory is the engine's."""
        return [os.getpid()]

    def close(self) -> None:  # noqa: B027 - most end with their process
        """Free what has to be freed before the process ends."""
