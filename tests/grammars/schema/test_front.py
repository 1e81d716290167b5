"""JSON schemas as grammars: sources, keys, and what changes after the call."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
from ramify.errors import GrammarError, GrammarTooLarge
from ramify.grammars import Grammar, json_schema, json_value

from .texts import BYTES


def takes(grammar: Grammar, text: str) -> bool:
    matcher = grammar.matcher(BYTES)
    return matcher.accept_bytes(text.encode()) and matcher.accepting


def test_a_schema_is_a_mapping_or_its_text() -> None:
    schema = OrderedDict(properties=OrderedDict(a={"enum": ("x", "y")}), required=("a",), type="object")
    for source in (schema, '{"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}'):
        grammar = json_schema(source)
        assert takes(grammar, '{"a": "x"}') and not takes(grammar, '{"a": "z"}') and not takes(grammar, "{}")


def test_a_schema_may_change_afterwards() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
    grammar = json_schema(schema)
    schema["properties"]["a"]["type"] = "string"
    assert takes(grammar, '{"a": 1}') and not takes(grammar, '{"a": "x"}')


def test_the_key_tells_options_apart() -> None:
    assert json_schema({}).key == json_schema({}).key
    assert len({json_schema({}).key, json_schema({}, order="any").key, json_schema({}, whitespace="compact").key}) == 3


def test_what_must_come_is_forced() -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"const": "Ada"}, "age": {"type": "integer", "minimum": 0}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    matcher = json_schema(schema).matcher(BYTES)
    assert matcher.forced() == b'{"name": "Ada", "age": '


def test_free_json() -> None:
    grammar = json_value()
    assert all(takes(grammar, text) for text in ("null", '{"a": [1, {"b": "c"}]}', "-1.5e3", '"\\u00e9"'))
    assert not any(takes(grammar, text) for text in ("", "{a: 1}", "[1,]", "nul"))


def test_what_is_no_json() -> None:
    with pytest.raises(GrammarError, match="not JSON"):
        json_schema({"const": object()})
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"not": deep}
    with pytest.raises(GrammarTooLarge):
        json_schema(deep)
    while deep:  # taken apart from the outside: Python's own clearing recurses
        deep = deep.pop("not")
