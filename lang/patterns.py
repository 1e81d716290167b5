"""SGLang's `dtype`: which pattern each one is. The value stays a text; `type=` reads back a value."""

from __future__ import annotations

import warnings
from typing import Any

from ..errors import InvalidRequest
from .nodes import Place

PATTERNS = {
    "int": r"[-+]?[0-9]+[ \n]*",
    "float": r"[-+]?[0-9]*\.?[0-9]+[ \n]*",
    "bool": r"(True|False)",
    "str": r"\"[\w\d\s]*\"",
}
NAMES = {int: "int", float: "float", bool: "bool", str: "str", "string": "str", "boolean": "bool", "integer": "int"}


def dtype_of(dtype: Any, place: Place, also_regex: bool = False) -> str:
    """int, float, bool or str. Raises InvalidRequest for others; warns of a regex that it overrules."""
    try:
        found = dtype if dtype in PATTERNS else NAMES.get(dtype)
    except TypeError:
        found = None
    if found is None:
        raise InvalidRequest(
            f"gen: dtype={dtype!r:.60} is not known: use int, float, bool or str, or their names; "
            "type=... takes any other Python type"
        )
    if also_regex:
        warnings.warn(
            f"{place.file}:{place.line}: gen has both dtype and regex; dtype={found} is used and the regex is not",
            RuntimeWarning,
            stacklevel=4,
        )
    return str(found)


def pattern_of(dtype: str) -> str:
    """The pattern of one of these names."""
    return PATTERNS[dtype]
