"""The spellings of scalars: all those of a normal form, of every type, as one expression."""

from __future__ import annotations

from functools import lru_cache

from ..expression import Expression, either, literal
from .numbers import number_text
from .shapes import Normal, Numbers, Strings
from .strings import content, quoted

_TRUE, _FALSE, _NULL = literal(b"true"), literal(b"false"), literal(b"null")


def scalar_text(normal: Normal, dotted: bool) -> Expression:
    """The scalars' spellings; `dotted`: 1.0 is an integer."""
    # Lists of words may be long, and are seldom met again: they are not kept.
    listed = any(shape.values is not None or shape.without for shape in normal.strings)
    make = _scalar_text.__wrapped__ if listed else _scalar_text
    return make(normal.null, normal.booleans, normal.numbers, normal.strings, dotted)


@lru_cache(1024)
def _scalar_text(
    null: bool, booleans: frozenset[bool], numbers: tuple[Numbers, ...], strings: tuple[Strings, ...], dotted: bool
) -> Expression:
    parts = [_NULL] if null else []
    parts += [_TRUE if one else _FALSE for one in booleans]
    parts += [number_text(shape, dotted) for shape in numbers]
    parts += [quoted(content(shape, "written")) for shape in strings]
    return either(parts)
