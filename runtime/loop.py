"""The engine's heart: one thread that plans, runs and commits steps, and tells each stream what became of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import perf_counter
from typing import TypeVar

from ..errors import EngineClosed, RamifyError, RequestFailed
from .executor import ModelExecutor
from .sampling.constraint import Matcher
from .scheduling.request import Request
from .scheduling.scheduler import Scheduler
from .scheduling.stepping import Committed, Stepping
from .stats import EngineStats
from .text.jump_forward import JumpForward
from .ticket import Ticket

T = TypeVar("T")

ROUNDS = 16  # of commands that commands set off, before a step is run in between


class EngineLoop:
    """Owns the scheduler and the executor. Everything that touches them runs on its thread, between two steps.

    Callers hand in commands (submit, abort, call); nobody else holds a lock while a step runs. When there is nothing
    to do the thread sleeps. An exception in a step fails the requests of that step and the loop goes on. `steps` drives
    the scheduler and the executor, and may leave a step in flight; what that does for requests that end is dropped.
    """

    def __init__(self, scheduler: Scheduler, executor: ModelExecutor, steps: Stepping) -> None:
        self.scheduler = scheduler
        self.executor = executor
        self._steps = steps
        self._tickets: dict[int, Ticket] = {}
        self._commands: deque[Callable[[], object]] = deque()
        self._wake = threading.Condition()
        self._step_seconds = 0.0
        self._forced_tokens = 0  # of requests that have ended
        self._closing = False
        self._thread = threading.Thread(target=self._main, name="ramify-engine", daemon=True)
        self._thread.start()

    # -- from any thread ------------------------------------------------------------------------------------------

    def submit(self, tickets: list[Ticket]) -> None:
        """Queue requests; what is wrong with one of them is raised by its own stream. All are planned together."""

        def add() -> None:
            for ticket in tickets:
                self._add(ticket)

        self.tell(add)

    def abort(self, request_id: int) -> None:
        self.tell(lambda: self._abort(request_id), late=True)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function on the loop's thread between two steps, where the scheduler may be looked at.

        At once, when that is where the call comes from (a callback).
        """
        future: Future[T] = Future()

        def command(work: Callable[[], T]) -> None:
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

        def settled() -> T:
            self._settle()
            return function()

        if threading.current_thread() is self._thread:
            command(function)
        else:
            self.tell(lambda: command(settled))
        return future

    def stats(self, model: str) -> EngineStats:
        """What was done so far; taken between two steps."""
        return self.call(
            lambda: EngineStats(
                model=model,
                scheduler=self.scheduler.stats(),
                step_seconds=self._step_seconds,
                forward_seconds=self.executor.forward_seconds,
                forced_tokens=self._forced_tokens + sum(ticket.forced for ticket in self._tickets.values()),
            )
        ).result()

    def close(self) -> None:
        """Stop after the current step; streams in flight end with EngineClosed. Returns when the thread has ended."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def tell(self, command: Callable[[], object], *, late: bool = False) -> None:
        """Carry this out on the loop's thread, before the next step is planned. It may not raise.

        Raises EngineClosed, unless the command is one that may come `late`: then it is dropped.
        """
        with self._wake:
            if self._closing:
                if late:
                    return
                raise EngineClosed("this engine was closed; make a new one with ramify.Engine(...)")
            self._commands.append(command)
            self._wake.notify()

    # -- on the loop's thread -------------------------------------------------------------------------------------

    def _main(self) -> None:
        ending: Exception = EngineClosed("the engine was closed while this request was in flight")
        try:
            while self._obey():
                self._step()
        except Exception as error:  # a defect of ours: end every stream rather than hang one
            ending = RequestFailed(f"the engine stopped on an internal error: {type(error).__name__}: {error}")
            ending.__cause__ = error
        with self._wake:
            self._closing = True
            late = list(self._commands)
        for command in late:  # submissions and calls that raced with the end get an answer too
            command()
        for ticket in list(self._tickets.values()):
            ticket.stream.close(ending)
        self._tickets.clear()

    def _obey(self) -> bool:
        """Carry out the commands that wait; sleep when there is no work. False: it is time to end.

        What the commands set off in turn (a callback that submits) belongs to the next step too.
        """
        for _ in range(ROUNDS):
            with self._wake:
                while not (self._commands or self._closing or self.scheduler.has_work or self._steps.busy):
                    self._wake.wait()
                if self._closing:
                    return False
                commands = list(self._commands)
                self._commands.clear()
            for command in commands:
                command()
            if not self._commands:
                break
        return True

    def _add(self, ticket: Ticket) -> None:
        try:
            self.scheduler.add(ticket.request)
        except RamifyError as error:
            ticket.stream.close(error)
            return
        self._tickets[ticket.request.id] = ticket
        self.executor.admit(ticket)

    def constrain(self, tickets: list[Ticket], matcher: Callable[[], Matcher], jumps: JumpForward | None) -> None:
        """Requests that waited for a grammar go on, each with a matcher of its own; on the loop's thread.

        What making a matcher raises ends its request.
        """
        for ticket in tickets:
            if ticket.request.id not in self._tickets:
                continue  # aborted in the meantime
            try:
                beginning = ticket.constrain(matcher(), jumps)
            except Exception as error:
                self._fail(ticket, error)
                continue
            finished = self.scheduler.proceed(ticket.request.id, beginning)
            if finished is not None:
                self._end(finished)

    def refuse(self, tickets: list[Ticket], error: Exception) -> None:
        """Requests that waited for a grammar cannot have it; on the loop's thread."""
        for ticket in tickets:
            if ticket.request.id in self._tickets:
                self._fail(ticket, error)

    def _abort(self, request_id: int) -> None:
        ticket = self._tickets.get(request_id)
        if ticket is not None and self.scheduler.abort(request_id):
            self._end(ticket.request)

    def _step(self) -> None:
        began = perf_counter()
        self._report(self._steps.step())
        self._step_seconds += perf_counter() - began

    def _settle(self) -> None:
        """When nobody is left for whom something is in flight, wait for it: an engine at rest holds nothing."""
        while self._steps.busy and not (self.scheduler.has_work or self._closing):
            self._report(self._steps.drain())

    def _report(self, committed: list[Committed]) -> None:
        for step in committed:
            for request_id in step.result.tokens:
                ticket = self._tickets.get(request_id)
                if ticket is not None:
                    try:
                        ticket.tell()
                    except Exception as error:  # a caller's callback, a detokenizer: its request fails, no other
                        self._fail(ticket, error)
            for request in step.finished:
                self._end(request)

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        self.scheduler.abort(ticket.request.id)
        self._forget(ticket)
        ticket.stream.close(failure(error))

    def _end(self, request: Request) -> None:
        ticket = self._tickets.get(request.id)
        if ticket is None:
            return
        self._forget(ticket)
        finish = request.finish
        if finish is not None and finish.error is not None:
            ticket.stream.close(failure(finish.error))
            return
        try:
            ticket.end()
        except Exception as error:
            ticket.stream.close(failure(error))

    def _forget(self, ticket: Ticket) -> None:
        del self._tickets[ticket.request.id]
        self._forced_tokens += ticket.forced
        self.executor.release(ticket)


def failure(error: BaseException) -> RamifyError:
    """What a caller is told when something broke while its request was served."""
    if isinstance(error, RamifyError):
        return error
    wrapped = RequestFailed(f"this request failed, others are not affected: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
