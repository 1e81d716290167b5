"""One call of a backend on its way: it ends exactly once, and whoever comes last goes on with the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .backends.base import Cancel


class Arrival:
    """Joins the two sides of a call: the one that starts it and the one that hears of its end, in whatever order.

    A backend may call back before `generate` has returned. Then the starter goes on in its own loop, so that a chain
    of calls that end at once does not grow the Python stack. `list.pop` is the atomic step.
    """

    __slots__ = ("__weakref__", "_claims", "_sides", "cancel", "overdue", "streamed")

    def __init__(self) -> None:
        self._claims = [None]
        self._sides = [None]
        self.cancel: Cancel | None = None
        self.overdue = False  # its deadline has ended it
        self.streamed = 0  # characters that its deltas gave

    def claim(self) -> bool:
        """Whether the caller is the one who ends the call: its result, its error, its deadline or its cancellation."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True

    @property
    def ended(self) -> bool:
        return not self._claims

    def second(self) -> bool:
        """Called by each side once, when it is done. True for the later one, who goes on with the stream."""
        try:
            self._sides.pop()
        except IndexError:
            return True
        return False


Begin = Callable[[Arrival], Any]
