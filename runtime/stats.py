"""What an engine has done and holds, as one frozen record that prints well."""

from __future__ import annotations

from dataclasses import dataclass

from .scheduling.scheduler import SchedulerStats


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine started; seconds are wall time on the engine's thread."""

    model: str
    scheduler: SchedulerStats
    step_seconds: float  # planning, running, committing and telling
    forward_seconds: float  # of these, inside the model

    @property
    def overhead(self) -> float:
        """The share of the steps' time that was not the model: ours to keep small."""
        return 1 - self.forward_seconds / self.step_seconds if self.step_seconds else 0.0
