"""A worker process from outside: starts it, asks it, ends it when it takes too long, and starts it again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import IO

from ..errors import RequestFailed
from .worker import READY, read_frame, write_frame

PATIENCE = 10  # an answer may take so many times its processor time: the machine may be busy, or swap
START_LIMIT = 300.0  # seconds for a worker to come up: one that is merely slow, on a busy machine, is waited for
# Our paths come behind the process's own: a user's folder may hold a types.py, which is not the one that Python wants.
_PROGRAM = """\
import sys
sys.path += [path for path in sys.argv[3:] if path not in sys.path]
from ramify.grammars.worker import main
main(int(sys.argv[1]), float(sys.argv[2]))
"""


class OutOfTime(Exception):
    """The worker took longer than it may; says how long that is."""


class Died(Exception):
    """The worker ended: out of memory, or worse."""


class WorkerProcess:
    """One process of `ramify.grammars.worker`, started when first asked and kept warm. For one thread, but `kill`.

    `time_limit`: seconds of processor time for an answer; `memory_limit`: bytes of its address space.
    """

    def __init__(self, time_limit: float, memory_limit: int) -> None:
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self._process: subprocess.Popen[bytes] | None = None
        self._expired = False

    def ask(self, request: bytes) -> bytes:
        """The worker's answer. Raises OutOfTime or Died, and then has ended the process."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._started()
        answer = self._within(PATIENCE * self.time_limit, process, request)
        if answer is None:
            self.stop()
            if process.returncode == -signal.SIGPROF:
                raise OutOfTime(f"{self.time_limit:g} seconds of processor time")
            raise OutOfTime(f"{PATIENCE * self.time_limit:g} seconds") if self._expired else Died
        return answer

    def kill(self) -> None:
        """End the process, whatever it is doing; any thread may."""
        process = self._process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """End the process and wait for it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()  # closes its pipes, and waits for it

    def _started(self) -> subprocess.Popen[bytes]:
        self.stop()
        arguments = [str(self.memory_limit), str(self.time_limit), *(path for path in sys.path if path)]
        failed = "the process that compiles grammars does not start"
        with tempfile.TemporaryFile() as said:  # a pipe could fill up, and nobody would read it
            try:
                process = self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _PROGRAM, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                    start_new_session=True,  # ours to end: an interrupt at the keyboard is not for it
                )
            except OSError as error:
                raise RequestFailed(f"{failed}: {error}") from None
            if self._within(START_LIMIT, process, None) != READY:
                self.stop()
                waited = f" within {START_LIMIT:g} seconds" if self._expired else ""
                raise RequestFailed(f"{failed}{waited}: {_last_line(said) or f'it ended with {process.returncode}'}")
        return process

    def _within(self, seconds: float, process: subprocess.Popen[bytes], request: bytes | None) -> bytes | None:
        """What the process says next; None when it ended, or was ended for taking longer."""

        def expire() -> None:
            self._expired = True
            process.kill()

        assert process.stdin is not None and process.stdout is not None
        self._expired = False
        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            if request is not None:
                write_frame(process.stdin, request)
            return read_frame(process.stdout)
        except (OSError, ValueError):  # its pipe is closed
            return None
        finally:
            timer.cancel()


def _last_line(said: IO[bytes]) -> str:
    """The last line of what a process wrote, if any: of a traceback, what was wrong."""
    said.seek(0)
    lines = said.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
