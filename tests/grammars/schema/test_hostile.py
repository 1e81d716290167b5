"""Schemas made to hang, to crash or to fill the memory: each works, or is refused, and goes no further than a budget.

What is counted is work (definitions, nodes of automata), not time.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from ramify.errors import GrammarError, GrammarTooLarge
from ramify.grammars.machine.machine import Machine
from ramify.grammars.machine.matcher import Matcher
from ramify.grammars.program import Object
from ramify.grammars.schema import schema_program

from .texts import BYTES, takes


def nested(depth: int, word: str) -> Any:
    schema: Any = {"type": "integer"}
    for _ in range(depth):
        if word == "properties":
            schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
        else:
            schema = {word: [schema] if word in ("allOf", "anyOf", "oneOf") else schema}
    return schema


def choices_in_choices(depth: int) -> Any:
    schema: Any = {"type": "integer"}
    for level in range(depth):
        schema = {"oneOf": [schema, {"type": "object", "properties": {f"k{level}": schema}}]}
    return schema


LETTERS = "abcdefghijkl"
WORKS: dict[str, Any] = {
    "nothing said": {},
    "true": True,
    "many elements": {"type": "array", "minItems": 10**9},
    "few of many elements": {"type": "array", "maxItems": 10**9, "items": {"type": "integer"}},
    "long": {"type": "string", "minLength": 10**9},
    "many members": {"type": "object", "minProperties": 10**9},
    "many different": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 10**9},
    "16 overlapping": {"oneOf": [{"type": "object", "properties": {f"k{i}": {"type": "null"}}} for i in range(16)]},
    "deep items": nested(900, "items"),
    "strange keys": {
        "properties": {'"\\': {}, "\n\x00": {}, "😀": {}, "": {}, "\ud800": {}, "__proto__": {}, "$ref": {}}
    },
    "a name that is no property": {"type": "object", "required": ["\x7f"], "properties": {"a": {}}},
    "20,000 words": {"enum": [f"word{i}" for i in range(20_000)]},
    "a window": {"type": "string", "pattern": "^.*a.{14}$"},
    "counts of counts": {"type": "string", "pattern": "^(a{1,1000}){1,1000}$"},
    "large numbers": {"type": "number", "minimum": -1e308, "maximum": 1e308, "exclusiveMinimum": -1e307},
    "30 dependencies": {"type": "object", "dependentSchemas": {f"a{i}": {"required": [f"b{i}"]} for i in range(30)}},
    "20 conditions on one key": {
        "type": "object",
        "allOf": [{"if": {"properties": {"kind": {"const": i}}}, "then": {"required": [f"b{i}"]}} for i in range(20)],
    },
}
TOO_MUCH: dict[str, Any] = {
    "16 choices deep": choices_in_choices(16),
    "10,000 deep": nested(10_000, "properties"),
    "10,000 items": nested(10_000, "items"),
    "10,000 times not": nested(10_000, "not"),
    "10,000 times allOf": nested(10_000, "allOf"),
    "1,000 times allOf": nested(500, "allOf"),
    "12 patterns that overlap": {
        "type": "object",
        "patternProperties": {f"{letter}.{{5}}.*x": {"minimum": ord(letter)} for letter in LETTERS},
    },
    "20 conditions": {
        "type": "object",
        "allOf": [{"if": {"required": [f"a{i}"], "maxProperties": i}, "then": {"minProperties": i}} for i in range(20)],
    },
    "20 alternatives": {"allOf": [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(20)]},
    "a text 100,000 deep": '{"not":' * 100_000 + "{}" + "}" * 100_000,
    "a fine step": {"type": "number", "multipleOf": 0.0123456789},
}


@pytest.mark.parametrize("name", WORKS)
def test_works(name: str) -> None:
    program = schema_program(WORKS[name])
    matcher = Matcher(Machine(program, BYTES))
    assert matcher.mask().any()
    assert sum(made is not None for made in program.definitions) < 2500


@pytest.mark.parametrize("name", TOO_MUCH)
def test_refused_as_too_much(name: str) -> None:
    with pytest.raises(GrammarTooLarge):
        Machine(schema_program(TOO_MUCH[name]), BYTES)


def test_ten_megabytes() -> None:
    properties = {f"key{i}": {"type": "string", "enum": [f"value{j}" for j in range(60)]} for i in range(15_000)}
    text = json.dumps({"type": "object", "properties": properties})
    assert len(text) > 10_000_000
    program = schema_program(text)
    made = program.at(program.start)
    assert isinstance(made, Object)
    assert len(made.members) == 15_000
    assert sum(one is not None for one in program.definitions) < 15_100  # the keys, and no value yet


def test_recursion_is_bounded_below_pythons_own() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 1)  # whoever calls may already be deep
    try:
        for word in ("not", "allOf", "anyOf", "oneOf", "items", "contains", "additionalProperties", "properties"):
            for depth in (95, 400):
                try:
                    Machine(schema_program(nested(depth, word)), BYTES)
                except GrammarError as error:
                    assert isinstance(error, GrammarTooLarge) or "contains" in str(error)
    finally:
        sys.setrecursionlimit(limit)


def test_a_refusal_leaves_others_unharmed() -> None:
    for schema in TOO_MUCH.values():
        with pytest.raises(GrammarTooLarge):
            Machine(schema_program(schema), BYTES)
    assert takes(Machine(schema_program({"type": "string", "pattern": "^a+$"}), BYTES), '"aaa"')
