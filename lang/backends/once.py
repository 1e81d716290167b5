"""Ends a call exactly once, whoever comes first: its result, its error, its deadline or its cancellation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Passes on the first outcome and drops the others. Any thread may call it."""

    __slots__ = ("_done", "_lock", "ended")

    def __init__(self, done: Callable[[T], object]) -> None:
        self._done = done
        self._lock = threading.Lock()
        self.ended = False

    def claim(self) -> bool:
        """Whether it is the caller who ends the call; True only the first time. Then call `tell`."""
        with self._lock:
            first, self.ended = not self.ended, True
        return first

    def tell(self, outcome: T) -> None:
        """Pass on the outcome; for whoever has claimed the end."""
        self._done(outcome)

    def __call__(self, outcome: T) -> None:
        """The end, if nobody was faster."""
        if self.claim():
            self._done(outcome)
