"""What the keywords of plain subschemas say, which are most of them: without normal forms, for definitions at once."""

from __future__ import annotations

from typing import Any, NamedTuple

from .document import APPLICATORS

# What is never plain: keywords that say something of some value, but for those that are read here or by `keywords.py`.
SPECIAL = APPLICATORS | {
    "dependentRequired",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "contains",
}
_OF_STRINGS = frozenset(("minLength", "maxLength", "pattern", "format"))


class PlainObject(NamedTuple):
    """An object: its members as (key, subschema, required), and what others satisfy; False: there are none."""

    members: list[tuple[str, dict[str, Any], bool]]
    rest: dict[str, Any] | bool


def plain_object(raw: dict[str, Any]) -> PlainObject | None:
    """What a subschema without special keywords says, when that is the members of objects."""
    properties, required = raw.get("properties", {}), raw.get("required", [])
    rest = raw.get("additionalProperties", True)
    if raw.get("type") != "object" or "enum" in raw or "const" in raw:
        return None
    if type(properties) is not dict or type(required) is not list or type(rest) not in (dict, bool):
        return None
    if not _are_names(required) or not all(type(sub) is dict for sub in properties.values()):
        return None
    needed = set(required)
    members = [(key, sub, key in needed) for key, sub in properties.items()]
    for key in dict.fromkeys(required):
        if key not in properties:
            if rest is False:
                return None
            members.append((key, {} if rest is True else rest, True))
    return PlainObject(members, rest)


def plain_words(raw: dict[str, Any]) -> list[str] | None:
    """The strings that a subschema without special keywords allows, when it lists them."""
    words = raw.get("enum")
    if type(words) is not list or not words or "const" in raw or not _are_names(words):
        return None
    return words if raw.get("type", "string") == "string" and _OF_STRINGS.isdisjoint(raw) else None


def is_plain_array(raw: dict[str, Any]) -> bool:
    """Whether a subschema without special keywords is one of arrays only."""
    return raw.get("type") == "array" and "enum" not in raw and "const" not in raw


def _are_names(values: list[Any]) -> bool:
    return all(type(value) is str for value in values)
