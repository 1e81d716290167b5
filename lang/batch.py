"""Many runs of a program at once in one thread: each body is a greenlet, which waits while the others go on."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any

from greenlet import GreenletExit, getcurrent
from tqdm import tqdm

from ..errors import BatchFailed, InvalidRequest, ProgramError
from .run_context import RunContext
from .running import Body, begin, run_async, run_here
from .state import ProgramState
from .waiting import Subscribe, Waiter, Wake, wait

MOST_THREADS = 96  # where bodies have threads and nobody says how many: as many as SGLang has
_FIRST = asyncio.FIRST_COMPLETED
Row = tuple[Sequence[Any], Mapping[str, Any]]
NewContext = Callable[[Sequence[Any], Mapping[str, Any]], RunContext]  # of a row


def threads(given: str | int, most: int) -> int:
    """How many programs may be under way at once. Raises InvalidRequest."""
    if given == "auto":
        return most
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise InvalidRequest(f'num_threads={given!r:.40} is not allowed: it must be "auto" or a whole number from 1')
    return given


class Window:
    """How many rows may be begun: `limit` under way, and as many that are done and not handed out."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.handed = 0  # rows that the caller has, or has had

    def is_open(self, living: int, started: int) -> bool:
        """Whether one more may begin."""
        return living < self.limit and started - self.handed < 2 * self.limit


def run_rows(
    body: Body,
    new_context: NewContext,
    rows: Sequence[Row],
    limit: int,
    progress_bar: bool,
    in_order: bool,
    in_threads: bool,
) -> Iterator[ProgramState]:
    """States of all rows, in order or as they finish; at most `limit` are under way. `row` and `raised` are set.

    In order, a slow row makes others wait to be handed out: at most `limit` of them, then no more are begun.
    """
    window = Window(limit)
    start = _run_in_loop if body.is_async else _run_in_threads if in_threads else _run_in_greenlets
    bar = tqdm(total=len(rows), desc=body.name, unit="row") if progress_bar else None  # it comes with a thread
    with bar or nullcontext():
        finished = start(body, new_context, rows, window, bar.update if bar is not None else _no_tick)
        for state in _ordered(finished) if in_order else finished:
            window.handed += 1
            yield state


def _no_tick() -> None:
    """Nobody watches."""


def raising(states: Iterator[ProgramState], name: str) -> Iterator[ProgramState]:
    """The states; after the last, raises BatchFailed if bodies raised."""
    failed = []
    count = 0
    for state in states:
        count += 1
        if state.raised is not None:
            failed.append(state)
        yield state
    if failed:
        raise _batch_failed(failed, failed, count, name)


def checked(states: list[ProgramState], name: str) -> list[ProgramState]:
    """The states; raises BatchFailed, which holds them all, if bodies raised."""
    failed = [state for state in states if state.raised is not None]
    if failed:
        raise _batch_failed(failed, states, len(states), name)
    return states


def _batch_failed(failed: list[ProgramState], held: list[ProgramState], count: int, name: str) -> BatchFailed:
    first = failed[0]
    error = BatchFailed(
        f"{len(failed)} of {count} rows of program {name!r} raised; the first, row {first.row}: "
        f"{type(first.raised).__name__}: {first.raised}. The others have run: their states are in this error's "
        '`generations`; errors="return" leaves each error in its own state',
        held,
    )
    error.__cause__ = first.raised
    return error


def _ordered(finished: Iterator[ProgramState]) -> Iterator[ProgramState]:
    early: dict[int, ProgramState] = {}
    wanted = 0
    for state in finished:
        early[state.row] = state
        while wanted in early:
            yield early.pop(wanted)
            wanted += 1


class _Ready:
    """Rows that can go on, told from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: deque[_RowWaiter] = deque()
        self._wake: Wake | None = None

    def put(self, row: _RowWaiter) -> None:
        with self._lock:
            self._rows.append(row)
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def get(self) -> _RowWaiter:
        """The next; waits for it, as a thread or, inside another batch, as a greenlet."""
        while True:
            with self._lock:
                if self._rows:
                    return self._rows.popleft()
            wait(self._subscribe)

    def _subscribe(self, wake: Wake) -> None:
        with self._lock:
            if not self._rows:
                self._wake = wake
                return
        wake()


class _RowWaiter(Waiter):
    """One row's body. It waits by going back to the loop over all rows."""

    state: ProgramState | None = None
    row: int
    ready: _Ready
    over: bool = False

    def wait(self, subscribe: Subscribe) -> None:
        if self.over:
            raise GreenletExit
        subscribe(lambda: self.ready.put(self))
        assert self.parent is not None, "it waits below the loop over rows"
        self.parent.switch()


