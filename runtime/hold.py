"""A live program's claim on cached tokens: they are evicted late, and in the order in which they are needed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from ..errors import InvalidRequest
from .cache.reuse import Mark
from .loop import EngineLoop


class Hold:
    """What is cached of some tokens is kept for a program that comes back to it. Made by `Engine.hold`.

    Nothing is reserved: held pages go when a running request needs memory and everything that nobody holds is gone,
    those with the largest `next_use` first. All methods return at once and act between two steps, in the order of the
    calls to the engine. Release it, or use `with`.
    """

    def __init__(
        self, loop: EngineLoop, tokens: Sequence[int], namespace: Hashable, next_use: float, works: bool = True
    ) -> None:
        self._loop = loop
        self._works = works  # False: an ablation; it does nothing
        self._next_use = checked(next_use)
        self._mark: Mark | None = None
        self._released = False
        loop.tell(lambda: self._begin(tokens, namespace))

    @property
    def next_use(self) -> float:
        """In how many of the program's steps the tokens are needed again; `math.inf`: no longer."""
        return self._next_use

    @next_use.setter
    def next_use(self, steps: float) -> None:
        self._next_use = checked(steps)
        self._loop.tell(self._expect)

    @property
    def tokens(self) -> int | None:
        """How many tokens were cached and are held; None until the engine has looked."""
        return None if self._mark is None else self._mark.tokens

    def release(self) -> None:
        """Nobody comes back. Harmless when it was released before, or the engine was closed."""
        if not self._released:
            self._released = True
            self._loop.tell(self._end, late=True)

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _begin(self, tokens: Sequence[int], namespace: Hashable) -> None:
        if self._works:
            self._mark = self._loop.scheduler.memory.mark(tokens, namespace, self._next_use)

    def _expect(self) -> None:
        if self._mark is not None:
            self._loop.scheduler.memory.tree.expect(self._mark, self._next_use)

    def _end(self) -> None:
        if self._mark is not None:
            self._loop.scheduler.memory.tree.unmark(self._mark)


def checked(steps: float) -> float:
    """A number of steps."""
    if isinstance(steps, bool) or not isinstance(steps, int | float) or not 0 <= steps <= math.inf:
        raise InvalidRequest(f"next_use={steps!r:.40}: expected a number of steps, 0 or more (math.inf: never again)")
    return float(steps)
