"""Exact JSON values (`const`, `enum`) in normal form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import GrammarError
from .document import escape
from .shapes import ALL_KEYS, Arrays, Keys, Normal, Numbers, Objects, Strings
from .terms import FALSE, Terms, canonical


def values_normal(values: Iterable[Any], pointer: str, terms: Terms) -> Normal:
    """Any one of these values, written as they are written here; objects with their members in this order."""
    null, booleans = False, set[bool]()
    numbers, strings = dict[int | float, None](), dict[str, None]()
    arrays, objects = dict[object, Arrays](), dict[object, Objects]()
    for place, value in enumerate(values):
        if value is None:
            null = True
        elif isinstance(value, bool):
            booleans.add(value)
        elif isinstance(value, str):
            strings[value] = None
        elif isinstance(value, (int, float)):
            if value != value or value in (float("inf"), float("-inf")):
                raise GrammarError("a number that JSON cannot write", f"{pointer}/{place}")
            numbers.setdefault(value)
        elif isinstance(value, list):
            arrays[canonical(value)] = _array(value, f"{pointer}/{place}", terms)
        elif isinstance(value, dict):
            objects[canonical(value)] = _object(value, f"{pointer}/{place}", terms)
        else:
            raise GrammarError(f"{type(value).__name__} is not a JSON value", f"{pointer}/{place}")
    return Normal(
        null,
        frozenset(booleans),
        (Numbers(values=tuple(numbers)),) if numbers else (),
        (Strings(values=tuple(strings)),) if strings else (),
        tuple(arrays.values()),
        tuple(objects.values()),
    )


def value_normal(value: Any, pointer: str, terms: Terms) -> Normal:
    """Exactly this value."""
    return values_normal((value,), pointer, terms)


def _array(value: list[Any], pointer: str, terms: Terms) -> Arrays:
    items = tuple(terms.value(item, f"{pointer}/{place}") for place, item in enumerate(value))
    return Arrays(items, FALSE, len(items), len(items))


def _object(value: dict[str, Any], pointer: str, terms: Terms) -> Objects:
    named = tuple((key, terms.value(item, f"{pointer}/{escape(key)}")) for key, item in value.items())
    others = (Keys(names=frozenset(value), inverted=True), FALSE)
    return Objects(named, (others if value else (ALL_KEYS, FALSE),), tuple(value))
