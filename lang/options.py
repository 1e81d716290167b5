"""Switches for everything the executor does beyond sending one call after another, so that each can be measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExecutionOptions:
    """How programs are executed; none of these changes a text. Given as `run(..., options=ExecutionOptions(...))`."""

    lookahead: bool = True  # constants behind a gen are prefilled as it ends, while the program looks at its value
    warm_forks: bool = True  # a prefix is prefilled before its forks start, so that they do not all prefill it
    priorities: bool = True  # calls say how many gens wait behind them: the critical path first
    next_use: bool = True  # idle streams say when the program comes back to them, for eviction
    cancel_unread: bool = True  # calls whose stream nobody can read any more are cancelled
    parallel_forks: bool = True  # branches run at the same time; False: one after another, as their code is reached
    reuse_handles: bool = True  # a call goes on from its stream's tokens; False: every call sends the whole text anew
    graph: bool = True  # compiled programs hand their whole graph to the backend; False: a request at a time
    programs_at_once: int = 512  # how many programs of a batch are begun and not finished at a time
    most_forks: int = 100_000  # of one fork(); more is taken for a mistake


DEFAULT = ExecutionOptions()
