"""Runs the nodes of one stream on a backend, one after another, from callbacks: a state is not a thread."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from ..errors import ProgramError
from .failures import Abandoned, UnsetVariable, again, where
from .generating import step_gen
from .history import Entry, StreamHistory
from .nodes import (
    Gen,
    Media,
    Node,
    Place,
    RoleEnd,
    RoleStart,
    ScopeEnd,
    ScopeStart,
    Select,
    SetVariable,
    Text,
    VariableText,
)
from .run_context import RunContext
from .selecting import step_select
from .steps import (
    Step,
    started_from,
    step_fork,
    step_media,
    step_role_end,
    step_role_start,
    step_scope_end,
    step_scope_start,
    step_set,
    step_text,
    step_variable_text,
)
from .stream import ForkPoint, Stream
from .variables import Variable

STEPS: dict[type, Step] = {
    Text: step_text,
    Gen: step_gen,
    Select: step_select,
    RoleStart: step_role_start,
    RoleEnd: step_role_end,
    Media: step_media,
    VariableText: step_variable_text,
    SetVariable: step_set,
    ScopeStart: step_scope_start,
    ScopeEnd: step_scope_end,
}


class StreamExecutor(Stream):
    """A stream that programs append to and fork."""

    __slots__ = ("__weakref__",)

    @classmethod
    def root(cls, context: RunContext) -> StreamExecutor:
        """The first stream of a run."""
        made = cls(context, context.backend.stream(), StreamHistory(next(context.numbers)))
        if not context.options.reuse_handles:
            made.operations = []
        return made

    def child(self) -> StreamExecutor:
        """A fork that waits for its parent to come to it. Only with the lock held."""
        history = StreamHistory(next(self.context.numbers), self.history, len(self.history.entries))
        self.history.children.append(history)
        made = StreamExecutor(self.context, None, history)
        made.variables = self.variables.copy()
        made.submitted_role = self.submitted_role
        made.waits_for = self
        return made

    def submit(self, nodes: Iterable[Node], place: Place | None = None) -> None:
        """Append nodes. Raises ProgramError for what the language does not allow, and then appends none of them."""
        with self.lock:
            self._check_open(place, "nothing can be appended")
            self._enqueue(nodes, place)
            mine = not self.busy and self.attached
            if mine:
                self.busy = True
        if mine:
            self.run()
        if self.context.step_by_step or (self.history.parent is not None and not self.context.options.parallel_forks):
            self.sync()

    def fork(self, count: int, place: Place | None = None) -> list[StreamExecutor]:
        """Streams that go on from here, as soon as this one comes here. Does not wait."""
        with self.lock:
            self._check_open(place, "it cannot be forked")
            children = [self.child() for _ in range(count)]
            self.readers += count
            self.queue.append(ForkPoint(list(children), place))
            mine = not self.busy and self.attached
            if mine:
                self.busy = True
        if mine:
            self.run()
        return children

    def join(self, children: list[StreamExecutor], mode: str, place: Place) -> None:
        """Wait for the children, and bring home what they made; they are closed then. Raises the first one's error."""
        options = self.context.options
        if options.next_use and self.stream is not None and any(child.working for child in children):
            self.stream.hint(next_use=max(_steps_left(child) for child in children))
        for child in children:
            child.sync()
        for index, child in enumerate(children):
            if child.error is not None:
                error = child.error
                raise type(error)(f"branch {index + 1} of {len(children)}: {error}").with_traceback(None) from error
        if mode == "gather_variable":
            self._gather(children, place)
        else:
            for child in children:
                self.submit(_said(child), place)
        for child in children:
            child.history.joined_at = len(self.history.entries)
            child.history.joined_as = mode
            child.seal(f"the branch was joined at {place.file}:{place.line}")

    def _gather(self, children: list[StreamExecutor], place: Place) -> None:
        """Each child's new variables become lists here."""
        before = set(self.variables)
        gathered: dict[str, list[Variable]] = {}
        for child in children:
            for name, variable in list(child.variables.items()):
                if name not in before:
                    if variable.error is not None:
                        raise again(variable.error)
                    gathered.setdefault(name, []).append(variable)
        for name, variables in gathered.items():
            self.set_variable(name, [variable.value for variable in variables], place)
            self.variables[name].meta = [variable.meta for variable in variables]

    def set_variable(self, name: str, value: Any, place: Place | None = None) -> None:
        """Give a variable a value, at once."""
        self.submit((SetVariable(name, value, place),), place)

    def read(self, name: str, place: Place | None = None) -> Variable:
        """The variable as it was declared last. Raises UnsetVariable."""
        found = self.variables.get(name)
        if found is None:
            known = ", ".join(map(repr, self.variables)) or "none"
            raise UnsetVariable(
                f"{where(self.context.program, place)}: variable {name!r} was never set; variables set here: {known}"
            )
        return found

    def run(self, *, resumed: bool = False) -> None:
        """Run the queue until a call is in flight or nothing is left, and those of forks that start on the way."""
        stack = _run_queue(self, resumed)[::-1]
        while stack:
            stack.extend(reversed(_run_queue(stack.pop())))

    # -- appending ------------------------------------------------------------------------------------------------

    def _check_open(self, place: Place | None, what: str) -> None:
        reason = self.context.stopped or self.sealed
        if reason is not None:
            raise Abandoned(f"{where(self.context.program, place)}: {what}: {reason}")

    def _enqueue(self, nodes: Iterable[Node], place: Place | None) -> None:
        """Check the nodes, declare their variables, queue them."""
        role = self.submitted_role
        declared: dict[str, Variable] = {}
        entries = []
        gens = 0
        node: Any
        for node in nodes:
            kind = type(node)
            at = node.place or place
            variable = None
            if kind is Gen or kind is Select:
                gens += 1
                if node.name is not None:
                    if node.name in declared:
                        self._warn_twice(node.name, at)
                    variable = declared[node.name] = self._declare(node)
                if kind is Gen and node.reasoning is not None and variable is not None:
                    thoughts = f"{variable.name}_reasoning_content"
                    declared[thoughts] = Variable(thoughts)
            elif kind is RoleStart or kind is RoleEnd:
                role = self._next_role(node, role, at)
            elif kind is ScopeStart:
                variable = declared[node.name] = Variable(node.name)
            elif kind is SetVariable:
                variable = declared[node.name] = Variable.holding(node.name, node.value)
            elif kind is VariableText:
                variable = declared.get(node.name) or self.read(node.name, at)
            entries.append(Entry(node, at, variable))
        self.submitted_role = role
        self.gens_waiting += gens
        if declared:
            self.variables.update(declared)
        self.queue.extend(entries)
        self.history.entries.extend(entries)

    def _declare(self, node: Any) -> Variable:
        variable = Variable(node.name)
        if self.context.streaming:
            variable.chunks = []
        return variable

    def _warn_twice(self, name: str, place: Place | None) -> None:
        message = f"variable {name!r} is made twice in one expression, and holds only the last value"
        warnings.warn_explicit(
            f"{where(self.context.program, place)}: {message}",
            RuntimeWarning,
            place.file if place else "?",
            place.line if place else 0,
        )

    def _next_role(self, node: Any, role: Any, place: Place | None) -> tuple[str, Place | None] | None:
        """Roles do not nest, and end as what they began."""
        program = self.context.program
        if type(node) is RoleStart:
            if role is not None:
                since = f" (since {role[1].file}:{role[1].line})" if role[1] else ""
                raise ProgramError(
                    f"{where(program, place)}: {node.role!r} starts to speak while {role[0]!r} speaks{since}; "
                    f"roles do not nest: end it first, with {role[0]}_end()"
                )
            return node.role, place
        if role is None:
            raise ProgramError(f"{where(program, place)}: {node.role!r} ends, but no role speaks")
        if role[0] != node.role:
            raise ProgramError(f"{where(program, place)}: {node.role!r} ends while {role[0]!r} speaks")
        return None


