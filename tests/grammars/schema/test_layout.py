"""The order of properties, and the blanks between the parts of a text."""

from __future__ import annotations

import pytest
from ramify.errors import GrammarError

from .texts import machine, takes

SCHEMA = {"type": "object", "properties": {"a": {"type": "array"}, "b": {}}, "required": ["b"]}


@pytest.mark.parametrize(
    ("whitespace", "taken", "refused"),
    [
        ("fixed", ['{"a": [1, 2], "b": {}}'], ['{"a":[1,2],"b":{}}', '{ "b": 1}', '{"b":  1}', ' {"b": 1}']),
        ("compact", ['{"a":[1,2],"b":{}}'], ['{"a": [1],"b":1}', '{"b":1 }']),
        (
            "flexible",
            [
                '{"a": [1, 2], "b": {}}',
                '{"a":[1,2],"b":{}}',
                '{\n  "a": [\n    1,\n    2\n  ],\n  "b": 1\n}',
                '{ "b": 1 }',
            ],
            ['{"b":  1}', '{\n\n"b": 1}', '{"b" : 1}', '{"b": 1}\n', "{\n" + " " * 40 + '"b": 1}'],
        ),
        ("free", ['\n{ "a" :\t[ 1 ,2 ] ,\r\n "b":{}} '], ["{" + " " * 80 + '"b": 1}']),
    ],
)
def test_whitespace(whitespace: str, taken: list[str], refused: list[str]) -> None:
    made = machine(SCHEMA, whitespace=whitespace)
    assert all(takes(made, text) for text in taken)
    assert not any(takes(made, text) for text in refused)


def test_separators() -> None:
    made = machine(SCHEMA, separators=(" ,", ":  "))
    assert takes(made, '{"a":  [1 ,2] ,"b":  1}')
    assert not takes(made, '{"b": 1}')


def test_order() -> None:
    as_written, any_order = machine(SCHEMA), machine(SCHEMA, order="any")
    for text in ('{"a": [], "b": 1}', '{"b": 1}', '{"a": [], "b": 1, "c": 2, "d": 3}'):
        assert takes(as_written, text) and takes(any_order, text)
    for text in ('{"b": 1, "a": []}', '{"c": 1, "b": 1}', '{"d": 1, "b": 1, "a": [], "c": 1}'):
        assert not takes(as_written, text) and takes(any_order, text)


@pytest.mark.parametrize("options", [{"whitespace": "none"}, {"order": "random"}, {"separators": (";", ":")}])
def test_options_that_do_not_exist(options: dict[str, object]) -> None:
    with pytest.raises(GrammarError):
        machine({}, **options)


@pytest.mark.parametrize(
    "more", [{}, {"minimum": -5}, {"maximum": 40, "minimum": 0}, {"multipleOf": 7}, {"not": {"const": 3}}]
)
def test_integers_have_no_point_where_they_are_generated(more: dict[str, object]) -> None:
    schema = {"type": "integer"} | more
    assert takes(machine(schema), "7") and not takes(machine(schema), "7.0")
    assert takes(machine(schema, order="any"), "7.0") and not takes(machine(schema, order="any"), "7.5")
