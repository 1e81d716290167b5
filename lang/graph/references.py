"""Values that a template does not have yet: where each will come from, and what is done to it before it is a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any

Key = str | int


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of the program, or a text inside one: `("question",)`, `("examples", 0, "answer")`."""

    path: tuple[Key, ...]

    def __str__(self) -> str:
        return str(self.path[0]) + "".join(f"[{key!r}]" for key in self.path[1:])


@dataclass(frozen=True, slots=True)
class Value:
    """The variable `name` as the item at `position` of stream `stream` made it."""

    stream: int
    position: int
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Item:
    """`value[key]`."""

    key: Any

    def apply(self, value: Any) -> Any:
        return value[self.key]


@dataclass(frozen=True, slots=True)
class Attribute:
    """`value.name`."""

    name: str

    def apply(self, value: Any) -> Any:
        return getattr(value, self.name)


@dataclass(frozen=True, slots=True)
class Method:
    """`value.name(*arguments, **keywords)`, one of str's methods that give a str."""

    name: str
    arguments: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()

    def apply(self, value: Any) -> Any:
        return getattr(value, self.name)(*self.arguments, **dict(self.keywords))


@dataclass(frozen=True, slots=True)
class Format:
    """`format(value, specification)`, as f-strings do it."""

    specification: str = ""

    def apply(self, value: Any) -> str:
        return format(value, self.specification)


@dataclass(frozen=True, slots=True)
class Represent:
    """`repr(value)`."""

    def apply(self, value: Any) -> str:
        return repr(value)


Operation = Item | Attribute | Method | Format | Represent


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that is not there yet, and the operations that make of it what the program wants."""

    source: Argument | Value | Composed
    operations: tuple[Operation, ...] = ()

    def then(self, operation: Operation) -> Reference:
        """This value after one more operation."""
        return Reference(self.source, (*self.operations, operation))


@dataclass(frozen=True, slots=True)
class Composed:
    """A text with holes: constants and references, end to end. The references are texts once they are known."""

    parts: tuple[str | Reference, ...]


Lookup = Callable[[Argument | Value], Any]


def compose(parts: Iterator[str | Reference]) -> str | Composed:
    """The parts as one text: neighbouring constants merged, and a plain str where there is no reference."""
    merged: list[str | Reference] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        elif part != "":
            merged.append(part)
    if not any(isinstance(part, Reference) for part in merged):
        return "".join(part for part in merged if isinstance(part, str))
    return Composed(tuple(merged))


def fill(thing: Any, lookup: Lookup) -> Any:
    """`thing` with every reference in it replaced by its value: through texts, lists, tuples, dicts and dataclasses.

    Returns `thing` itself where there is nothing to fill.
    """
    return rebuild(thing, lambda hole: _value(hole, lookup))


def references(thing: Any) -> list[Reference]:
    """Every reference in `thing`, in the order of the text, those inside operations included."""
    found: list[Reference] = []

    def note(hole: Reference | Composed) -> Reference | Composed:
        parts = hole.parts if isinstance(hole, Composed) else (hole,)
        for part in parts:
            if isinstance(part, Reference):
                found.append(part)
                found.extend(references((part.source, part.operations)))
        return hole

    rebuild(thing, note)
    return found


def rebuild(thing: Any, change: Callable[[Any], Any]) -> Any:
    """`thing` with `change` applied to every Reference and Composed in it; the same object where nothing changed."""
    if thing is None or type(thing) in _PLAIN:
        return thing
    if isinstance(thing, Reference | Composed):
        return change(thing)
    if isinstance(thing, list | tuple) and not hasattr(thing, "_fields"):
        changed = [rebuild(element, change) for element in thing]
        if all(new is old for new, old in zip(changed, thing, strict=True)):
            return thing
        return changed if isinstance(thing, list) else tuple(changed)
    if isinstance(thing, Mapping) and type(thing) is dict:
        filled = {key: rebuild(value, change) for key, value in thing.items()}
        return thing if all(filled[key] is thing[key] for key in thing) else filled
    return replaced(thing, lambda value: rebuild(value, change))


def replaced(thing: Any, change: Callable[[Any], Any]) -> Any:
    """One of the language's own dataclasses with `change` applied to its fields; anything else as it is."""
    news = {}
    kind: Any = type(thing)
    for name in _fields_of(kind):
        value = getattr(thing, name)
        if value is not None and (changed := change(value)) is not value:
            news[name] = changed
    return replace(thing, **news) if news else thing


@lru_cache(maxsize=256)
def _fields_of(kind: Any) -> tuple[str, ...]:
    """The fields of one of the language's dataclasses that can hold something; none, for any other type."""
    if not is_dataclass(kind) or not kind.__module__.startswith(_OURS):
        return ()
    return tuple(f.name for f in fields(kind) if f.init and f.name != "place")


def _value(hole: Reference | Composed, lookup: Lookup) -> Any:
    if isinstance(hole, Composed):
        return "".join(part if isinstance(part, str) else _value(part, lookup) for part in hole.parts)
    value = _value(hole.source, lookup) if isinstance(hole.source, Composed) else lookup(hole.source)
    for operation in hole.operations:
        value = fill(operation, lookup).apply(value)
    return value


_PLAIN = (str, int, float, bool)
_OURS = __name__.rpartition(".graph.")[0]  # ramify.lang
