"""Text of a running stream as it comes, for a thread and for an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from .executor import StreamExecutor
from .failures import again
from .variables import Variable
from .waiting import Subscribe, wait, wait_async


class TextCursor:
    """A position in a stream's text, or in one variable's."""

    def __init__(self, executor: StreamExecutor, name: str | None, to_end: bool) -> None:
        self.executor = executor
        self.to_end = to_end  # of the program, not only of what it has appended so far
        self.name = name
        self.seen = 0
        self.prefix_given = name is not None
        self.stream_seen = 0

    def take(self) -> str:
        """What came since the last time."""
        if not self.executor.attached:
            return ""
        if self.name is None:
            chunks = self.executor.chunks
            text = "" if self.prefix_given else self.executor.prefix
            self.prefix_given = True
        else:
            variable = self.variable
            if variable is None:
                return ""
            chunks, text = self.chunks_of(variable), ""
        count = len(chunks)
        text += "".join(chunks[self.seen : count])
        self.seen = count
        return text

    @property
    def variable(self) -> Variable | None:
        return self.executor.variables.get(self.name or "")

    def chunks_of(self, variable: Variable) -> list[str]:
        """A variable's text so far; one that was not streamed comes at its end."""
        if variable.chunks or not variable.ready or variable.error is not None:
            return variable.chunks or []
        value = variable.value[0] if isinstance(variable.value, list) else variable.value
        return [str(value)]

    def next(self) -> tuple[str, Subscribe | None]:
        """New text, and what to wait for before asking again; None: that was all."""
        executor = self.executor
        seen = len(executor.chunks)
        variable = self.variable if self.name is not None else None
        over = executor.is_over(self.to_end) or (variable is not None and variable.ready)
        text = self.take()
        if over:
            return text, None
        return text, self._more(seen)

    def _more(self, seen: int) -> Subscribe:
        return lambda wake: self.executor.on_text(seen, self.to_end, wake)

    def check(self) -> None:
        """After the end: raise what ended it early."""
        if self.name is None:
            error = self.executor.error
        else:
            variable = self.variable
            if variable is None and self.executor.error is None:
                self.executor.read(self.name)
            error = self.executor.error if variable is None else variable.error
        if error is not None:
            raise again(error)

    @property
    def meta(self) -> Any:
        variable = self.variable
        return (variable.meta if variable is not None else None) or {}


def pieces(cursor: TextCursor, keep: Any) -> Iterator[str]:
    """Texts as they come. `keep` is held until the end: a state that nobody holds is cancelled."""
    while True:
        text, more = cursor.next()
        if text:
            yield text
        if more is None:
            break
        if not text:
            wait(more)
    cursor.check()
    del keep


async def pieces_async(cursor: TextCursor, keep: Any, with_meta: bool) -> AsyncIterator[Any]:
    """The same, while the event loop goes on."""
    while True:
        text, more = cursor.next()
        if text:
            yield (text, cursor.meta) if with_meta else text
        if more is None:
            break
        if not text:
            await wait_async(more)
    cursor.check()
    del keep