def _run_in_greenlets(
    body: Body, new_context: NewContext, rows: Sequence[Row], window: Window, tick: Callable[[], object]
) -> Iterator[ProgramState]:
    ready = _Ready()
    living: set[_RowWaiter] = set()
    started = 0
    thread = threading.get_ident()
    try:
        while living or started < len(rows):
            if started < len(rows) and window.is_open(len(living), started):
                row = _row(body, new_context(*rows[started]), rows[started], started, ready)
                living.add(row)
                started += 1
            else:
                row = ready.get()
            if threading.get_ident() != thread:
                raise ProgramError("the iterator of a batch must be used in the thread that began it")
            row.parent = getcurrent()
            row.switch()
            if row.dead:
                living.discard(row)
                tick()
                assert row.state is not None, "a row leaves a state"
                yield row.state
    finally:
        for row in living:
            _end(row)


def _row(body: Body, context: RunContext, row: Row, index: int, ready: _Ready) -> _RowWaiter:
    def main() -> None:
        made.state = _run_row(body, context, row, index)

    made = _RowWaiter(main)
    made.gr_context = copy_context()
    made.row, made.ready = index, ready
    return made


def _run_row(body: Body, context: RunContext, row: Row, index: int) -> ProgramState:
    """Run one row to its end. What its body raises is kept in the state."""
    state = begin(context)
    state.row = index
    try:
        run_here(body, state, *row)
        state.sync()
    except Exception as error:
        state.raised = error
        state.stream_executor.break_off(error)
    return state


def _end(row: _RowWaiter) -> None:
    """The batch is over before this row is."""
    row.over = True
    row.parent = getcurrent()
    row.throw(GreenletExit)


def _run_in_threads(
    body: Body, new_context: NewContext, rows: Sequence[Row], window: Window, tick: Callable[[], object]
) -> Iterator[ProgramState]:
    """Each body in a thread of a pool, for bodies that wait for other things than values."""
    under_way: dict[Future[ProgramState], RunContext] = {}
    started = 0
    pool = ThreadPoolExecutor(min(window.limit, len(rows)), thread_name_prefix=f"ramify batch {body.name}")
    try:
        while under_way or started < len(rows):
            if started < len(rows) and window.is_open(len(under_way), started):
                context = new_context(*rows[started])
                under_way[pool.submit(_run_row, body, context, rows[started], started)] = context
                started += 1
                continue
            for future in futures.wait(under_way, return_when=futures.FIRST_COMPLETED).done:
                del under_way[future]
                tick()
                yield future.result()
    finally:
        for context in under_way.values():
            context.stop("its batch was stopped")
        pool.shutdown(wait=False, cancel_futures=True)


def _run_in_loop(
    body: Body, new_context: NewContext, rows: Sequence[Row], window: Window, tick: Callable[[], object]
) -> Iterator[ProgramState]:
    """Async programs: all in one event loop, which runs in a thread so that this one may iterate."""
    finished: queue.SimpleQueue[ProgramState | BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()

    async def one(index: int) -> None:
        state = begin(new_context(*rows[index]))
        state.row = index
        try:
            await run_async(body, state, *rows[index])
        except Exception as error:
            state.raised = error
            state.stream_executor.break_off(error)
        finished.put(state)

    async def main() -> None:
        tasks: set[asyncio.Task[None]] = set()
        for index in range(len(rows)):
            while not window.is_open(len(tasks), index) and not stopped.is_set():
                await asyncio.wait([*tasks, asyncio.create_task(asyncio.sleep(0.01))], return_when=_FIRST)
            if stopped.is_set():
                break
            task = asyncio.create_task(one(index))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.wait(tasks, timeout=0.1)
            if stopped.is_set():
                for task in tasks:
                    task.cancel()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            finished.put(error)
        finished.put(None)

    thread = threading.Thread(target=run, name=f"ramify batch {body.name}", daemon=True)
    thread.start()
    try:
        while (state := finished.get()) is not None:
            if isinstance(state, BaseException):
                raise state
            tick()
            yield state
    finally:
        stopped.set()
