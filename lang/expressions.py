"""What `+` and `+=` work on: pieces of a program, `"a" + gen("b") + "c"`, as a tuple of nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from types import CodeType, FrameType
from typing import Any

from ..errors import ProgramError
from .nodes import Node, Place, RoleEnd, RoleStart, Text
from .sampling import Sampling

MOST_SHOWN = 50  # pieces of an expression's repr


class Expression:
    """Pieces to append to a state, in order. Immutable; `+` with texts and expressions gives a new one."""

    __slots__ = ("_parts", "nodes_made")

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self._parts = parts  # nodes, ProgramCalls and Expressions: a rope, so that n additions cost O(n)
        self.nodes_made: tuple[Any, ...] | None = None

    @property
    def nodes(self) -> tuple[Any, ...]:
        """The nodes in order; pieces of other kinds (a call of another program) stand where they belong."""
        if self.nodes_made is None:
            self.nodes_made = tuple(_flat(self._parts))
        return self.nodes_made

    def __add__(self, other: Any) -> Expression:
        added = piece(other)
        return NotImplemented if added is None else Expression((self, added))

    def __radd__(self, other: Any) -> Expression:
        added = piece(other)
        return NotImplemented if added is None else Expression((added, self))

    def __repr__(self) -> str:
        shown = [_shown(part) for part in self.nodes[:MOST_SHOWN]]
        more = len(self.nodes) - MOST_SHOWN
        return " + ".join([*shown, f"… {more:,} more"] if more > 0 else shown) or "Expression()"

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Any:
        raise ProgramError("an expression is a piece of a program and cannot be iterated; append it: s += expression")

    def __format__(self, specification: str) -> str:
        raise ProgramError(
            'an expression cannot stand inside an f-string: its text is not there yet; write `f"a {x}" + gen("y")`'
        )

    __str__ = __repr__


class Piece:
    """What may be added to an expression without being a node: the state that it is appended to knows what to do."""

    __slots__ = ()

    def __add__(self, other: Any) -> Expression:
        added = piece(other)
        return NotImplemented if added is None else Expression((self, added))

    def __radd__(self, other: Any) -> Expression:
        added = piece(other)
        return NotImplemented if added is None else Expression((added, self))


def piece(value: Any) -> Any:
    """A node, Piece or Expression out of what may be added to an expression; None: it may not."""
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, Expression | Piece):
        return value
    return None


def expression(value: Any, what: str) -> Expression:
    """The value as an expression. Raises ProgramError, naming `what`, when it is none."""
    if isinstance(value, Expression):
        return value
    made = piece(value)
    if made is None:
        raise ProgramError(f"{what}: {described(value)}")
    return Expression((made,))


def role(name: str, value: Any, place: Place) -> Expression:
    """`value` as what a role says; None: nothing at all."""
    if value is None:
        return Expression((RoleStart(name, place), RoleEnd(name, place)))
    return Expression((RoleStart(name, place), expression(value, f"{name}(...)"), RoleEnd(name, place)))


def described(value: Any) -> str:
    """What is wrong with a value that is no expression, and what to do."""
    if value is None:
        return "None is no text; a function that appends to the state returns nothing to append"
    if isinstance(value, bytes | bytearray):
        return f"{bytes(value[:20])!r} is bytes; decode it: .decode()"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} is no text; append its parts one by one"
    return f"{value!r:.60} is of type {type(value).__name__}, not a text or an expression; write str(...) around it"


def place_of(frame: FrameType) -> Place:
    """Where a frame stands, for errors and drawings."""
    code, line = frame.f_code, frame.f_lineno
    known = _PLACES.get((id(code), line))
    if known is not None and known[0] is code:
        return known[1]
    place = Place(code.co_filename, line, code.co_name)
    if len(_PLACES) >= _MOST_PLACES:
        _PLACES.clear()
    _PLACES[id(code), line] = (code, place)
    return place


_PLACES: dict[tuple[int, int], tuple[CodeType, Place]] = {}  # a loop appends from the same line many times
_MOST_PLACES = 10_000


def _shown(part: Any) -> str:
    """A piece as a user would write it: what it says, without all that it leaves as it is."""
    if isinstance(part, Text):
        return repr(part.text)
    if not is_dataclass(part):
        return repr(part)
    said = []
    for known in fields(part):
        value = getattr(part, known.name)
        if isinstance(value, Sampling):
            said += [f"{f.name}={setting!r}" for f in fields(value) if (setting := getattr(value, f.name)) is not None]
        elif known.compare and value is not None and value != known.default:
            said.append(f"{known.name}={value!r}")
    return f"{type(part).__name__}({', '.join(said)})"


def _flat(parts: Iterable[Any]) -> Iterable[Any]:
    stack = [iter(parts)]
    while stack:
        for part in stack[-1]:
            if not isinstance(part, Expression):
                yield part
                continue
            stack.append(iter(part._parts if part.nodes_made is None else part.nodes_made))
            break
        else:
            stack.pop()


Nodes = tuple[Node, ...]
