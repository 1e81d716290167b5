"""A running program as its body sees it: append to it, read its variables, fork it."""

from __future__ import annotations

import sys
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, SupportsIndex

from ..errors import InvalidRequest, ProgramError
from .dropping import drop
from .executor import StreamExecutor
from .expressions import Expression, Piece, described, expression, place_of, role
from .failures import again, where
from .history import StreamHistory
from .nodes import Place, RoleEnd, RoleStart, ScopeEnd, ScopeStart, Text
from .record import RunRecord, record
from .stats import RunStats, stats_of
from .steps import open_message
from .streaming import TextCursor, pieces, pieces_async
from .variables import Variable
from .view import html_of
from .waiting import Subscribe, wait, wait_async, who


class ProgramState:
    """The first argument of every program.

    `s += text or expression` appends and returns at once; `s["x"]` waits for the value of x; `s.fork(n)` branches.
    When the last reference to a state goes, what it still runs is cancelled, since nobody can read it.
    """

    def __init__(self, stream_executor: StreamExecutor, owner: bool = True) -> None:
        self.stream_executor = stream_executor
        self.ret_value: Any = None  # what the program's body returned
        self.row = 0  # which row of a batch it ran
        self.raised: Exception | None = None  # what its body raised, in a batch
        self.handed_out: weakref.ref[ProgramState] | None = None  # the caller's own, where the body runs in a thread
        self.follows = False  # whether its text ends with the program, not with what was appended so far
        self._owner = owner

    # -- appending ------------------------------------------------------------------------------------------------

    def __iadd__(self, other: Any) -> ProgramState:
        append(self, other, place_of(sys._getframe(1)))
        return self

    def system(self, expr: Any = None) -> Any:
        """Append what the system says; with nothing, a context manager: `with s.system(): ...`."""
        return self._role("system", expr, place_of(sys._getframe(1)))

    def user(self, expr: Any = None) -> Any:
        """Append what the user says; with nothing, a context manager."""
        return self._role("user", expr, place_of(sys._getframe(1)))

    def assistant(self, expr: Any = None) -> Any:
        """Append what the assistant says; with nothing, a context manager."""
        return self._role("assistant", expr, place_of(sys._getframe(1)))

    def _role(self, name: str, expr: Any, place: Place) -> Any:
        if expr is None:
            return self._between(RoleStart(name, place), RoleEnd(name, place), place)
        return append(self, role(name, expr, place), place)

    def var_scope(self, name: str) -> Any:
        """`with s.var_scope("x"): ...`: all text that is appended inside becomes the variable."""
        place = place_of(sys._getframe(1))
        return self._between(ScopeStart(_name(name), place), ScopeEnd(name, place), place)

    @contextmanager
    def _between(self, start: Any, end: Any, place: Place) -> Iterator[ProgramState]:
        self.stream_executor.submit((start,), place)
        scope = self.stream_executor.variables.get(start.name) if isinstance(start, ScopeStart) else None
        if scope is not None:
            scope.inside = who()
        try:
            yield self
        except BaseException:
            if self.stream_executor.sealed is None and self.stream_executor.context.stopped is None:
                self.stream_executor.submit((end,), place)
            raise
        finally:
            if scope is not None:
                scope.inside = None
        self.stream_executor.submit((end,), place)

    # -- variables ------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        return _value(self._ready(name, place_of(sys._getframe(1))))

    def __setitem__(self, name: str, value: Any) -> None:
        self.stream_executor.set_variable(_name(name), value, place_of(sys._getframe(1)))

    def __contains__(self, name: str) -> bool:
        """Whether the variable was set, or will be by what was appended. Does not wait."""
        return name in self.stream_executor.variables

    def get_var(self, name: str) -> Any:
        """The same as `s[name]`."""
        return _value(self._ready(name, place_of(sys._getframe(1))))

    def set_var(self, name: str, value: Any) -> None:
        """The same as `s[name] = value`."""
        self.stream_executor.set_variable(_name(name), value, place_of(sys._getframe(1)))

    async def get(self, name: str) -> Any:
        """`await s.get("x")`: the value of x; the event loop goes on meanwhile."""
        for more in self._follow(name):
            await wait_async(more)
        variable = self.stream_executor.read(name)
        self._check_outside(variable, None)
        if not variable.ready:
            await wait_async(variable.subscribe)
        return _value(variable)

    def get_meta_info(self, name: str) -> Any:
        """What the backend reported about the gen or select that made the variable: a dict, or n of them in a list."""
        variable = self._ready(name, place_of(sys._getframe(1)))
        _value(variable) if variable.meta is None else None
        return variable.meta if variable.meta is not None else {}

    def tool_calls(self, name: str) -> tuple[Any, ...]:
        """The calls that `gen(name, tools=[...])` wrote, each with `name`, `arguments` and `run()`."""
        variable = self._ready(name, place_of(sys._getframe(1)))
        _value(variable)
        return variable.tool_calls

    def _ready(self, name: str, place: Place) -> Variable:
        for more in self._follow(name):
            wait(more)
        variable = self.stream_executor.read(name, place)
        self._check_outside(variable, place)
        if not variable.ready:
            wait(variable.subscribe)
        return variable

    def _follow(self, name: str | None = None) -> Iterator[Subscribe]:
        """What to wait for, one after another, until a body in another thread has declared the variable, or ended."""
        executor = self.stream_executor
        while self.follows and (name is None or name not in executor.variables):
            seen = len(executor.chunks)
            if executor.is_over(True):
                if name is not None and name not in executor.variables:
                    self._raise()
                return
            yield partial(executor.on_text, seen, True)

    def _check_outside(self, variable: Variable, place: Place | None) -> None:
        if variable.inside is not None and variable.inside == who():
            raise ProgramError(
                f"{where(self.stream_executor.context.program, place)}: {variable.name!r} is read inside its own "
                "var_scope, which would wait for its end for ever; read it after the `with`"
            )

    # -- reading --------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """All the text. Waits for it; raises what kept it from being made."""
        self.sync()
        self._raise()
        return self.stream_executor.text()

    def messages(self) -> list[dict[str, Any]]:
        """What the roles said, as OpenAI's APIs write it: [{"role": ..., "content": ...}]. Waits for it."""
        executor = self.stream_executor
        self.sync()
        self._raise()
        spoken = [dict(message) for message in executor.messages]
        if executor.role is not None and (message := open_message(executor))["content"]:
            spoken.append(message)
        return spoken

    def sync(self) -> None:
        """Wait until everything that was appended has run, or failed. Raises nothing: see `error()`."""
        for more in self._follow():
            wait(more)
        self.stream_executor.sync()

    def error(self) -> Exception | None:
        """What went wrong in this stream; None: nothing did. Waits for what was appended."""
        self.sync()
        return self.stream_executor.error or self.stream_executor.value_error

    def _raise(self) -> None:
        if self.stream_executor.error is not None:
            raise again(self.stream_executor.error)

    def text_iter(self, var_name: str | None = None) -> Iterator[str]:
        """The text, or that of one variable, piece by piece as it comes; after the last piece, raises what failed."""
        return pieces(TextCursor(self.stream_executor, var_name, self.follows), self)

    def text_async_iter(self, var_name: str | None = None, return_meta_data: bool = False) -> AsyncIterator[Any]:
        """The same for `async for`; with return_meta_data, pairs of a piece and the meta_info so far."""
        return pieces_async(TextCursor(self.stream_executor, var_name, self.follows), self, return_meta_data)

    # -- branching ------------------------------------------------------------------------------------------------

    def fork(self, size: int = 1, position_ids_offset: list[int] | None = None) -> ProgramStateGroup:
        """`size` states that go on from here, each on its own, at the same time. Does not wait."""
        return fork(self, size, place_of(sys._getframe(1)))

    def copy(self, position_ids_offset: list[int] | None = None) -> Copy:
        """`with s.copy() as c: ...`: a throw-away copy; its new variables come back as lists of one."""
        return Copy(self, place_of(sys._getframe(1)))

    # -- looking --------------------------------------------------------------------------------------------------

    @property
    def history(self) -> StreamHistory:
        """This stream's nodes and what became of them, and those of its forks."""
        return self.stream_executor.history

    def stats(self) -> RunStats:
        """What this run, its forks included, cost: cached, forced, speculated and computed tokens for each gen."""
        self.stream_executor.sync()
        return stats_of([self.stream_executor.history])

    def record(self) -> RunRecord:
        """This run as data, with all its forks, as far as it has come: `.save(path)` writes it as JSON."""
        executor = self.stream_executor
        return record(executor.history, executor.context, executor.error or executor.value_error)

    def save(self, path: str | Path) -> None:
        """Wait for the run's own stream, and write the run as JSON: `load_run(path)` reads it back."""
        self.stream_executor.sync()
        self.record().save(path)

    def _repr_html_(self) -> str:
        return html_of(self.record(), self.stream_executor.history.number)

    def __repr__(self) -> str:
        return f"ProgramState({self.stream_executor.text()!r})"

    def __del__(self) -> None:
        executor = getattr(self, "stream_executor", None)
        if isinstance(executor, StreamExecutor) and self._owner:  # not a recorder of a trace
            drop(executor)


