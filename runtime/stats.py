"""What an engine has done and holds, as one frozen record that prints well."""

from __future__ import annotations

from dataclasses import dataclass

from .scheduling.config import SchedulerStats


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine started; seconds are wall time on the engine's thread."""

    model: str
    scheduler: SchedulerStats
    step_seconds: float  # planning, running, committing and telling
    forward_seconds: float  # of these, inside the model
    forced_tokens: int = 0  # of the answers: dictated by a grammar, so that no step was spent on choosing them

    @property
    def steps(self) -> int:
        """Forward passes."""
        return self.scheduler.steps

    @property
    def computed_tokens(self) -> int:
        """Tokens run through the model."""
        return self.scheduler.computed_tokens

    @property
    def cached_tokens(self) -> int:
        """Tokens of prompts whose keys and values were already there."""
        return self.scheduler.cached_tokens

    @property
    def recomputed_tokens(self) -> int:
        """Tokens computed again because their pages had been evicted."""
        return self.scheduler.recomputed_tokens

    @property
    def overhead(self) -> float:
        """The share of the steps' time that was not the model: ours to keep small."""
        return 1 - self.forward_seconds / self.step_seconds if self.step_seconds else 0.0
