"""How a program's body waits for a value without knowing where it runs: in a thread, a greenlet or an event loop."""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from collections.abc import Callable

from greenlet import getcurrent, greenlet

Wake = Callable[[], None]
Subscribe = Callable[[Wake], None]  # calls the wake once, from any thread: at once, when there is nothing to wait for


class Waiter(greenlet):  # type: ignore[misc]
    """A greenlet whose body may wait: its thread does something else until what it waits for is there."""

    @abstractmethod
    def wait(self, subscribe: Subscribe) -> None:
        """Come back when it has woken."""


def wait(subscribe: Subscribe) -> None:
    """Wait until woken. Ctrl-C and a batch that is stopped raise here."""
    current = getcurrent()
    if isinstance(current, Waiter):
        current.wait(subscribe)
        return
    gate = threading.Lock()
    gate.acquire()
    subscribe(gate.release)
    gate.acquire()


def who() -> object:
    """Who runs here, of all that may wait for one another: a thread, a greenlet or a task."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs
        task = None
    return getcurrent(), task


async def wait_async(subscribe: Subscribe) -> None:
    """Wait until woken while the event loop goes on."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(_set, woken)
        except RuntimeError:  # the loop was closed: nobody waits any more
            return

    subscribe(wake)
    await woken


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
