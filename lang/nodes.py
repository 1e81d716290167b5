"""The pieces of a stream as plain data: what a program's expressions become, whoever runs or draws them.

    s += "Q: " + gen("a", stop="\\n") + user("...")      ->   Text  Gen  RoleStart  Text  RoleEnd

A node never changes. What happens to it when it runs (its value, its tokens, its times) is kept beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .sampling import Constraint, Sampling


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the user's file a node was written, for errors and drawings."""

    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True)
class Text:
    """A constant: appended to the stream, costs no decoding."""

    text: str
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class VariableText:
    """The text of a variable of this stream, known when it has been generated (`s["x"]` used while tracing)."""

    name: str
    index: int | None = None  # which of n
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Gen:
    """Generate; the text becomes part of the stream and the value of the variable `name` (None: no variable)."""

    name: str | None
    sampling: Sampling
    constraint: Constraint | None = None
    tools: tuple[Any, ...] = ()
    type: Any = None  # the value that is read back is of this Python type
    dtype: str | None = None  # SGLang's int, float, bool, str: a pattern and stops; the value stays a text
    reasoning: str | None = None  # the kind of model whose thoughts become a variable of their own
    place: Place | None = field(default=None, compare=False)
    priority: int | None = field(default=None, compare=False)  # from the graph; None: what waits in its own stream


@dataclass(frozen=True, slots=True)
class Select:
    """Choose one of the options; it becomes part of the stream and the value of `name`."""

    name: str | None
    choices: tuple[str, ...]
    method: Any  # a ChoicesMethod (choices.py)
    temperature: float = 0.0
    place: Place | None = field(default=None, compare=False)
    priority: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class RoleStart:
    """From here on, this role speaks."""

    role: str
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class RoleEnd:
    """The role that speaks ends."""

    role: str
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Media:
    """An image or a video, for backends that take them."""

    kind: str  # "image" or "video"
    source: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class SetVariable:
    """`s["x"] = value`."""

    name: str
    value: Any
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ScopeStart:
    """`with s.var_scope("x")`: what is appended until the end becomes the variable."""

    name: str
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ScopeEnd:
    """The end of a var_scope."""

    name: str
    place: Place | None = field(default=None, compare=False)


Node = Text | VariableText | Gen | Select | RoleStart | RoleEnd | Media | SetVariable | ScopeStart | ScopeEnd
