"""One stream while it runs: its queue, its text and variables, and who waits for what."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import RamifyError
from .backends.base import BackendStream, Cancel
from .calls import Arrival
from .failures import Abandoned, located, where
from .history import Entry, StreamHistory
from .nodes import Place, ScopeEnd
from .run_context import RunContext
from .variables import Variable
from .waiting import Wake, wait


class ForkPoint:
    """Where forks start, in their parent's queue."""

    __slots__ = ("children", "place", "warmed")

    def __init__(self, children: list[Stream], place: Place | None) -> None:
        self.children = children
        self.place = place
        self.warmed = False  # what comes before has been prefilled


Item = Entry | ForkPoint


class Stream(ABC):
    """A queue of nodes and the backend stream that they run on.

    Whoever finds it idle runs the queue until a call is in flight or nothing is left; when the call ends, its callback
    goes on: no Python body is needed between two gens, and no thread for a stream. `lock` guards the queue and is never
    held while anything else is called.
    """

    __slots__ = (
        "abandoned", "attached", "busy", "call", "chunks", "context", "error", "gens_waiting", "history", "idle_wakes",
        "lock", "messages", "operations", "prefix", "queue", "readers", "released", "role", "role_at", "role_parts",
        "scopes", "sealed", "stream", "submitted_role", "text_wakes", "value_error", "variables", "waits_for",
    )  # fmt: skip

    def __init__(self, context: RunContext, stream: BackendStream | None, history: StreamHistory) -> None:
        self.context = context
        self.stream = stream
        self.attached = stream is not None  # False: its parent has not come to the fork yet
        self.history = history
        self.lock = threading.Lock()
        self.queue: deque[Item] = deque()
        self.busy = False  # somebody runs the queue, or a call is in flight
        self.call: Arrival | None = None
        self.gens_waiting = 0
        self.variables: dict[str, Variable] = {}
        self.prefix = ""  # the parent's text, for a fork
        self.chunks: list[str] = []  # the text since, as it came
        self.messages: list[dict[str, Any]] = []  # those that have ended
        self.role: str | None = None
        self.role_at = 0  # the chunk with which the role's text goes on
        self.role_parts: list[Any] = []  # of the open message, up to that chunk: texts and media
        self.submitted_role: tuple[str, Place | None] | None = None
        self.scopes: list[tuple[Variable, int]] = []
        self.operations: list[tuple[str, Any]] | None = None  # to build the stream anew (reuse_handles=False)
        self.error: Exception | None = None  # after which nothing ran
        self.value_error: Exception | None = None  # of a value that could not be read; the text went on
        self.sealed: str | None = None  # why nothing more may be appended
        self.abandoned = False  # its state is gone
        self.readers = 1  # its state, and each fork that has not started yet
        self.waits_for: Stream | None = None  # for a fork that has not started: its parent
        self.released = False
        self.idle_wakes: list[Wake] = []
        self.text_wakes: list[Wake] = []

    @abstractmethod
    def run(self, *, resumed: bool = False) -> None:
        """Run the queue until a call is in flight or nothing is left. Only for whoever has set `busy`.

        resumed: because a call has ended.
        """

    # -- reading --------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The text so far. Does not wait."""
        return self.prefix + "".join(self.chunks)

    def sync(self) -> None:
        """Wait until everything that was appended has run, or failed."""
        if self.working:
            wait(self.on_idle)

    def on_idle(self, wake: Wake) -> None:
        """Wake when nothing is left to run: at once, if so."""
        with self.lock:
            if self.working:
                self.idle_wakes.append(wake)
                return
        wake()

    def on_text(self, seen: int, to_end: bool, wake: Wake) -> None:
        """Wake when there is more text than the first `seen` chunks, or when no more comes (see `is_over`)."""
        with self.lock:
            if len(self.chunks) <= seen and not self.is_over(to_end):
                self.text_wakes.append(wake)
                return
        wake()

    @property
    def working(self) -> bool:
        """Whether something runs, or waits to run."""
        return self.busy or bool(self.queue) or not self.attached

    @property
    def needed(self) -> bool:
        """Whether anybody may still read it, or a fork that starts further on."""
        return self.readers > 0

    def is_over(self, to_end: bool) -> bool:
        """Whether nothing is left to run; `to_end`: and nothing more will be appended either."""
        if self.working:
            return False
        return self.sealed is not None or not to_end or self.error is not None

    def tell_text(self) -> None:
        """Wake those who wait for text."""
        with self.lock:
            wakes, self.text_wakes = self.text_wakes, []
        for wake in wakes:
            wake()

    # -- ending ---------------------------------------------------------------------------------------------------

    def seal(self, why: str) -> None:
        """Nothing more can be appended; what the backend holds for it goes when the queue has run."""
        with self.lock:
            self.sealed = self.sealed or why
            idle = not self.working
        if idle:
            self.release()
            self.tell_text()

    def abandon(self, why: str) -> None:
        """Its state is gone. Without other readers, what is queued is dropped and what is in flight is cancelled."""
        with self.lock:
            self.sealed = self.sealed or why
            gone, self.abandoned = self.abandoned, True
        if gone:
            return
        if self.context.options.cancel_unread or self.context.stopped is not None:
            self.lose_reader()
        elif not self.working:
            self.release()
            self.tell_text()

    def lose_reader(self) -> None:
        """One of those for whom it runs does not need it any more: its state, or a fork that has started or is gone."""
        stream: Stream | None = self
        while stream is not None:
            with stream.lock:
                stream.readers -= 1
                if stream.readers > 0:
                    return
                waits_for, stream.waits_for = stream.waits_for, None
                idle = not stream.working
            if idle:
                stream.release()
                stream.tell_text()
            else:
                stream.cancel()
            stream = waits_for

    def break_off(self, error: Exception) -> None:
        """The body raised: nothing more comes, and reading says why."""
        with self.lock:
            self.error = self.error or error
            self.sealed = self.sealed or "its program raised an error"
            idle = not self.working
        if idle:
            self.release()
        self.tell_text()

    def cancel(self) -> None:
        """Cancel the call in flight, if any; its callback goes on with the queue."""
        call = self.call
        if call is not None and call.cancel is not None and not call.ended:
            self.history.cancelled = True
            call.cancel()

    def release(self) -> None:
        """Tell the backend that nobody comes back."""
        if not self.released and self.stream is not None:
            self.released = True
            self.stream.close()

    # -- failing --------------------------------------------------------------------------------------------------

    def fail(self, item: Item, error: Exception) -> None:
        """The item failed: neither its value nor what is behind it will ever be there."""
        program = self.context.program
        if not self.needed or self.context.stopped is not None:
            found: Exception = Abandoned(f"{where(program, item.place)}: {self.context.stopped or self.sealed}")
        else:
            found = located(error, program, item.place, item.node if isinstance(item, Entry) else None)
        if self.error is None:
            self.error = found
        if isinstance(item, Entry):
            item.error = found
            if item.variable is not None and not item.variable.ready:
                item.variable.fail(found)

    def skip(self, item: Entry, first: Exception) -> None:
        """The item is not run, because an earlier one failed."""
        item.error = first
        variable = item.variable
        if isinstance(item.node, ScopeEnd) and self.scopes:  # what the scope's variable holds was never made
            variable = self.scopes.pop()[0]
        if variable is not None and not variable.ready:
            kind = type(first) if isinstance(first, RamifyError) else RamifyError
            reason = f"never made, because something before it failed: {first}"
            made = located(kind(reason), self.context.program, item.place, item.node)
            made.__cause__ = first
            variable.fail(made)

    # -- calls ----------------------------------------------------------------------------------------------------

    def start(self, item: Item, call: Arrival, begin: Callable[[], Cancel | None]) -> bool:
        """Start a call. True: it has ended already, go on; False: its end will go on with the queue."""
        self.call = call
        in_flight = self.context.calls
        in_flight.add(call)
        try:
            call.cancel = begin()
        except Exception as error:
            if call.claim():
                self.fail(item, error)
                call.second()
        if call.ended:
            in_flight.discard(call)
            if call.overdue and call.cancel is not None:
                call.cancel()
        elif call.cancel is not None and (self.context.stopped is not None or not self.needed):
            call.cancel()
        return call.second()

    def end(self, call: Arrival) -> None:
        """A call has ended and its outcome is in its place: go on, unless its starter does."""
        self.context.calls.discard(call)
        if call.second():
            self.run(resumed=True)