def _steps_left(stream: Stream) -> float:
    """How many steps a stream's known gens may take."""
    total = 0.0
    most = stream.context.defaults.max_new_tokens or 0
    for entry in stream.history.entries:
        if entry.ended is None and isinstance(entry.node, Gen):
            total += entry.node.sampling.max_new_tokens or most
    return total


def _said(child: Stream) -> list[Node]:
    """What a branch appended, as nodes for its parent: roles stay roles, and what was generated is text."""
    return [
        entry.node if isinstance(entry.node, RoleStart | RoleEnd) else Text(entry.text, entry.place)
        for entry in child.history.entries
        if entry.text or isinstance(entry.node, RoleStart | RoleEnd)
    ]


def _run_queue(stream: Stream, resumed: bool = False) -> list[Stream]:
    """Run one stream's queue as far as it goes. Returns the forks that were started and can run.

    `resumed`: a call has just ended. When no other one is behind it, the program is looking at its value.
    """
    started: list[Stream] = []
    appended = False
    while True:
        with stream.lock:
            looks = resumed and not stream.queue
            if not stream.queue and not looks:
                stream.busy = False
                stream.call = None
                wakes, stream.idle_wakes = stream.idle_wakes, []
                over = stream.sealed is not None
                break
            item = None if looks else stream.queue.popleft()
        if item is None:
            resumed = False
            _while_it_looks(stream, appended)
            continue
        appended = True
        try:
            if stream.error is not None or stream.context.stopped is not None:
                started += _skip(stream, item)
            elif isinstance(item, ForkPoint):
                forks = step_fork(stream, item)
                if forks is None:
                    return started
                started += _claimed(forks)
            elif not stream.needed:
                _skip(stream, item)
            elif not STEPS[type(item.node)](stream, item):
                return started
        except Exception as error:  # what a backend raises is this stream's error and nobody else's
            stream.fail(item, error)
            if isinstance(item, ForkPoint):
                started += _skip(stream, item)
    if over:
        stream.release()
    if stream.text_wakes:
        stream.tell_text()
    for wake in wakes:
        wake()
    return started


def _while_it_looks(stream: Stream, appended: bool) -> None:
    """The program looks at a value: constants behind it may be prefilled, and what is there will be needed again."""
    options = stream.context.options
    if stream.stream is None or stream.error is not None or not stream.needed:
        return
    if appended and options.lookahead:
        stream.stream.ahead()
    if options.next_use and stream.sealed is None:
        stream.stream.hint(next_use=1.0)


def _claimed(forks: list[Stream]) -> list[Stream]:
    """Those of the forks that nobody runs yet, now to be run by the caller."""
    mine = []
    for fork in forks:
        with fork.lock:
            if not fork.busy:
                fork.busy = True
                mine.append(fork)
    return mine


def _skip(stream: Stream, item: Entry | ForkPoint) -> list[Stream]:
    """The item will not run: its variables say why, its forks fail as their parent did."""
    if stream.error is None:
        stream.fail(item, Abandoned("not run"))
    first = stream.error
    assert first is not None
    if isinstance(item, Entry):
        stream.skip(item, first)
        return []
    for child in item.children:
        child.error = child.error or first
        child.prefix, child.attached = stream.text(), True
        started_from(child)
    return _claimed(item.children)
