"""What is plain becomes the same language straight from its keywords as by its normal form."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from ramify.errors import GrammarError
from ramify.grammars.machine.machine import Machine
from ramify.grammars.machine.matcher import Matcher
from ramify.grammars.program import Array, Definition, Lexeme, Object, Program
from ramify.grammars.schema import build, schema_program
from ramify.grammars.schema.plain import PlainObject, is_plain_array, plain_object, plain_words
from ramify.grammars.vocabulary import Vocabulary

BYTES = Vocabulary([bytes([byte]) for byte in range(256)], [0])
SCHEMAS: list[Any] = [
    {"type": "object"},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["b"]},
    {"type": "object", "properties": {"a": {}, "b": {"enum": ["x", "y"]}}, "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["c", "a", "c"]},
    {"type": "object", "required": ["c"], "additionalProperties": {"type": "boolean"}},
    {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": {"enum": ["no", "none"]}},
    {"type": "object", "properties": {'a"é\\': {"type": "object", "properties": {"ab": {"type": "null"}}}}},
    {"type": "array"},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    {"type": "array", "items": False},
    {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "string", "enum": ["", "é", "a\nb"]}},
    {"enum": ["one", "two", "one"]},
]
NOT_PLAIN: list[Any] = [
    {"type": "object", "properties": {"a": False}},
    {"type": "object", "properties": []},
    {"type": "object", "required": ["a"], "additionalProperties": False},
    {"type": "object", "required": [1]},
    {"type": "object", "required": "a"},
    {"type": "object", "enum": ["a"]},
    {"type": "object", "const": {}},
    {"type": ["object"]},
    {"type": "string", "enum": ["a"], "maxLength": 3},
    {"type": "integer", "enum": ["a"]},
    {"enum": ["a", 1]},
    {"enum": []},
    {"enum": ["a"], "const": "a"},
]


def by_normal_form(schema: Any, monkeypatch: pytest.MonkeyPatch) -> Program:
    with monkeypatch.context() as patch:
        for name in ("plain_object", "plain_words"):
            patch.setattr(build, name, lambda raw: None)
        patch.setattr(build, "is_plain_array", lambda raw: False)
        patch.setattr(build.Builder, "_is_plainly_possible", lambda self, term: False)
        patch.setattr(build.Builder, "_anything", lambda self: self._value(build.EVERYTHING))
        return schema_program(schema).complete()


def random_walk(random: Random, left: Matcher, right: Matcher, steps: int) -> int:
    """The same bytes in both, as long as they allow the same ones."""
    for step in range(steps):
        if left.finished and left.accepting:
            assert right.finished
            return step
        allowed = left.mask()
        assert (allowed == right.mask()).all()
        choices = [byte for byte in range(1, 256) if allowed[byte >> 5] >> (byte & 31) & 1]
        if not choices:
            return step
        byte = random.choice(choices)
        assert left.accept(byte) and right.accept(byte)
    return steps


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_the_same_language(schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = schema_program(schema), by_normal_form(schema, monkeypatch)
    machines = Machine(left, BYTES), Machine(right, BYTES)
    random = Random(str(schema))
    assert sum(random_walk(random, *map(Matcher, machines), 40) for _ in range(12)) > 12


def test_a_difference_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_needs(raw: dict[str, Any]) -> PlainObject | None:
        found = plain_object(raw)
        return found and PlainObject([(key, sub, False) for key, sub, _ in found.members], found.rest)

    monkeypatch.setattr(build, "plain_object", without_needs)
    with pytest.raises(AssertionError):
        test_the_same_language(SCHEMAS[1], monkeypatch)


@pytest.mark.parametrize("raw", NOT_PLAIN, ids=str)
def test_what_is_not_plain_is_left_alone(raw: Any) -> None:
    assert plain_object(raw) is None
    assert plain_words(raw) is None
    assert not is_plain_array(raw)


def made(schema: Any) -> Definition:
    program = schema_program(schema)
    return program.at(program.start)


def test_forms_and_refusals_are_as_ever() -> None:
    assert isinstance(made(SCHEMAS[1]), Object)
    assert isinstance(made(SCHEMAS[8]), Array)
    assert isinstance(made(SCHEMAS[-1]), Lexeme)
    for schema, path in (
        ({"type": "object", "properties": {"a": {"type": "array", "minItems": "x"}}}, "/properties/a/minItems"),
        ({"type": "object", "properties": {"a": 5}}, "/properties/a"),
        ({"type": "array", "items": 5}, "/items"),
    ):
        with pytest.raises(GrammarError) as refusal:
            schema_program(schema).complete()
        assert refusal.value.path == path
