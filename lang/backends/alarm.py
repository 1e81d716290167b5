"""Calls functions later, all on one thread that lives only while something waits: latencies, backoffs, deadlines."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from time import monotonic


class Alarm:
    """Any thread may ask; what is called must be short. What it raises is reported as a thread's would be."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Callable[[], object]]] = []
        self._running = False

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        with self._changed:
            heapq.heappush(self._waiting, (monotonic() + seconds, next(self._order), function))
            if self._running:
                self._changed.notify()
                return
            self._running = True
        threading.Thread(target=self._main, name="ramify-alarm", daemon=True).start()

    def _main(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._running = False
                    return
                due = self._waiting[0][0] - monotonic()
                if due > 0:
                    self._changed.wait(due)
                    continue
                function = heapq.heappop(self._waiting)[2]
            try:
                function()
            except Exception as error:  # what else waits must not wait for ever
                thread = threading.current_thread()
                threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, thread)))
