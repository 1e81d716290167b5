"""What all streams of one run have in common: the program, its backend, its sampling defaults, its options."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any

from .backends.base import Backend
from .calls import Arrival
from .options import ExecutionOptions
from .sampling import Sampling


@dataclass(slots=True, eq=False)
class RunContext:
    """One run of one program."""

    program: str
    backend: Backend
    defaults: Sampling
    options: ExecutionOptions
    arguments: Mapping[str, Any] = field(default_factory=dict)
    streaming: bool = False  # somebody wants to hear texts before their ends
    step_by_step: bool = False  # each append waits for its end (use_thread=False)
    speculate: int | None = None  # num_api_spec_tokens
    numbers: itertools.count[int] = field(default_factory=itertools.count)  # of the streams
    calls: set[Arrival] = field(default_factory=set)  # in flight
    stopped: str | None = None  # why the whole run is over before its end
    began: float = field(default_factory=monotonic)
    began_at: float = field(default_factory=time)  # the same moment as seconds since 1970

    def stop(self, why: str) -> None:
        """End the run now: cancel every call in flight; no stream of it starts another."""
        self.stopped = self.stopped or why
        for call in list(self.calls):
            if call.cancel is not None and not call.ended:
                call.cancel()
