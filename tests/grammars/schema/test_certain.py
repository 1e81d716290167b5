"""What is taken to have a value by a look at its keywords has one, and is the same whether it is made or not."""

from __future__ import annotations

from typing import Any

import pytest
from ramify.errors import GrammarError
from ramify.grammars.program import Object
from ramify.grammars.schema import schema_program
from ramify.grammars.schema.glance import certain, plain_type

CERTAIN: list[Any] = [
    True,
    {"type": "string", "description": "a name"},
    {"type": "string", "enum": [1, "a"]},
    {"type": "integer"},
    {"type": "null", "title": "nothing"},
    {"type": "array", "items": False},
    {"type": "object", "properties": {"a": False}, "additionalProperties": False},
    {"type": "string", "minLength": 2, "maxLength": 2},
    {"type": "integer", "minimum": -3, "maximum": -3},
    {"type": "number", "maximum": 7},
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "a"], "additionalProperties": False},
    {"type": "object", "required": ["b"], "additionalProperties": {"type": "null"}},
    {"type": "array", "items": {"enum": [1, "x"]}, "minItems": 2, "maxItems": 2},
]
DOUBTFUL: list[Any] = [
    False,
    {"enum": []},
    {"type": "string", "enum": []},
    {"type": "string", "enum": [1]},
    {"type": "string", "pattern": "a^b"},
    {"type": "string", "not": {}},
    {"type": "integer", "minimum": 2, "maximum": 1},
    {"type": "array", "minItems": 1, "items": False},
    {"type": "object", "required": ["a"], "properties": {"a": False}},
    {"$ref": "#/$defs/nowhere"},
    {"type": "string", "minLength": 3, "maxLength": 2},
    {"type": "string", "maxLength": -1},
    {"type": "string", "minLength": "x"},
    {"type": "number", "minimum": True},
    {"type": "array", "minItems": 3, "maxItems": 2},
    {"type": "object", "required": ["b"], "additionalProperties": False},
    {"type": "object", "required": [["b"]]},
    {"type": "object", "required": ["b"], "properties": {"b": {"type": "string", "enum": 5}}},
    {"type": ["string"], "enum": [1]},
]


@pytest.mark.parametrize("raw", CERTAIN, ids=str)
def test_what_is_certain_has_a_value(raw: Any) -> None:
    assert certain(raw)
    schema_program(raw).complete()  # raises where nothing satisfies it, or where it cannot be followed


@pytest.mark.parametrize("raw", DOUBTFUL, ids=ascii)
def test_what_has_none_or_cannot_be_followed_is_not_certain(raw: Any) -> None:
    assert not certain(raw)
    with pytest.raises(GrammarError):
        schema_program(raw).complete()


def test_what_is_certain_is_so_all_the_way_down() -> None:
    inner: Any = {"type": "string", "pattern": "a^b"}
    assert not certain({"type": "array", "minItems": 1, "items": inner})
    assert not certain({"type": "object", "properties": {"a": inner}, "required": ["a"]})
    deep: Any = {"type": "null"}
    for _ in range(50):
        deep = {"type": "object", "properties": {"a": deep}, "required": ["a"]}
    assert not certain(deep)  # it would be looked at again and again


def test_plain_scalars_of_a_type_are_one_definition() -> None:
    members = {"a": {"type": "string"}, "b": {"type": "string", "title": "B"}, "c": {"type": "string", "enum": ["x"]}}
    program = schema_program({"properties": members, "type": "object"}).complete()
    found = next(one for one in program.definitions if isinstance(one, Object))
    first, second, third = (member.value for member in found.members)
    assert first == second != third
    assert [plain_type(raw) for raw in members.values()] == ["string", "string", None]


def test_members_that_are_certain_are_named_in_the_program() -> None:
    program = schema_program({"type": "object", "properties": {"a": {"type": "array"}, "b": {"$ref": "#"}}})
    found = program.at(program.start)
    assert isinstance(found, Object)
    assert found.members[0].value in program.certain
