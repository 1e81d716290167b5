"""What a look at the keywords of a subschema is enough to tell: that something satisfies it, that it is a scalar."""

from __future__ import annotations

from typing import Any

from .plain import SPECIAL

_SCALARS = frozenset(("string", "number", "integer", "boolean", "null"))
_DOUBTFUL = SPECIAL | {
    "const",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "prefixItems",
    "uniqueItems",
}
_UNCLEAR = (_DOUBTFUL - {"minLength", "maxLength"}) | {"pattern", "format"}  # as for `certain`
_NARROWING = frozenset(("enum", "minLength", "maxLength", "minimum", "maximum"))
_LARGE = 10**9
_OF_STRINGS = frozenset(("pattern", "format", "minLength", "maxLength"))


def certain(raw: object, depth: int = 3) -> bool:
    """Whether a look at the keywords is enough to know that something satisfies them and that they can be followed."""
    if type(raw) is not dict:
        return raw is True
    given = raw.get("type")
    if not raw.keys().isdisjoint(_UNCLEAR):
        return False
    if given == "string" or (given is None and "enum" in raw):
        if "enum" not in raw:
            return _in_order(raw, "minLength", "maxLength", 0)
        listed = raw["enum"]
        plain = type(listed) is list and "minLength" not in raw and "maxLength" not in raw
        return plain and any(type(one) is str and one.isascii() for one in listed)
    if "enum" in raw:
        return False
    if given == "object":
        return type(raw.get("properties", raw)) is dict and _has_certain_members(raw, depth)
    if given == "array":
        if "minItems" in raw and not (depth and certain(raw.get("items", True), depth - 1)):
            return False
        return type(raw.get("items")) is not list and _in_order(raw, "minItems", "maxItems", 0)
    if given == "integer" or given == "number":
        return _in_order(raw, "minimum", "maximum", -_LARGE)
    return given == "boolean" or given == "null"


def _in_order(raw: dict[str, Any], low: str, high: str, least: int) -> bool:
    """Whether two bounds, where they are given, are plain whole numbers that leave something between them."""
    first, last = raw.get(low, least), raw.get(high, _LARGE)
    return type(first) is int and type(last) is int and least <= first <= last <= _LARGE


def _has_certain_members(raw: dict[str, Any], depth: int) -> bool:
    """Whether all the members that it requires have a value for certain."""
    required = raw.get("required")
    if required is None:
        return "required" not in raw
    if type(required) is not list or not depth:
        return False
    properties, rest = raw.get("properties", {}), raw.get("additionalProperties", True)
    return all(type(key) is str and certain(properties.get(key, rest), depth - 1) for key in required)


def plain_type(raw: object) -> str | None:
    """The type when what is `certain` allows all scalars of one type, and so the same as any other such schema."""
    if type(raw) is not dict or not raw.keys().isdisjoint(_NARROWING):
        return None
    given = raw.get("type")
    return given if type(given) is str and given in _SCALARS else None


def plainly_possible(raw: object, depth: int = 4) -> bool:
    """Whether a look at the keywords is enough to know that something satisfies them (patterns and formats alone are
    taken to have texts: a machine looks again)."""
    if type(raw) is not dict:
        return raw is True
    if not raw.keys().isdisjoint(_DOUBTFUL) or depth == 0:
        return False
    given = raw.get("type")
    if "enum" in raw:
        listed = raw["enum"] if given == "string" and _OF_STRINGS.isdisjoint(raw) else None
        return type(listed) is list and str in map(type, listed)
    if given is not None and type(given) is not str:
        return False
    if given in _SCALARS:
        return "minimum" not in raw or "maximum" not in raw
    if given == "array":
        return "maxItems" not in raw and ("minItems" not in raw or plainly_possible(raw.get("items", True), depth - 1))
    properties, required = raw.get("properties", {}), raw.get("required", ())
    if type(properties) is not dict or type(required) not in (list, tuple):
        return False
    rest = raw.get("additionalProperties", True)
    return all(type(key) is str and plainly_possible(properties.get(key, rest), depth - 1) for key in required)
