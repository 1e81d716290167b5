"""The arguments of a run as its record keeps them: small copies, so that a record holds no object of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any
from uuid import UUID

MOST_LETTERS = 2_000  # of one text
MOST_ELEMENTS = 50  # of one list, set or dict
MOST_DEPTH = 4  # of lists in lists
_WRITTEN = (date, time, timedelta, Decimal, PurePath, UUID)  # types whose str() is short, and says all


def arguments_of(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a program was called with, by name and without its state, as JSON can hold it.

    Never raises. Objects that are neither data nor small are kept as their type's name: their repr may be long, slow
    or failing, and a reference to them would keep them alive.
    """
    if not args and kwargs.keys() <= signature.parameters.keys():  # nothing to look for: the usual row of a batch
        return {name: _kept(value, MOST_DEPTH) for name, value in kwargs.items()}
    try:
        found = signature.bind_partial(None, *args, **kwargs).arguments
    except TypeError:  # the call itself is about to say so
        return {}
    said: dict[str, Any] = {}
    for name, value in islice(found.items(), 1, None):
        many = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        said.update(_container(value, MOST_DEPTH) if many else {name: _kept(value, MOST_DEPTH)})
    return said


def _kept(value: Any, depth: int) -> Any:
    if isinstance(value, Enum):
        value = value.value
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is int:
        return value if value.bit_length() <= 1024 else f"<int of {value.bit_length():,} bits>"
    if kind is str:
        more = len(value) - MOST_LETTERS
        return value if more <= 0 else f"{value[:MOST_LETTERS]}… {more:,} more characters"
    if isinstance(value, _WRITTEN):
        return str(value)[:MOST_LETTERS]
    if kind in (list, tuple, set, frozenset, dict):
        return _container(value, depth)
    return f"<{kind.__qualname__}>"


def _container(value: Any, depth: int) -> Any:
    if depth == 0:
        return f"<{type(value).__qualname__} of {len(value):,}>"
    more = len(value) - MOST_ELEMENTS
    try:
        elements = list(islice(value.items() if isinstance(value, dict) else value, MOST_ELEMENTS))
    except RuntimeError:  # another thread is changing it
        return f"<{type(value).__qualname__}>"
    if isinstance(value, dict):
        kept = {str(_kept(key, 0)): _kept(one, depth - 1) for key, one in elements}
        return {**kept, "…": f"{more:,} more"} if more > 0 else kept
    found = [_kept(one, depth - 1) for one in elements]
    return [*found, f"… {more:,} more"] if more > 0 else found
