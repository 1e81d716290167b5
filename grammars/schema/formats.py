"""The formats of strings that are regular, as expressions over the contents of a JSON string."""

from __future__ import annotations

from functools import lru_cache

from ..expression import Expression
from ..patterns import Encoding, lower, parse

FORMATS: dict[str, str] = {}


def known_format(name: str, draft: int) -> bool:
    """Whether a format is enforced in that draft; the others are annotations."""
    return name in FORMATS


@lru_cache(256)
def format_expression(name: str, encoding: Encoding) -> Expression:
    """The texts of a format out of FORMATS."""
    return lower(parse(FORMATS[name], "python"), encoding)
