"""What every keyword of JSON Schema takes and refuses."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from .texts import check, machine, takes

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
OTHERS = [None, True, 1, 1.5, "x", [], {}]

CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "anything": ({}, [*OTHERS, {"a": [1, {"b": None}]}], []),
    "type": ({"type": "string"}, ["", 'aé\n"\\\u2028😀'], [None, True, 1, [], {}]),
    "types": ({"type": ["null", "integer"]}, [None, 5, -3, 1.0], [1.5, "x", True]),
    "enum": ({"enum": ["a", 1, None, [1], {"k": "é"}]}, ["a", 1, None, [1], {"k": "é"}], ["b", 2, [2], {"k": "e"}, {}]),
    "const": ({"const": {"a": [True, None], "b": 1}}, [{"a": [True, None], "b": 1}], [{"a": [True, None]}, {"b": 1}]),
    "properties": ({"properties": {"a": {"type": "integer"}}}, [{}, {"a": 1}, {"b": "x"}, 5], [{"a": "x"}]),
    "required": (
        {"type": "object", "required": ["a"], "properties": {"b": {}}},
        [{"a": 1}, {"b": 2, "a": 1}],
        [{}, {"b": 1}],
    ),
    "additionalProperties": (
        {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "null"}},
        [{"a": 1, "b": None}, {}],
        [{"b": 1}],
    ),
    "patternProperties": (
        {
            "type": "object",
            "patternProperties": {"^n": {"type": "integer"}, "t$": {"minimum": 3}},
            "additionalProperties": False,
        },
        [{"n": 1}, {"nt": 5}, {"t": "x"}],
        [{"n": "x"}, {"nt": 1}, {"x": 1}, {"nt": "x"}],
    ),
    "propertyNames": ({"type": "object", "propertyNames": {"maxLength": 2}}, [{"ab": 1}, {}], [{"abc": 1}]),
    "minProperties": (
        {"type": "object", "minProperties": 2, "properties": {"a": {}}},
        [{"a": 1, "b": 2}],
        [{}, {"a": 1}],
    ),
    "maxProperties": ({"type": "object", "maxProperties": 1}, [{}, {"x": 1}], [{"x": 1, "y": 2}]),
    "minProperties of few keys": (
        {"type": "object", "patternProperties": {"^(a|b)$": {}}, "additionalProperties": False, "minProperties": 2},
        [{"a": 1, "b": 2}],
        [{"a": 1}, {}],
    ),
    "items": ({"items": {"type": "integer"}}, [[], [1, 2], "x"], [[1, "x"]]),
    "prefixItems": (
        {"prefixItems": [{"type": "integer"}, {}], "items": False},
        [[], [1], [1, "x"]],
        [["x"], [1, 2, 3]],
    ),
    "items of draft 7": (
        {"$schema": DRAFT_7, "items": [{"type": "integer"}], "additionalItems": {"type": "null"}},
        [[], [1], [1, None]],
        [["x"], [1, 2]],
    ),
    "minItems": ({"type": "array", "minItems": 2, "maxItems": 3}, [[1, 2], [1, 2, 3]], [[], [1], [1, 2, 3, 4]]),
    "contains": ({"type": "array", "contains": {"const": 1}}, [[1], [2, 1, 3]], [[], [2]]),
    "minContains": (
        {"type": "array", "contains": {"type": "integer"}, "minContains": 2, "maxContains": 3},
        [[1, 2], [1, "x", 2, 3]],
        [[1], [1, 2, 3, 4]],
    ),
    "two contains": (
        {"allOf": [{"contains": {"minimum": 3}}, {"contains": {"maximum": 5}}], "type": "array"},
        [[4], [1, 9]],
        [[1], [9], []],
    ),
    "uniqueItems": (
        {"type": "array", "items": {"type": ["integer", "string"]}, "uniqueItems": True},
        [[1, 2, "1"], []],
        [[1, 1], ["a", "b", "a"]],
    ),
    "uniqueItems beside objects": ({"uniqueItems": True}, [[1, {}, [], "x"]], [[1, 1], [{}, {}]]),
    "minLength": (
        {"type": "string", "minLength": 2, "maxLength": 3},
        ["ab", "éé", "😀😀", '"\\"'],
        ["a", "😀", "abcd"],
    ),
    "pattern": ({"type": "string", "pattern": "b+"}, ["abc", "b"], ["ac", ""]),
    "pattern and length": (
        {"type": "string", "pattern": "^[a-z]*$", "minLength": 2, "maxLength": 3},
        ["ab", "abc"],
        ["a", "abcd", "A1"],
    ),
    "format": ({"type": "string", "format": "date"}, ["2024-02-29"], ["2023-02-29", "x"]),
    "unknown format": ({"type": "string", "format": "color"}, ["x"], [1]),
    "minimum": ({"minimum": 3, "maximum": 10}, [3, 10, 3.5, 9.99, "x"], [2, 2.99, 10.01, 11, -5, 100]),
    "exclusiveMinimum": ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.5, 0.001, 1e-07], [0, 1, -1, 1e-07 + 1]),
    "exclusiveMinimum of draft 4": ({"$schema": DRAFT_4, "minimum": 1, "exclusiveMinimum": True}, [2, 1.5], [1, 0]),
    "multipleOf": ({"type": "integer", "multipleOf": 7}, [0, 7, -14, 700007], [1, 8, 700008]),
    "multipleOf decimals": ({"multipleOf": 0.05, "minimum": 0}, [0.05, 1.1, 3, 0.35], [0.01, 0.33, 1.12]),
    "allOf": ({"allOf": [{"minimum": 2}, {"maximum": 4}], "type": "integer"}, [2, 3, 4], [1, 5]),
    "allOf of objects": (
        {
            "allOf": [
                {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"a": {"minimum": 5}}},
            ],
            "type": "object",
        },
        [{"a": 5}, {"a": 6, "b": 1}],
        [{"a": 4}, {}, {"a": "x"}],
    ),
    "anyOf": ({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]}, [1, "x", ""], ["xx", None]),
    "oneOf": ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [1, 5.5, "x"], [6, 1.5]),
    "oneOf by key": (
        {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        [{"a": 1}, {"b": 1, "c": 1}],
        [{}, {"a": 1, "b": 1}],
    ),
    "not": ({"not": {"type": ["string", "null"]}}, [1, [], {}, False], ["x", None]),
    "not enum": ({"type": "string", "not": {"enum": ["a", "é"]}}, ["b", "aa", ""], ["a", "é"]),
    "not object": (
        {"type": "object", "not": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}},
        [{}, {"b": 1}, {"a": "x"}],
        [{"a": 1}, {"a": 1, "b": 2}],
    ),
    "not additionalProperties": (
        {"type": "object", "not": {"properties": {"a": {}}, "additionalProperties": False}},
        [{"b": 1}, {"a": 1, "c": 2}],
        [{}, {"a": 1}],
    ),
    "not items": ({"type": "array", "not": {"items": {"type": "integer"}}}, [["x"], [1, None]], [[], [1, 2]]),
    "not minItems": ({"type": "array", "not": {"minItems": 2}}, [[], [1]], [[1, 2]]),
    "not minimum": ({"type": "integer", "not": {"minimum": 3}}, [2, -5], [3, 4]),
    "not dependentRequired": (
        {"type": "object", "not": {"dependentRequired": {"a": ["b"]}}},
        [{"a": 1}, {"a": 1, "c": 1}],
        [{}, {"b": 1}, {"a": 1, "b": 1}],
    ),
    "allOf uniqueItems": (
        {"type": "array", "allOf": [{"uniqueItems": True}, {"items": {"type": "integer"}}]},
        [[1, 2]],
        [[1, 1]],
    ),
    "allOf patternProperties": (
        {
            "type": "object",
            "allOf": [
                {"patternProperties": {"^a": {"type": "integer"}}},
                {"patternProperties": {"b$": {"minimum": 3}}},
            ],
        },
        [{"ab": 3}, {"a": 1}, {"b": "x"}],
        [{"ab": 1}, {"ab": "x"}, {"b": 2}],
    ),
    "allOf minLength": (
        {"type": "string", "allOf": [{"minLength": 3}, {"minLength": 1, "maxLength": 9}]},
        ["abc"],
        ["ab"],
    ),
    "oneOf of three": (
        {"type": "integer", "oneOf": [{"minimum": 1}, {"minimum": 2}, {"minimum": 3}]},
        [1],
        [0, 2, 3, 5],
    ),
    "minContains 0": (
        {"type": "array", "contains": {"const": 1}, "minContains": 0, "maxContains": 1},
        [[], [2], [1, 3]],
        [[1, 1]],
    ),
    "if": (
        {
            "type": "object",
            "if": {"properties": {"a": {"const": 1}}, "required": ["a"]},
            "then": {"required": ["b"]},
            "else": {"required": ["c"]},
        },
        [{"a": 1, "b": 2}, {"c": 1}, {"a": 2, "c": 1}],
        [{"a": 1}, {}, {"a": 2}],
    ),
    "dependentRequired": (
        {"type": "object", "dependentRequired": {"a": ["b", "c"]}},
        [{}, {"b": 1}, {"c": 1, "b": 1, "a": 1}],
        [{"a": 1}, {"a": 1, "b": 1}],
    ),
    "dependentSchemas": (
        {"type": "object", "dependentSchemas": {"a": {"properties": {"b": {"type": "integer"}}}}},
        [{"b": "x"}, {"a": 1, "b": 2}],
        [{"a": 1, "b": "x"}],
    ),
    "dependencies": (
        {"$schema": DRAFT_7, "type": "object", "dependencies": {"a": ["b"], "c": {"maxProperties": 1}}},
        [{"a": 1, "b": 1}, {"c": 1}],
        [{"a": 1}, {"c": 1, "d": 1}],
    ),
    "$ref": ({"$defs": {"n/a ~": {"type": "integer"}}, "items": {"$ref": "#/$defs/n~1a%20~0"}}, [[1]], [["x"]]),
    "$ref and siblings": ({"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n", "minimum": 3}, [3], [2, "x"]),
    "$ref of draft 7": (
        {
            "$schema": DRAFT_7,
            "definitions": {"n": {"type": "integer"}},
            "items": {"$ref": "#/definitions/n", "minimum": 3},
        },
        [[1]],
        [["x"]],
    ),
    "$anchor": ({"$defs": {"x": {"$anchor": "here", "type": "null"}}, "items": {"$ref": "#here"}}, [[None]], [[1]]),
    "$id": (
        {"$id": "http://a.example/root", "$defs": {"x": {"$id": "sub/x", "type": "null"}}, "items": {"$ref": "sub/x"}},
        [[None]],
        [[1]],
    ),
    "recursion": (
        {
            "type": "object",
            "properties": {"value": {"type": "integer"}, "next": {"$ref": "#"}},
            "required": ["value"],
            "additionalProperties": False,
        },
        [{"value": 1}, {"value": 1, "next": {"value": 2, "next": {"value": 3}}}],
        [{}, {"value": 1, "next": {}}],
    ),
    "recursion through allOf": (
        {
            "$defs": {
                "t": {"type": "object", "properties": {"l": {"allOf": [{"$ref": "#/$defs/t"}, {"required": ["x"]}]}}}
            },
            "$ref": "#/$defs/t",
        },
        [{}, {"l": {"x": 1}}, {"l": {"x": 1, "l": {"x": 2}}}],
        [{"l": {}}, {"l": {"x": 1, "l": {}}}],
    ),
    "unevaluatedProperties": (
        {
            "type": "object",
            "properties": {"a": {}},
            "anyOf": [
                {"properties": {"b": {"const": 1}}, "required": ["b"]},
                {"properties": {"c": {}}, "required": ["c"]},
            ],
            "unevaluatedProperties": False,
        },
        [{"a": 1, "b": 1}, {"c": 1}, {"b": 1, "c": 2}],
        [{"b": 1, "d": 1}, {"b": 2, "c": 1}, {"a": 1}],
    ),
    "unevaluatedItems": (
        {
            "type": "array",
            "allOf": [{"prefixItems": [{"type": "integer"}]}],
            "contains": {"const": "x"},
            "unevaluatedItems": False,
        },
        [[1, "x"], [1, "x", "x"]],
        [[1], [1, 2, "x"]],
    ),
    "$dynamicRef": (
        {"$dynamicAnchor": "t", "properties": {"a": {"$dynamicRef": "#t"}}, "type": "object"},
        [{"a": {}}],
        [{"a": 1}],
    ),
    "keys": (
        {
            "type": "object",
            "properties": {'q"\\': {}, "\n": {}, "😀": {"type": "null"}, "": {}},
            "required": ["😀"],
            "additionalProperties": False,
        },
        [{"😀": None}, {'q"\\': 1, "\n": 1, "😀": None, "": 1}],
        [{"😀": 1}, {"q": 1, "😀": None}, {}],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_keyword(name: str) -> None:
    schema, valid, invalid = CASES[name]
    check(schema, valid, invalid)


@pytest.mark.parametrize("name", [name for name in CASES if name != "uniqueItems beside objects"])
def test_the_cases_are_right(name: str) -> None:
    schema, valid, invalid = CASES[name]
    judge = jsonschema_rs.validator_for(schema, validate_formats=True)
    assert all(judge.is_valid(value) for value in valid)
    assert not any(judge.is_valid(value) for value in invalid)


def test_a_key_that_is_excluded_is_excluded_in_every_spelling() -> None:
    made = machine({"type": "object", "properties": {"ab": {"type": "null"}}})
    assert takes(made, '{"ab": null}')
    assert not takes(made, '{"\\u0061b": 1}')
    assert not takes(made, '{"a\\u0062": 1}')
    assert takes(made, '{"\\u0061bc": 1}')


def test_a_constant_is_written_in_one_way() -> None:
    made = machine({"const": "a/é"})
    assert takes(made, '"a/é"') and takes(made, '"a/\\u00e9"') and takes(made, '"a/\\u00E9"')
    assert not takes(made, '"\\u0061/é"') and not takes(made, '"a\\/é"')


def test_free_text_comes_in_every_spelling() -> None:
    made = machine({"type": "string", "maxLength": 2})
    for text in ('"\\u0061b"', '"\\/\\n"', '"\\ud83d\\ude00x"', '"\\uD83D\\uDE00"'):
        assert takes(made, text)
    for text in ('"\\ud83d"', '"\\x"', '"\n"', '"\\u00e"', '"abc"'):
        assert not takes(made, text)
