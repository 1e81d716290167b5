"""One background thread with an event loop, on which a backend's calls over the network run, any number at once."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ...errors import BackendError

T = TypeVar("T")

_LONGEST_END = 5.0  # seconds to wait for the thread when it is closed


class LoopThread:
    """Starts its thread with the first call. Safe from any thread; close it, or let it go with its owner."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._endings: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._closed = False

    def at_end(self, ending: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this before the thread ends; it must not hold on to this object."""
        self._endings.append(ending)

    def start(self, work: Coroutine[Any, Any, T], done: Callable[[T | BaseException], object]) -> Callable[[], None]:
        """Run it; `done` is called with what it returns or raises, on the loop's thread. Returns what cancels it."""
        try:
            loop = self._running()
        except BackendError:
            work.close()
            raise
        holder: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = loop.create_task(work)
            holder.append(task)
            task.add_done_callback(lambda ended: done(_outcome(ended)))

        loop.call_soon_threadsafe(begin)

        def cancel() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: holder[0].cancel())  # after `begin`, which was asked for before

        return cancel

    def wait(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run it and wait for it; not from the loop's own thread."""
        try:
            loop = self._running()
        except BackendError:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout)

    def close(self) -> None:
        """Cancel what runs, close what is open and end the thread. May be called more than once, from any thread."""
        with self._lock:
            self._closed = True
            if self._loop is not None:
                self._finalizer()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_LONGEST_END)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise BackendError(f"{self._name} was closed; make a new one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                arguments = (self._loop, self._endings)
                self._thread = threading.Thread(target=_main, args=arguments, name=self._name, daemon=True)
                self._thread.start()
                self._finalizer = weakref.finalize(self, _stop, self._loop)
            return self._loop


def _outcome(ended: asyncio.Task[T]) -> T | BaseException:
    if ended.cancelled():
        return asyncio.CancelledError()
    error = ended.exception()
    return ended.result() if error is None else error


def _main(loop: asyncio.AbstractEventLoop, endings: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(asyncio.gather(*(ending() for ending in endings), return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
