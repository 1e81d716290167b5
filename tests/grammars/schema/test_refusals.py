"""What cannot be enforced, or is no schema, is refused with the place where it is written."""

from __future__ import annotations

from typing import Any

import pytest
from ramify.errors import GrammarError, GrammarTooLarge
from ramify.grammars.schema import schema_program

CASES: dict[str, tuple[Any, str, str]] = {
    "a number": (5, "", "an object or a boolean"),
    "a list": ([], "", "an object or a boolean"),
    "none": (None, "", "an object or a boolean"),
    "text that is a number": ("5", "", "an object or a boolean"),
    "text that is not JSON": ("{", "", "not JSON"),
    "false": (False, "", "nothing satisfies"),
    "a key that is no string": ({1: 2}, "", "not a string"),
    "an empty enum": ({"enum": []}, "/enum", "at least one"),
    "not a number": ({"const": float("nan")}, "/const/0", "cannot write"),
    "an unknown type": ({"type": "text"}, "/type", "type is one of"),
    "a bad length": (
        {"properties": {"a/b": {"minLength": -1}}, "required": ["a/b"]},
        "/properties/a~1b/minLength",
        "whole number",
    ),
    "a schema in a schema": (
        {"items": {"type": "array", "minItems": 1, "items": 3}, "minItems": 1, "type": "array"},
        "/items/items",
        "not 3",
    ),
    "conflicting types": ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "", "nothing satisfies"),
    "conflicting bounds": ({"type": "number", "minimum": 3, "exclusiveMaximum": 3}, "", "nothing satisfies"),
    "conflicting lengths": ({"type": "string", "minLength": 4, "maxLength": 3}, "", "nothing satisfies"),
    "a pattern too short": ({"type": "string", "pattern": "^ab?$", "minLength": 3}, "", "nothing satisfies"),
    "no multiple in range": (
        {"type": "integer", "multipleOf": 7, "minimum": 8, "maximum": 13},
        "",
        "nothing satisfies",
    ),
    "required and forbidden": (
        {"type": "object", "required": ["x"], "additionalProperties": False},
        "",
        "nothing satisfies",
    ),
    "too few values": (
        {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "minItems": 3},
        "",
        "nothing satisfies",
    ),
    "too few keys": (
        {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "minProperties": 3},
        "",
        "nothing satisfies",
    ),
    "a value without end": (
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        "",
        "nothing satisfies",
    ),
    "itself": ({"$ref": "#"}, "", "back to itself"),
    "a circle": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "/$defs/a",
        "back to itself",
    ),
    "not itself": ({"not": {"$ref": "#"}}, "", "back to itself"),
    "elsewhere": ({"$ref": "http://elsewhere.example/x"}, "/$ref", "nothing is fetched"),
    "nowhere": ({"anyOf": [{"$ref": "#/$defs/x"}]}, "/anyOf/0/$ref", "leads nowhere"),
    "no anchor": ({"$ref": "#x"}, "/$ref", "no $anchor"),
    "different objects": ({"type": "array", "items": {"type": "object"}, "uniqueItems": True}, "", "uniqueItems"),
    "not different": ({"type": "array", "not": {"uniqueItems": True}}, "/not", "uniqueItems"),
    "counts of several contains": (
        {"type": "array", "allOf": [{"contains": {}, "maxContains": 3}, {"contains": {"type": "null"}}]},
        "",
        "several contains",
    ),
    "a large step": ({"type": "integer", "multipleOf": 982451653}, "", "remainders"),
    "draft 3": ({"$schema": "http://json-schema.org/draft-03/schema#"}, "/$schema", "draft 3"),
    "no pattern": ({"type": "string", "pattern": "("}, "/pattern", "never closed"),
    "a back-reference": ({"type": "string", "pattern": r"(a)\1"}, "/pattern", "back-reference"),
    "no pattern of keys": ({"type": "object", "patternProperties": {"[": {}}}, "/patternProperties/[", "["),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str) -> None:
    schema, path, reason = CASES[name]
    with pytest.raises(GrammarError) as caught:
        schema_program(schema).complete()
    assert reason in str(caught.value)
    assert caught.value.path == path


def test_limits() -> None:
    with pytest.raises(GrammarTooLarge, match="bytes"):
        schema_program('{"title": "' + "x" * 20_000_000 + '"}')
    with pytest.raises(GrammarTooLarge, match="values"):
        schema_program({"enum": [0] * 2_000_001})


def test_annotations_are_no_errors() -> None:
    schema_program({"title": 1, "description": [], "format": "unheard of", "x-any": {"type": "nonsense"}}).complete()
