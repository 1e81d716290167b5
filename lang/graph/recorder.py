"""Stands where a running stream would, and writes down what the body asks of it: the items of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from ..nodes import Gen, Node, Place, RoleEnd, RoleStart, ScopeEnd, ScopeStart, Select, SetVariable, Text, VariableText
from ..run_context import RunContext
from ..variables import Variable
from .graph import Append, Fork, Graph, Item, Join, Position, Stop, Stream
from .references import Argument, Composed, Reference, Value
from .references import Item as ItemOf
from .symbols import Holes, LookedAt

MOST_ITEMS = 200_000  # a body that never ends must not fill the memory


class Recording:
    """Everything that one trace has written down so far."""

    def __init__(self, program: str, holes: Holes, context: RunContext) -> None:
        self.program = program
        self.holes = holes
        self.context = context
        self.streams: list[StreamRecorder] = []
        self.order: list[Position] = []
        self.stop: Stop | None = None

    def end(self, reason: str) -> NoReturn:
        """The trace is over."""
        self.holes.end(LookedAt(reason))

    def stopped(self, reason: str, place: Place | None, sources: tuple[Argument | Value, ...] = ()) -> None:
        """Note why the trace was over, and where."""
        self.stop = Stop(reason, place, tuple(source for source in sources if isinstance(source, Argument)))

    def graph(self, result: Any = None, kept: tuple[int, ...] = ()) -> Graph:
        """What was written down, as a graph."""
        streams = tuple(
            Stream(number, tuple(recorder.items), recorder.parent) for number, recorder in enumerate(self.streams)
        )
        return Graph(self.program, streams, tuple(self.order), result, kept, True, self.stop)


class StreamRecorder:
    """One stream of a trace, with the methods that a state asks of a stream. What it lacks ends the trace."""

    def __init__(self, recording: Recording, parent: StreamRecorder | None = None, at: Position | None = None) -> None:
        self.recording = recording
        self.context = recording.context
        self.number = len(recording.streams)
        recording.streams.append(self)
        self.parent = at
        self.items: list[Item] = []
        self.variables: dict[str, Variable] = dict(parent.variables) if parent is not None else {}
        self.role: tuple[str, ...] = parent.role if parent is not None else ()
        self.scopes: list[Variable] = []  # that are open
        self.error: Exception | None = None
        self.sealed: str | None = None
        self.abandoned = True  # there is nothing to let go of when nobody holds its state any more

    # -- what states call -----------------------------------------------------------------------------------------

    def submit(self, nodes: Iterable[Node], place: Place | None = None) -> None:
        """Write nodes down."""
        for node in nodes:
            self._record(self._item(node, node.place or place))

    def set_variable(self, name: str, value: Any, place: Place | None = None) -> None:
        """Write down that a variable is set."""
        self.submit((SetVariable(name, value, place),), place)

    def read(self, name: str, place: Place | None = None) -> Variable:
        """A variable that holds a symbol, or what the body set."""
        found = self.variables.get(name)
        if found is None:
            self.recording.end(f"the body reads {name!r}, which was never set")
        return found

    def fork(self, count: int, place: Place | None = None) -> list[StreamRecorder]:
        """Write a fork down."""
        first = len(self.recording.streams)
        at = self._record(Fork(tuple(range(first, first + count)), place))
        return [StreamRecorder(self.recording, self, at) for _ in range(count)]

    def join(self, children: Sequence[StreamRecorder], mode: str, place: Place) -> None:
        """Write a join down. Gathered variables are lists whose lengths are known."""
        gathered: dict[str, int] = {}
        if mode == "gather_variable":
            for child in children:
                for name in child.variables:
                    if name not in self.variables:
                        gathered[name] = gathered.get(name, 0) + 1
        position = self._record(Join(tuple(child.number for child in children), mode, tuple(gathered), place))
        for name, count in gathered.items():
            made = [child.variables[name] for child in children if name in child.variables]
            texts = [isinstance(one, _Symbolic) and one.text for one in made]
            source = Reference(Value(*position, name))
            symbols = [
                self.recording.holes.symbol_of(source.then(ItemOf(index)), text=texts[index]) for index in range(count)
            ]
            self.variables[name] = _Symbolic(self.recording, name, symbols, text=False)
        for child in children:
            child.seal(f"the branch was joined at {place.file}:{place.line}")

    def sync(self) -> None:
        """Nothing runs, so there is nothing to wait for."""

    def text(self) -> NoReturn:
        self.recording.end("the body reads the text of a state")

    def seal(self, why: str) -> None:
        self.sealed = why

    def abandon(self, why: str) -> None:
        """Nobody holds the state any more; what it wrote down stays."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        words = {"value_error": "the errors", "messages": "the messages", "history": "the history"}
        self.recording.end(f"the body reads {words.get(name, name)} of a state")

    # -- writing down ---------------------------------------------------------------------------------------------

    def _record(self, item: Item) -> Position:
        recording = self.recording
        if recording.holes.ended is not None:
            raise LookedAt("the trace is over")
        if self.sealed is not None:
            self.recording.end(f"the body appends to a branch that is closed: {self.sealed}")
        if len(recording.order) >= MOST_ITEMS:
            self.recording.end(f"the program has {MOST_ITEMS:,} items up to here")
        self._check_role(item)
        position = (self.number, len(self.items))
        self.items.append(item)
        recording.order.append(position)
        self._declare(item, position)
        return position

    def _check_role(self, item: Item) -> None:
        """The run itself has the better words for a role inside a role: let it have them."""
        if isinstance(item, RoleStart):
            if self.role:
                self.recording.end(f"{item.role!r} starts to speak while {self.role[0]!r} speaks")
            self.role = (item.role,)
        elif isinstance(item, RoleEnd):
            if self.role != (item.role,):
                self.recording.end(f"{item.role!r} ends, which does not speak")
            self.role = ()

    def _item(self, node: Node, place: Place | None) -> Item:
        holes = self.recording.holes
        if isinstance(node, Text):
            text = holes.read_all(node.text)
            bare = isinstance(text, Composed) and len(text.parts) == 1
            return Append(text.parts[0] if bare else text, place)
        if isinstance(node, VariableText):
            self.recording.end(f"the body appends the text of {node.name!r} by itself")
        return holes.read_all(node)  # type: ignore[no-any-return]

    def _declare(self, item: Item, position: Position) -> None:
        if isinstance(item, SetVariable):
            symbol = self.recording.holes.symbols_in(item.value)
            self.variables[item.name] = _Symbolic(self.recording, item.name, symbol, text=isinstance(symbol, str))
        elif isinstance(item, ScopeStart):
            self.variables[item.name] = _Unmade(self.recording, item.name)
            self.scopes.append(self.variables[item.name])
        elif isinstance(item, ScopeEnd) and self.scopes.pop() is not self.variables[item.name]:
            return  # inside, something else took the name
        elif isinstance(item, Gen | Select | ScopeEnd) and item.name is not None:
            text = not isinstance(item, Gen) or self._gives_text(item)
            symbol = self.recording.holes.symbol_of(Reference(Value(*position, item.name)), text=text)
            self.variables[item.name] = _Symbolic(self.recording, item.name, symbol, text=text)
            if isinstance(item, Gen) and item.reasoning is not None:
                thoughts = f"{item.name}_reasoning_content"
                self.variables[thoughts] = _Unmade(self.recording, thoughts)

    def _gives_text(self, gen: Gen) -> bool:
        """Whether the value of a gen will be one str."""
        count = gen.sampling.over(self.context.defaults).n
        return gen.type in (None, str) and (count is None or count == 1)


class _Symbolic(Variable):
    """A variable that holds a symbol, and has no more than that."""

    __slots__ = ("recording", "text")

    def __init__(self, recording: Recording, name: str, value: Any, *, text: bool) -> None:
        self.recording = recording
        super().__init__(name)
        self.value, self.ready, self.text = value, True, text

    @property
    def meta(self) -> Any:
        """What a state reads for get_meta_info."""
        self.recording.end(f"the body reads what the backend reported about {self.name!r}")

    @meta.setter
    def meta(self, value: Any) -> None:
        pass

    @property
    def tool_calls(self) -> Any:
        self.recording.end(f"the body reads the tool calls of {self.name!r}")

    @tool_calls.setter
    def tool_calls(self, value: Any) -> None:
        pass


class _Unmade(_Symbolic):
    """A variable whose value the trace cannot refer to."""

    def __init__(self, recording: Recording, name: str) -> None:
        super().__init__(recording, name, None, text=False)

    @property
    def value(self) -> Any:
        self.recording.end(f"the body reads {self.name!r} while it is being made")

    @value.setter
    def value(self, value: Any) -> None:
        pass
