"""Runs a program's body: in the caller's thread, in a thread of its own, or inside an event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Protocol

from ..errors import ProgramError
from .dropping import watch_for_drops
from .executor import StreamExecutor
from .failures import Abandoned, where
from .nodes import Place
from .run_context import RunContext
from .state import ProgramState
from .waiting import Subscribe, Waiter, wait_async

_IN_PROGRAM: ContextVar[bool] = ContextVar("ramify_in_program", default=False)


class Body(Protocol):
    """What is run: a program."""

    name: str
    func: Callable[..., Any]
    is_async: bool


def in_program() -> bool:
    """Whether the caller is inside a program's body."""
    return _IN_PROGRAM.get()


@contextmanager
def inside_program() -> Iterator[None]:
    """While inside, programs that are called without a state are pieces to append."""
    before = _IN_PROGRAM.set(True)
    try:
        yield
    finally:
        _IN_PROGRAM.reset(before)


class TooDeep(ProgramError):
    """A program called itself without end, or nearly. Raised where the run began, without the thousand frames below."""


def too_deep(body: Body) -> TooDeep:
    """The error of a program that calls itself deeper than Python goes."""
    code = getattr(inspect.unwrap(body.func), "__code__", None)
    place = None if code is None else Place(code.co_filename, code.co_firstlineno, body.name)
    return TooDeep(
        f"{where(body.name, place)}: it calls itself deeper than Python allows (sys.getrecursionlimit()); use a loop"
    )


def begin(context: RunContext, owner: bool = True) -> ProgramState:
    """The state of a new run."""
    watch_for_drops()
    return ProgramState(StreamExecutor.root(context), owner)


def finish(state: ProgramState, result: Any) -> ProgramState:
    """The body has returned."""
    state.ret_value = result
    handed_out = state.handed_out() if state.handed_out is not None else None
    if handed_out is not None:
        handed_out.ret_value = result
    state.stream_executor.seal("its program has ended")
    return state


def stop(state: ProgramState, name: str, error: BaseException) -> None:
    """The body has raised: nothing of the run goes on."""
    state.stream_executor.context.stop(f"program {name!r} raised {type(error).__name__}: {error}"[:500])
    state.stream_executor.abandon("its program raised an error")


def run_here(body: Body, state: ProgramState, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ProgramState:
    """Run in this thread, until the body has returned."""
    if body.is_async:
        return _run_loop(body, state, args, kwargs)
    _call(body, state, args, kwargs)
    return state


def _call(body: Body, state: ProgramState, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    before = _IN_PROGRAM.set(True)
    try:
        result = body.func(state, *args, **kwargs)
    except (RecursionError, TooDeep) as error:
        stop(state, body.name, error)
        raise (too_deep(body) if isinstance(error, RecursionError) else error.with_traceback(None)) from None
    except BaseException as error:
        stop(state, body.name, error)
        raise
    finally:
        _IN_PROGRAM.reset(before)
    finish(state, result)


def _run_loop(body: Body, state: ProgramState, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ProgramState:
    """Run an async body where there is no event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run_async(body, state, args, kwargs))
    raise ProgramError(
        f"program {body.name!r} is async and an event loop is running: write `await {body.name}.run_async(...)`"
    )


async def run_async(body: Body, state: ProgramState, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ProgramState:
    """Run while the event loop goes on. A body that is not async runs in a greenlet, so that its reads do not block."""
    if not body.is_async:
        await _drive(lambda: _call(body, state, args, kwargs))
    else:
        await _await_body(body, state, args, kwargs)
    try:
        await wait_async(state.stream_executor.on_idle)
    except BaseException as error:
        stop(state, body.name, error)
        raise
    return state


async def _await_body(body: Body, state: ProgramState, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    before = _IN_PROGRAM.set(True)
    try:
        result = await body.func(state, *args, **kwargs)
    except BaseException as error:
        stop(state, body.name, error)
        raise
    finally:
        _IN_PROGRAM.reset(before)
    finish(state, result)


class _LoopWaiter(Waiter):
    """Waits by handing its parent, which is inside the event loop, what to wait for."""

    def wait(self, subscribe: Subscribe) -> None:
        assert self.parent is not None, "it waits below a loop"
        self.parent.switch(subscribe)


async def _drive(function: Callable[[], None]) -> None:
    waiter = _LoopWaiter(function)
    waiter.gr_context = copy_context()
    subscribe = waiter.switch()
    while not waiter.dead:
        try:
            await wait_async(subscribe)
        except BaseException as error:  # cancelled: the body hears of it where it waits
            subscribe = waiter.throw(error)
        else:
            subscribe = waiter.switch()


def run_streaming(body: Body, state: ProgramState, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ProgramState:
    """Return at once; the body goes on in a thread. When nobody holds the returned state any more, it is stopped."""
    inner = ProgramState(state.stream_executor, owner=False)
    inner.handed_out = weakref.ref(state)
    state.follows = True
    thread = threading.Thread(
        target=_stream, args=(body, inner, args, kwargs), name=f"ramify program {body.name}", daemon=True
    )
    thread.start()
    return state


def _stream(body: Body, state: ProgramState, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    executor = state.stream_executor
    try:
        if body.is_async:
            asyncio.run(_await_body(body, state, args, kwargs))
        else:
            _call(body, state, args, kwargs)
    except BaseException as error:  # it is raised where the text or a value is read
        if isinstance(error, Abandoned) and executor.abandoned:
            return
        found = error if isinstance(error, Exception) else ProgramError(f"program {body.name!r}: {error!r}")
        executor.break_off(found)
