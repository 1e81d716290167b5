"""How the scheduler fills its steps, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import InvalidRequest
from .policies import POLICIES, PolicyName


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """How steps are filled. `patience`: no request is admitted more than so many admissions later than its turn."""

    context: int  # the most tokens a request may have, prompt and output
    token_budget: int = 512  # the most tokens computed in one step
    max_running: int = 64  # the token budget limits it too: whoever runs gets a token in every step
    policy: PolicyName = "lpm"
    patience: int = 128
    window: int = 128  # a policy that compares requests compares this many at the head of the queue
    expected_quantile: float = 0.8  # of recent output lengths, reserved at admission
    overlap: bool = False  # a plan may be made while the one before it is under way

    def __post_init__(self) -> None:
        if min(self.context, self.token_budget, self.max_running, self.window) < 1 or self.patience < 0:
            raise InvalidRequest(
                "context, token_budget, max_running and window must be 1 or more, and patience 0 or more;"
                f" got {self.context}, {self.token_budget}, {self.max_running}, {self.window} and {self.patience}"
            )
        if self.policy not in POLICIES:
            raise InvalidRequest(f"there is no policy {self.policy!r}; choose from {', '.join(POLICIES)}")


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """The scheduler's counts: the first block now, the second since the start."""

    waiting: int
    running: int
    total_pages: int
    free_pages: int
    cached_pages: int
    in_use_pages: int

    steps: int
    computed_tokens: int
    cached_tokens: int  # hits at first admission
    recomputed_tokens: int  # computed again after their pages were evicted: what a larger cache would have saved
    admissions: int
    retractions: int
    finished: int
    aborted: int
    failed: int
