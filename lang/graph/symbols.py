"""What a traced body gets instead of values: they remember what is done to them, and refuse to be read.

A symbolic text is a str whose characters are a marker. f-strings, `+`, `.format`, `%` and `join` carry the marker along
like any text, and `Holes.read` finds it again. Whatever would have to know the value (a comparison, len(), iteration,
int()) ends the trace; so does anything that damaged a marker on the way.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from ..nodes import Place
from .references import (
    Argument,
    Attribute,
    Composed,
    Format,
    Item,
    Method,
    Reference,
    Represent,
    Value,
    compose,
    rebuild,
    references,
    replaced,
)

_OPEN, _MIDDLE, _CLOSE = "\U0010fff0", "\U0010fff1", "\U0010fff2"  # private use: no text has them, any str may
EDGES = (_OPEN, _MIDDLE, _CLOSE, *(ascii(edge)[1:-1] for edge in (_OPEN, _MIDDLE, _CLOSE)))  # also as repr() has them

_CHANGED = "a text was changed after a value that is not there yet was put into it"
_LANGUAGE = __name__.partition(".lang.")[0] + ".lang."

TEXT_METHODS = frozenset(
    (  # noqa: SIM905 - words read better than a column of quoted ones
        "capitalize casefold center expandtabs ljust lower lstrip removeprefix removesuffix replace rjust rstrip "
        "strip swapcase title translate upper zfill"
    ).split()
)


class LookedAt(BaseException):
    """The body looked at a value that is not there. A BaseException, so that no `except Exception` keeps it."""

    def __init__(self, reason: str, sources: tuple[Argument | Value, ...] = (), place: Place | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sources = sources
        self.place = place  # None: the traceback knows


class Holes:
    """The markers of one trace: from references to characters and back.

    `filling` is what a marker is full of. Two traces with different fillings agree on the graph only where nothing
    looked at the characters.
    """

    def __init__(self, filling: str) -> None:
        self._head = _OPEN + secrets.token_hex(4) + "x"  # no text of a user can have it by accident
        self._tail = _MIDDLE + filling + _CLOSE
        self._references: list[Reference] = []
        self.ended: LookedAt | None = None  # the first time that the body looked at something: the trace is over
        self._numbers: dict[str, str] = {}
        self._clean: dict[int, Any] = {}  # settings that have no holes, kept so that their ids stay theirs

    def symbol_of(self, reference: Reference, *, text: bool) -> SymbolicText | SymbolicValue:
        """What the body gets for a reference: as a str when the value will be a str, else as an opaque value."""
        return self.text_of(reference) if text else SymbolicValue(self, reference)

    def text_of(self, *parts: str | Reference) -> SymbolicText:
        """The parts as one symbolic text."""
        return SymbolicText(self, "".join(part if isinstance(part, str) else self._mark(part) for part in parts))

    def read(self, text: str) -> str | Composed:
        """The text as constants and references; raises LookedAt where a marker is damaged."""
        parts: list[str | Reference] = []
        at = 0
        text = str.__str__(text)
        while (start := text.find(self._head, at)) >= 0:
            parts.append(text[at:start])
            middle = text.find(_MIDDLE, start)
            number = text[start + len(self._head) : middle] if middle >= 0 else ""
            known = number.isascii() and number.isdigit() and int(number) < len(self._references)
            if not known or not text.startswith(self._tail, middle):
                self.end(LookedAt(_CHANGED))
            parts.append(self._references[int(number)])
            at = middle + len(self._tail)
        parts.append(text[at:])
        if any(edge in part for part in parts if isinstance(part, str) for edge in EDGES):
            self.end(LookedAt(_CHANGED))
        return compose(iter(parts))

    def read_all(self, thing: Any) -> Any:
        """`thing` with references in place of symbols and markers: through lists, tuples, dicts and our dataclasses."""
        kind = type(thing)
        if thing is None or kind is int or kind is float or kind is bool or id(thing) in self._clean:
            return thing
        if kind is SymbolicValue:
            return _reference(thing)
        if isinstance(thing, str):
            return self.read(str.__str__(thing)) if self.in_text(thing) else thing
        if isinstance(thing, list | tuple) and not hasattr(thing, "_fields"):
            read = [self.read_all(element) for element in thing]
            return read if isinstance(thing, list) else tuple(read)
        if type(thing) is dict:
            return {key: self.read_all(value) for key, value in thing.items()}
        read = replaced(thing, self.read_all)
        if read is thing:
            self._clean[id(thing)] = thing
        return read

    def symbols_in(self, thing: Any) -> Any:
        """The reverse of `read_all`: symbols in place of references, through texts, lists, tuples and dicts."""

        def made(hole: Reference | Composed) -> Any:
            return SymbolicValue(self, hole) if isinstance(hole, Reference) else self.text_of(*hole.parts)

        return rebuild(thing, made)

    def in_text(self, text: str) -> bool:
        """Whether a text has a hole in it, or what is left of one."""
        return any(str.__contains__(text, edge) for edge in EDGES)

    def looked_at(self, what: str, value: Any) -> NoReturn:
        """End the trace: to do `what` ("compares {}") the body needs the value itself."""
        self.end(looked_at(what, self.read_all(value)))

    def end(self, error: LookedAt) -> NoReturn:
        """The trace is over, for this reason; whatever the body does on its way out counts no more."""
        if self.ended is None:
            self.ended = error
        raise error

    def _mark(self, reference: Reference) -> str:
        key = repr(reference)
        if key not in self._numbers:
            self._numbers[key] = f"{self._head}{len(self._references)}{self._tail}"
            self._references.append(reference)
        return self._numbers[key]


class SymbolicText(str):
    """A text that is not there yet, or that has such texts in it."""

    __slots__ = ("_holes",)
    __ramify_symbol__ = True  # checks of parameters leave it alone
    _holes: Holes

    def __new__(cls, holes: Holes, content: str) -> SymbolicText:
        made = super().__new__(cls, content)
        made._holes = holes
        return made

    def _reference(self) -> Reference:
        read = self._holes.read(str.__str__(self))
        if isinstance(read, Composed) and len(read.parts) == 1 and isinstance(read.parts[0], Reference):
            return read.parts[0]
        return Reference(read if isinstance(read, Composed) else Composed((read,)))

    def _then(self, operation: Item | Method | Format | Represent) -> SymbolicText:
        return self._holes.text_of(self._reference().then(operation))

    def __str__(self) -> str:
        return self

    def __format__(self, specification: str) -> str:
        return self._then(Format(self._holes.read_all(specification))) if specification else self

    def __repr__(self) -> str:
        return self._then(Represent())

    def __getitem__(self, key: Any) -> str:
        return self._then(Item(self._holes.read_all(key)))

    def __add__(self, other: Any) -> str:
        if not isinstance(other, str):
            return NotImplemented
        return SymbolicText(self._holes, str.__add__(self, other))

    def __radd__(self, other: Any) -> str:
        if not isinstance(other, str):
            return NotImplemented
        return SymbolicText(self._holes, str.__add__(other, str.__str__(self)))

    def isascii(self) -> bool:
        """The language checks a text before it takes it; the text that fills the hole is checked when it is there."""
        if not _asked_by_language():
            self._holes.looked_at("calls .isascii() of {}", self)
        return True

    def __bool__(self) -> bool:
        """The language checks whether options are empty; they are checked again when they are there."""
        if not _asked_by_language():
            self._holes.looked_at("asks for the truth of {}", self)
        return True

    def __hash__(self) -> int:
        """The language remembers settings that can be hashed, and takes others as they are."""
        if _asked_by_language():
            raise TypeError("a text that is not there yet has no hash")
        self._holes.looked_at("looks something up by {}", self)

    def join(self, texts: Iterable[str]) -> str:
        return SymbolicText(self._holes, str.join(self, texts))

    def __copy__(self) -> SymbolicText:
        return self

    def __deepcopy__(self, _memo: Any) -> SymbolicText:
        return self


class SymbolicValue:
    """A value that is not there yet and may be anything: a typed value, a list of n texts."""

    __slots__ = ("_holes", "_made_of")
    __ramify_symbol__ = True

    def __init__(self, holes: Holes, reference: Reference) -> None:
        object.__setattr__(self, "_holes", holes)
        object.__setattr__(self, "_made_of", reference)

    def __str__(self) -> str:
        return _holes(self).text_of(_reference(self).then(Format()))

    def __format__(self, specification: str) -> str:
        holes = _holes(self)
        return holes.text_of(_reference(self).then(Format(holes.read_all(specification))))

    def __repr__(self) -> str:
        return _holes(self).text_of(_reference(self).then(Represent()))

    def __getitem__(self, key: Any) -> SymbolicValue:
        return SymbolicValue(_holes(self), _reference(self).then(Item(_holes(self).read_all(key))))

    def __getattr__(self, name: str) -> SymbolicValue:
        if name.startswith("__"):
            raise AttributeError(name)
        return SymbolicValue(_holes(self), _reference(self).then(Attribute(name)))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        _holes(self).looked_at(f"sets .{name} of {{}}", self)

    def __add__(self, other: Any) -> str:
        if not isinstance(other, str):
            _holes(self).looked_at("adds to {}", self)
        return _holes(self).text_of(_reference(self)) + other

    def __radd__(self, other: Any) -> str:
        if not isinstance(other, str):
            _holes(self).looked_at("adds to {}", self)
        return other + _holes(self).text_of(_reference(self))

    @property  # type: ignore[misc]  # isinstance() of a value that is not there asks for it
    def __class__(self) -> Any:
        _holes(self).looked_at("asks for the type of {}", self)


def is_symbol(thing: Any) -> bool:
    """Whether `thing` stands for something that is not there yet."""
    return issubclass(type(thing), SymbolicText | SymbolicValue)


def _asked_by_language() -> bool:
    module: str = sys._getframe(2).f_globals.get("__name__", "")
    return module.startswith(_LANGUAGE)


def _holes(value: SymbolicValue) -> Holes:
    return object.__getattribute__(value, "_holes")  # type: ignore[no-any-return]


def _reference(value: SymbolicValue) -> Reference:
    return object.__getattribute__(value, "_made_of")  # type: ignore[no-any-return]


def looked_at(what: str, read: Any) -> LookedAt:
    """The end of a trace, in words: what the body does, and to which values."""
    sources = [r.source for r in references(read) if not isinstance(r.source, Composed)]
    sources = list(dict.fromkeys(sources))
    names = [
        f"the argument {s}" if isinstance(s, Argument) else f"{s.name!r}, which is not generated yet" for s in sources
    ]
    return LookedAt("the body " + what.format(" and ".join(names) or "a text"), tuple(sources))


def _refusing(words: str) -> Callable[..., Any]:
    def refuse(self: Any, *_arguments: Any, **_keywords: Any) -> Any:
        holes: Holes = _holes(self) if issubclass(type(self), SymbolicValue) else self._holes
        holes.looked_at(words, self)

    return refuse


def _recording(name: str) -> Callable[..., str]:
    def record(self: SymbolicText, *arguments: Any, **keywords: Any) -> str:
        read = self._holes.read_all
        return self._then(Method(name, read(arguments), tuple(read(keywords).items())))

    return record


_LOOKS = {
    **dict.fromkeys(("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"), "compares {}"),
    **dict.fromkeys(("__int__", "__float__", "__index__", "__complex__"), "makes a number of {}"),
    "__bool__": "asks for the truth of {}",
    "__len__": "asks for the length of {}",
    "__iter__": "goes through {}",
    "__contains__": "looks into {}",
    "__hash__": "looks something up by {}",
    "__reduce_ex__": "stores {}",
    "__mul__": "repeats {}",
    "__rmul__": "repeats {}",
    "__call__": "calls a method of {}",
}

for _name, _words in (("__mod__", "formats with {}"), *_LOOKS.items()):
    if _name not in ("__bool__", "__call__", "__hash__"):
        setattr(SymbolicText, _name, _refusing(_words))
    setattr(SymbolicValue, _name, _refusing(_words))
for _name in dir(str):
    if _name in TEXT_METHODS:
        setattr(SymbolicText, _name, _recording(_name))
    elif not _name.startswith("_") and _name not in vars(SymbolicText):
        setattr(SymbolicText, _name, _refusing(f"calls .{_name}() of {{}}"))