class Copy:
    """A fork of one, for a `with` statement."""

    def __init__(self, state: ProgramState, place: Place) -> None:
        self._state, self._place = state, place
        self._group: ProgramStateGroup | None = None

    def __enter__(self) -> ProgramState:
        self._group = fork(self._state, 1, self._place)
        return self._group[0]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        group, self._group = self._group, None
        if group is not None and error is None:
            join(group, "gather_variable", self._place)


class ProgramStateGroup:
    """The states of a fork: `g[i]`, iteration, `g += expression` for all, `g.join()`."""

    def __init__(self, states: list[ProgramState], src_state: ProgramState) -> None:
        self.states = states
        self.src_state = src_state
        self.joined: Place | None = None

    def join(self, mode: str = "gather_variable") -> None:
        """Wait for all of them; append their new variables to the parent as lists, or
        ("concate_and_append") their texts.

        Raises the error of the first that failed. They can be read, but not appended to, afterwards.
        """
        join(self, mode, place_of(sys._getframe(1)))

    def __getitem__(self, index: int) -> ProgramState:
        return self.states[index]

    def __setitem__(self, index: int, state: ProgramState) -> None:
        """For `g[i] += ...`, which stores what it appended to."""
        if self.states[index] is not state:
            raise ProgramError("a branch cannot be replaced by another state")

    def __len__(self) -> int:
        return len(self.states)

    def __repr__(self) -> str:
        return f"<{len(self.states)} branches of {self._program!r}>"

    def __iter__(self) -> Iterator[ProgramState]:
        return iter(self.states)

    def __iadd__(self, other: Any) -> ProgramStateGroup:
        place = place_of(sys._getframe(1))
        if isinstance(other, list | tuple):
            if len(other) != len(self.states):
                raise ProgramError(
                    f"{where(self._program, place)}: {len(other)} expressions for {len(self.states)} branches"
                )
            for state, one in zip(self.states, other, strict=True):
                append(state, one, place)
        elif callable(other) and not isinstance(other, Expression | Piece):
            for index, state in enumerate(self.states):
                append(state, other(index), place)
        else:
            for state in self.states:
                append(state, other, place)
        return self

    @property
    def _program(self) -> str:
        return self.src_state.stream_executor.context.program


