"""A request: its tokens and its whole scheduling state, in one class."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ...errors import InvalidRequest
from ..cache.memory import Lease
from ..cache.radix import NO_MATCH, Match
from .finish import Finish


class RequestState(Enum):
    """WAITING -> RUNNING -> FINISHED; RUNNING -> WAITING when retracted."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Another output than the one that was chosen: `output[:keep]` and then `tokens`; `finish` if it ends there.

    Tokens are appended without steps this way (forced text), taken back (text that is encoded anew, drafts that were
    refused) or cut off (behind a stop). `judged`: the logits that say something about `tokens` are wanted, so their
    positions are computed even if their KV is cached.
    """

    keep: int
    tokens: tuple[int, ...] = ()
    finish: Finish | None = None
    judged: bool = False


class Stopper(Protocol):
    """Looks at what a request has generated and says whether it ends here, or what its output is to be instead."""

    def accept(self, request: Request, new_tokens: Sequence[int]) -> Finish | Rewrite | None:
        """Called once for each step that chose tokens; they are already at the end of `request.output`.

        An exception raised here ends this request, with reason "error", and no other.
        """
        ...


class NeverStops:
    """A stopper for requests that end by length alone."""

    def accept(self, request: Request, new_tokens: Sequence[int]) -> Finish | Rewrite | None:
        return None


class Request:
    """One stream of tokens to be continued. Made by the engine, then changed by the scheduler alone.

    `recompute_from`: until it has chosen a token, cached KV is used only before this position, so that everything from
    it on is computed (and its log-probabilities seen). `waits`: its prompt is computed up to the last token and no
    token is chosen, until `Scheduler.proceed`. `samples=False`, or `max_new_tokens=0`: compute the prompt and stop;
    the last chunk still has `samples` set, so that the executor can report the distribution. Equal ids must not be
    alive together.
    """

    __slots__ = (
        "admitted_at", "arrival", "cached_tokens", "computed", "deadline", "finish", "finished_at", "first_token_at",
        "id", "known", "lease", "limit", "max_new_tokens", "namespace", "output", "priority", "prompt_length",
        "recompute_from", "retractions", "samples", "seniority", "state", "stopper", "ticket", "tokens", "waits",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        priority: int = 0,
        namespace: Hashable = None,
        recompute_from: int | None = None,
        arrival: float = 0.0,
        stopper: Stopper | None = None,
        samples: bool = True,
        waits: bool = False,
    ) -> None:
        if not prompt:
            raise InvalidRequest(f"request {id} has an empty prompt; give at least one token")
        if max_new_tokens < 0:
            raise InvalidRequest(f"request {id}: max_new_tokens is {max_new_tokens}; it must be 0 or more")
        if recompute_from is not None and recompute_from < 0:
            raise InvalidRequest(f"request {id}: recompute_from is {recompute_from}; it must be 0 or more")
        self.id = id
        self.tokens = list(prompt)  # the prompt, then the output
        self.output: list[int] = []
        self.prompt_length = len(prompt)
        self.max_new_tokens = max_new_tokens if samples else 0
        self.priority = priority  # larger is more urgent
        self.namespace = namespace
        self.recompute_from = recompute_from
        self.arrival = arrival
        self.stopper: Stopper = stopper or NeverStops()
        self.samples = self.max_new_tokens > 0
        self.waits = waits
        self.state = RequestState.WAITING
        self.finish: Finish | None = None
        # ---- memory
        self.lease: Lease | None = None  # while running
        self.computed = 0  # tokens whose KV is in its pages
        self.cached_tokens = 0  # of them, found in the cache when it was first admitted
        self.known: Match = NO_MATCH  # how much was cached when somebody last looked
        # ---- order
        self.limit = len(prompt) + self.max_new_tokens  # of tokens; the scheduler may lower it to what fits
        self.ticket = -1  # its place in the order of arrival
        self.deadline = 0  # it goes first once so many requests have left the queue
        self.seniority = (0, 0)  # among the running; the largest is retracted first
        self.retractions = 0
        # ---- times, by the scheduler's clock
        self.admitted_at: float | None = None
        self.first_token_at: float | None = None
        self.finished_at: float | None = None

    def __repr__(self) -> str:
        return f"Request({self.id}, {self.state.value}, {self.prompt_length}+{len(self.output)} tokens)"

    @property
    def pages(self) -> Sequence[int]:
        """Its page table; empty while it waits."""
        return self.lease.pages if self.lease else ()

    @property
    def match_limit(self) -> int:
        """How many of its tokens may come from the cache: all but the last, whose logits are needed."""
        if self.recompute_from is not None:
            return min(self.recompute_from, len(self.tokens) - 1)
        return len(self.tokens) - 1

    def rewritten(self, rewrite: Rewrite) -> int:
        """Take over the output that the rewrite says, up to the limit; returns how many tokens are those of before."""
        keep = self.prompt_length + rewrite.keep
        new_tokens = rewrite.tokens[: self.limit - keep]
        same = 0
        while (
            same < len(new_tokens) and keep + same < len(self.tokens) and self.tokens[keep + same] == new_tokens[same]
        ):
            same += 1
        keep += same
        del self.tokens[keep:], self.output[keep - self.prompt_length :]
        self.tokens += new_tokens[same:]
        self.output += new_tokens[same:]
        self.known = NO_MATCH
        return keep
