"""The templates of one program: made when arguments of a new shape come, kept, and run instead of the Python body."""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..backends.base import Backend
from ..sampling import Sampling
from ..state import ProgramState
from ..waiting import wait, wait_async
from .execute import Template, execute
from .explain import Explanation, explain
from .graph import Graph
from .passes import Passes, apply
from .recorder import StreamRecorder
from .references import Argument
from .shapes import Path, shape
from .trace import trace

MOST = 64  # templates that are kept for one program
ENOUGH = 16  # templates after which there must have been more uses than templates
RETRIES = 8  # traces with more and more arguments known, until the template goes as far as it can


class Templates:
    """A program's templates, by the shapes of arguments. Any thread may use it."""

    def __init__(self, func: Callable[..., Any], name: str, passes: Passes) -> None:
        self.func = func
        self.name = name
        self.passes = passes
        self.signature = inspect.signature(func)
        self._templates: OrderedDict[Any, Template] = OrderedDict()
        self._known: frozenset[Path] = frozenset()  # texts that the body looks at
        self._made = self._uses = self._dropped = 0

    def template(
        self, arguments: Mapping[str, Any], defaults: Sampling, *, stand_ins: Collection[str] = ()
    ) -> Template:
        """The template for these arguments, all of them, by name. Those in `stand_ins` have no value to look at yet."""
        found = self.known_template(arguments, defaults)
        if found is not None:
            return found
        known = self._known if self._specializes else frozenset()
        graph = trace(self._call, self.name, arguments, defaults, known)
        for _ in range(RETRIES):
            more = known | (_looked_at(graph, stand_ins) or _texts(arguments, stand_ins))
            if graph.stop is None or more == known or not self._specializes:
                break
            further = trace(self._call, self.name, arguments, defaults, more)
            if further.stop is not None and len(further.order) <= len(graph.order):
                break
            graph, known = further, more
        if known != self._known and not stand_ins:
            self._known = known
        key = self._key(arguments, defaults)
        made = Template.of(apply(graph, self.passes), defaults)
        self._made += 1
        if key is not None and not stand_ins:
            self._templates[key] = made
            while len(self._templates) > MOST:
                self._templates.popitem(last=False)
                self._dropped += 1
        return made

    def known_template(self, arguments: Mapping[str, Any], defaults: Sampling) -> Template | None:
        """The template for these arguments, if it has been made."""
        key = self._key(arguments, defaults)
        found = self._templates.get(key) if key is not None else None
        self._uses += found is not None
        return found

    def usable_template(self, arguments: Mapping[str, Any], defaults: Sampling) -> Template | None:
        """The template for these arguments; None: the arguments differ so much that templates do not pay."""
        found = self.known_template(arguments, defaults)
        if found is None and (self._made < ENOUGH or self._uses > 2 * self._made):
            found = self.template(arguments, defaults)
        return found

    def explain(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], defaults: Sampling, backend: Backend | None
    ) -> Explanation:
        """The graph that a call with these arguments would run, explained; what is left out stands for any text."""
        given = self.signature.bind_partial(None, *args, **kwargs).arguments
        arguments, missing = self.stand_ins(dict(list(given.items())[1:]))
        template = self.template(arguments, defaults, stand_ins=missing)
        known = {name: value for name, value in arguments.items() if name not in missing}
        return explain(template.graph, defaults, None if backend is None else backend.count_tokens, known)

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, defaults filled in, the state left out."""
        bound = self.signature.bind(None, *args, **kwargs)
        bound.apply_defaults()
        return dict(list(bound.arguments.items())[1:])

    def stand_ins(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Arguments by name for when only some are given: a text stands in for each that has no value."""
        arguments = dict(given)
        missing = []
        for parameter in list(self.signature.parameters.values())[1:]:
            if parameter.name in arguments:
                continue
            if parameter.kind is parameter.VAR_POSITIONAL:
                arguments[parameter.name] = ()
            elif parameter.kind is parameter.VAR_KEYWORD:
                arguments[parameter.name] = {}
            elif parameter.default is not parameter.empty:
                arguments[parameter.name] = parameter.default
            else:
                arguments[parameter.name] = parameter.name
                missing.append(parameter.name)
        ordered = {name: arguments[name] for name in list(self.signature.parameters)[1:]}
        return ordered, tuple(missing)

    def body(self) -> Callable[..., Any]:
        """A function to run instead of the program's own: it uses the template where that is whole."""
        make = self._async_body if inspect.iscoroutinefunction(self.func) else self._body
        made = functools.wraps(self.func)(make())
        made.templates = self  # type: ignore[attr-defined]
        return made

    def _body(self) -> Callable[..., Any]:
        def run(state: ProgramState, *args: Any, **kwargs: Any) -> Any:
            found = self._usable(state, args, kwargs)
            if found is None:
                return self.func(state, *args, **kwargs)
            steps = execute(*found)
            while True:
                try:
                    wait(next(steps))
                except StopIteration as end:
                    return end.value

        return run

    def _async_body(self) -> Callable[..., Any]:
        async def run(state: ProgramState, *args: Any, **kwargs: Any) -> Any:
            found = self._usable(state, args, kwargs)
            if found is None:
                return await self.func(state, *args, **kwargs)
            steps = execute(*found)
            while True:
                try:
                    await wait_async(next(steps))
                except StopIteration as end:
                    return end.value

        return run

    def _usable(
        self, state: ProgramState, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Template, ProgramState, dict[str, Any]] | None:
        """The template, with what to run it on, if it does all that the body would on this state."""
        executor = state.stream_executor
        if isinstance(executor, StreamRecorder):  # called inside a program that is being traced
            return None
        context = executor.context
        fresh = executor.history.parent is None and not executor.history.entries and not executor.variables
        if not fresh or not context.options.graph or context.step_by_step:
            return None
        arguments = self.bound(args, kwargs)
        found = self.usable_template(arguments, context.defaults)
        return (found, state, arguments) if found is not None and found.graph.stop is None else None

    def _call(self, state: ProgramState, **arguments: Any) -> Any:
        parameters = inspect.BoundArguments(self.signature, OrderedDict({self._first: state, **arguments}))
        return self.func(*parameters.args, **parameters.kwargs)

    @property
    def _specializes(self) -> bool:
        """Whether it is worth to make templates for the values of texts: not when each run brings others."""
        return self._dropped < MOST

    @property
    def _first(self) -> str:
        return next(iter(self.signature.parameters))

    def _key(self, arguments: Mapping[str, Any], defaults: Sampling) -> Any | None:
        found = shape(arguments, self._known)
        return None if found is None else (found, defaults.n, defaults.max_new_tokens)


def templates_of(func: Any) -> Templates | None:
    """The templates of a compiled program's body; None: it is not compiled."""
    found = getattr(func, "templates", None)
    return found if isinstance(found, Templates) else None


def _looked_at(graph: Graph, stand_ins: Collection[str]) -> frozenset[Path]:
    """The arguments that, once known, would take a template further."""
    arguments: tuple[Argument, ...] = graph.stop.arguments if graph.stop is not None else ()
    return frozenset(argument.path for argument in arguments if argument.path[0] not in stand_ins)


def _texts(arguments: Mapping[str, Any], stand_ins: Collection[str]) -> frozenset[Path]:
    """Where texts are in the arguments."""
    found: set[Path] = set()
    stack: list[tuple[Path, Any]] = [((name,), value) for name, value in arguments.items() if name not in stand_ins]
    while stack:
        path, value = stack.pop()
        if type(value) is str:
            found.add(path)
        elif type(value) in (list, tuple):
            stack.extend(((*path, index), one) for index, one in enumerate(value))
        elif type(value) is dict:
            stack.extend(((*path, key), one) for key, one in value.items())
    return frozenset(found)
