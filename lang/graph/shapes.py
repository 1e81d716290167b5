"""What a template depends on besides texts: which arguments there are, how long lists are, what is no text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .references import Key

Path = tuple[Key, ...]


def shape(arguments: Mapping[str, Any], known: Collection[Path]) -> Any | None:
    """A key that two sets of arguments share when one template serves both; None: there is no telling.

    Texts count by their presence, those at the paths in `known` by their value; numbers, None and booleans by type and
    value; lists, tuples and dicts by what is in them. Other objects may change without notice: they have no key.
    """
    try:
        return tuple((name, _shape(value, (name,), known)) for name, value in arguments.items())
    except _NoShape:
        return None


class _NoShape(Exception):
    """Something in the arguments can change without anybody noticing."""


def _shape(value: Any, path: Path, known: Collection[Path]) -> Any:
    kind = type(value)
    if kind is str:
        return ("text", value) if path in known else "text"
    if value is None or kind in (int, bool, float, bytes):
        return (kind, repr(value) if kind is float else value)
    if kind in (list, tuple):
        return (kind, tuple(_shape(one, (*path, index), known) for index, one in enumerate(value)))
    if kind is dict:
        symbolic = all(isinstance(key, str | int) for key in value)
        if not symbolic:
            raise _NoShape
        return (kind, tuple((key, _shape(one, (*path, key), known)) for key, one in value.items()))
    raise _NoShape
