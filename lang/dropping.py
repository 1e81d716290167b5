"""What happens to a stream when its state is garbage: a thread of its own cancels it, since a finalizer may not.

A finalizer runs wherever the garbage collector happens to, also while this very thread holds a lock of ours or of a
backend's. So it only puts the stream into a queue, whose `put` is made for that; one thread for the whole process
does the rest, which may take locks and call backends.
"""

from __future__ import annotations

import os
import queue
import threading

from .stream import Stream

_dropped: queue.SimpleQueue[Stream] = queue.SimpleQueue()
_starting = threading.Lock()
_process: int | None = None  # where the thread runs; a forked process has none


def watch_for_drops() -> None:
    """See to it that the thread runs. Called where runs begin, never from a finalizer."""
    global _process
    if _process == os.getpid():
        return
    with _starting:
        if _process != os.getpid():
            threading.Thread(target=_work, name="ramify-dropped", daemon=True).start()
            _process = os.getpid()


def drop(stream: Stream) -> None:
    """Nobody holds the state of this stream any more. Takes no lock."""
    if not (stream.abandoned or (stream.released and not stream.working)):
        _dropped.put(stream)


def _work() -> None:
    while True:
        stream = _dropped.get()
        try:
            stream.abandon("nobody holds its state any more")
        except Exception as error:  # a backend that cannot even cancel: the others are still served
            thread = threading.current_thread()
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, thread)))
        del stream
