"""A variable of a program: declared when its node is appended, filled when that node has run, read by anyone."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from .waiting import Wake

_GUARD = threading.Lock()  # held for a few instructions; nothing is called while it is held


class Variable:
    """A value that may not be there yet. Forks share their parent's. Any thread may ask."""

    __slots__ = ("chunks", "error", "inside", "meta", "name", "ready", "tool_calls", "value", "waiters")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = False
        self.value: Any = None
        self.meta: Any = None  # a meta_info, or a list of n of them
        self.tool_calls: tuple[Any, ...] = ()
        self.error: Exception | None = None  # why there is no value
        self.waiters: list[Wake] | None = None  # told once, when it is ready
        self.chunks: list[str] | None = None  # of its text so far, where it streams
        self.inside: object = None  # who is inside its var_scope: it would wait for itself

    @classmethod
    def holding(cls, name: str, value: Any) -> Variable:
        """One that is there already."""
        made = cls(name)
        made.value, made.ready = value, True
        return made

    def fill(self, value: Any, meta: Mapping[str, Any] | list[Any] | None = None) -> None:
        self.value, self.meta = value, meta
        self._tell()

    def fail(self, error: Exception) -> None:
        self.error = error
        self._tell()

    def subscribe(self, wake: Wake) -> None:
        """Wake once it is ready: at once, if it is."""
        with _GUARD:
            if not self.ready:
                if self.waiters is None:
                    self.waiters = []
                self.waiters.append(wake)
                return
        wake()

    def _tell(self) -> None:
        with _GUARD:
            self.ready = True
            waiters, self.waiters = self.waiters, None
        for wake in waiters or ():
            wake()