def append(state: ProgramState, value: Any, place: Place) -> None:
    """Append a text or an expression. Raises ProgramError for anything else."""
    executor = state.stream_executor
    if type(value) is str:
        if not str.isascii(value):
            check_text(value, executor.context.program, place)
        executor.submit((Text(value, place),), place)
        return
    if value is state:  # `s += f(s)`, where f has appended to s itself
        return
    if not isinstance(value, Expression | Piece | str):
        raise ProgramError(f"{where(executor.context.program, place)}: {described(value)}")
    waiting: list[Any] = []
    for node in expression(value, "s += ...").nodes:
        if isinstance(node, Piece):
            executor.submit(waiting, place)
            waiting = []
            node.append_to(state)  # type: ignore[attr-defined]
            continue
        if type(node) is Text and isinstance(node.text, str) and not str.isascii(node.text):
            check_text(node.text, executor.context.program, place)
        waiting.append(node)
    executor.submit(waiting, place)


def check_text(text: str, program: str, place: Place) -> None:
    """Raises ProgramError for text that no encoding has: half of a surrogate pair."""
    try:
        str.encode(text)
    except UnicodeEncodeError as error:
        raise ProgramError(
            f"{where(program, place)}: character {error.start} of the text is {text[error.start]!r}, half of a "
            "surrogate pair; it was decoded wrongly: decode with errors='replace'"
        ) from None


def fork(state: ProgramState, size: int, place: Place) -> ProgramStateGroup:
    """Fork, after a look at `size`."""
    executor = state.stream_executor
    most = executor.context.options.most_forks
    if isinstance(size, SupportsIndex) and not isinstance(size, bool):
        size = size.__index__()  # numpy's too
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= most:
        raise InvalidRequest(
            f"{where(executor.context.program, place)}: fork({size!r}): the number of branches must be from 1 to "
            f"{most:,}" + ("; run_batch runs any number of programs" if isinstance(size, int) and size > most else "")
        )
    return ProgramStateGroup([ProgramState(child) for child in executor.fork(size, place)], state)


def join(group: ProgramStateGroup, mode: str, place: Place) -> None:
    """Join, once."""
    executor = group.src_state.stream_executor
    program = executor.context.program
    if mode not in ("gather_variable", "concate_and_append"):
        raise InvalidRequest(
            f'{where(program, place)}: join({mode!r}): the modes are "gather_variable" and "concate_and_append"'
        )
    if group.joined is not None:
        raise ProgramError(
            f"{where(program, place)}: these branches were joined at {group.joined.file}:{group.joined.line} already"
        )
    group.joined = place
    executor.join([state.stream_executor for state in group.states], mode, place)


def _value(variable: Variable) -> Any:
    if variable.error is not None:
        raise again(variable.error)
    return variable.value


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"a variable's name must be a text of at least one character, not {name!r:.60}")
    return name
