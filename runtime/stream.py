"""One request as its caller sees it: deltas as they come, a result at the end, and a way to go on from there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future

from .results import Delta, Generation


class Stream:
    """A handle on a request in flight; safe to use from any thread, and from asyncio.

    Iterate (`for`, or `async for`) to get `Delta`s as they are generated; call `result()`, or `await` the stream, to
    get the whole `Generation`. Both may be done, in any order and more than once. Leaving a `for` loop early, or a
    `with` block, aborts the request; an aborted request ends with what it had, and finish_reason "abort".
    """

    def __init__(
        self,
        abort: Callable[[], object],
        on_delta: Callable[[Delta], object] | None = None,
        on_done: Callable[[Stream], object] | None = None,
    ) -> None:
        self._abort = abort
        self._on_delta = on_delta
        self._on_done = on_done
        self._changed = threading.Condition()
        self._deltas: list[Delta] = []
        self._wakers: list[Callable[[], object]] = []
        self._future: Future[Generation] = Future()

    # -- what a caller does ---------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Generation:
        """Wait for the whole answer. Raises what went wrong with this request, or TimeoutError (it then goes on)."""
        return self._future.result(timeout)

    @property
    def done(self) -> bool:
        return self._future.done()

    @property
    def error(self) -> Exception | None:
        """What went wrong with this request; None while it runs, and when nothing did."""
        error = self._future.exception() if self._future.done() else None
        return error if isinstance(error, Exception) else None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end without asking how it ended; False when the time is over first."""
        with self._changed:
            return self._changed.wait_for(self._future.done, timeout)

    def abort(self) -> None:
        """Stop generating; everything the request holds is freed within a step. Harmless when it has ended."""
        self._abort()

    def __iter__(self) -> Iterator[Delta]:
        seen = 0
        ended = False
        try:
            while not ended:
                with self._changed:
                    self._changed.wait_for(lambda seen=seen: len(self._deltas) > seen or self._future.done())  # type: ignore[misc]
                    fresh, ended = self._deltas[seen:], self._future.done()
                seen += len(fresh)
                yield from fresh
        except GeneratorExit:
            self.abort()
            raise
        self._future.result()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        loop, awake = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the listener's event loop was closed: nobody listens any more
                loop.call_soon_threadsafe(awake.set)

        with self._changed:
            self._wakers.append(wake)
        seen = 0
        ended = False
        try:
            while not ended:
                awake.clear()
                with self._changed:
                    fresh, ended = self._deltas[seen:], self._future.done()
                if not fresh and not ended:
                    await awake.wait()
                    continue
                seen += len(fresh)
                for delta in fresh:
                    yield delta
        except (GeneratorExit, asyncio.CancelledError):
            self.abort()
            raise
        finally:
            with self._changed:
                self._wakers.remove(wake)
        self._future.result()

    def __await__(self):  # type: ignore[no-untyped-def]  # its type is asyncio's private one
        return self._wait().__await__()

    async def _wait(self) -> Generation:
        try:
            return await asyncio.shield(asyncio.wrap_future(self._future))
        except asyncio.CancelledError:
            self.abort()
            raise

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.done:
            self.abort()

    # -- what the engine's loop does ------------------------------------------------------------------------------

    def publish(self, delta: Delta) -> None:
        """Hand a delta to whoever listens. Raises what the caller's own callback raises."""
        with self._changed:
            self._deltas.append(delta)
            self._notify()
        if self._on_delta is not None:
            self._on_delta(delta)

    def close(self, outcome: Generation | Exception) -> None:
        """The end: nothing is published after it. A second end is ignored. Tells `on_done`, which cannot fail us."""
        with self._changed:
            if self._future.done():
                return
            if isinstance(outcome, Exception):
                self._future.set_exception(outcome)
            else:
                self._future.set_result(outcome)
            self._notify()
        if self._on_done is not None:
            try:
                self._on_done(self)
            except Exception:  # the request has ended: there is nobody left whom this could be told
                logging.getLogger("ramify").exception("an on_done callback raised; nothing else is affected")

    def _notify(self) -> None:
        self._changed.notify_all()
        for wake in self._wakers:
            wake()
