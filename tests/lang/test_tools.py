"""Tools: calls obey the functions' types, and are made with them."""

from __future__ import annotations

import json

import jsonschema_rs
import pydantic
import pytest
from ramify.errors import ProgramError
from ramify.lang.tools import (
    call_named,
    constraint_for_tools,
    describe_tools,
    finish_tool,
    observed,
    read_call,
    tool_of,
    tools_of,
)


class Place(pydantic.BaseModel):
    city: str
    zip: int


def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    More about it.
    """
    return a + b


def mail(place: Place, urgent: bool) -> str:
    return f"{place.city}{'!' if urgent else ''}"


def broken() -> int:
    raise OSError("no network")


TOOLS = tools_of([add, mail, broken, finish_tool(list[int])])


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ('{"name": "add", "arguments": {"a": 1}}', True),
        ('{"name": "add", "arguments": {"a": 1, "b": 3}}', True),
        ('{"name": "add", "arguments": {"b": 3}}', False),
        ('{"name": "add", "arguments": {"a": "x"}}', False),
        ('{"name": "add", "arguments": {"a": 1, "c": 1}}', False),
        ('{"name": "mail", "arguments": {"place": {"city": "Bern", "zip": 3000}, "urgent": true}}', True),
        ('{"name": "mail", "arguments": {"place": {"city": "Bern"}, "urgent": true}}', False),
        ('{"name": "broken", "arguments": {}}', True),
        ('{"name": "final_answer", "arguments": {"answer": [1, 2]}}', True),
        ('{"name": "final_answer", "arguments": {"answer": "no"}}', False),
        ('{"name": "other", "arguments": {}}', False),
        ('{"name": "add"}', False),
    ],
)
def test_exactly_the_calls_that_can_be_made_obey(text: str, allowed: bool) -> None:
    schema = constraint_for_tools(TOOLS).source
    assert jsonschema_rs.is_valid(schema, json.loads(text)) == allowed


def test_calls_run_with_the_functions_own_types() -> None:
    assert read_call('{"name": "add", "arguments": {"a": 1}}', TOOLS).run() == 3
    written = '{"name": "mail", "arguments": {"place": {"city": "Bern", "zip": 3000}, "urgent": true}}'
    assert read_call(written, TOOLS).run() == "Bern!"
    assert read_call('{"name": "final_answer", "arguments": {"answer": [4]}}', TOOLS).run() == [4]


def test_what_a_call_came_to_is_text_and_an_exception_is_an_observation() -> None:
    assert observed(call_named("add", {"a": 40}, TOOLS)) == "42"
    assert observed(call_named("final_answer", {"answer": [1]}, TOOLS)) == "[1]"
    assert observed(call_named("broken", {}, TOOLS)) == "error: OSError: no network"
    assert observed(call_named("add", {"a": "x"}, TOOLS)).startswith("error: a: ")


def test_a_prompt_can_list_them() -> None:
    assert describe_tools(TOOLS).splitlines()[:2] == [
        "add(a: int, b: int = 2): Add two numbers.",
        "mail(place: Place, urgent: bool)",
    ]


def untyped(x) -> None:  # type: ignore[no-untyped-def]
    """A tool must say its types."""


def many(*values: int) -> None:
    """Arguments without names cannot be written."""


@pytest.mark.parametrize(
    ("wrong", "message"), [(untyped, "has no type"), (many, "by name"), (lambda: 1, "named"), (3, "named")]
)
def test_what_cannot_be_a_tool_says_why(wrong: object, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        tool_of(wrong)  # type: ignore[arg-type]


def test_no_tools_and_two_of_one_name_are_refused() -> None:
    with pytest.raises(ProgramError, match="at least one"):
        tools_of([])
    with pytest.raises(ProgramError, match="two functions"):
        tools_of([add, add])


@pytest.mark.parametrize("text", ['{"name": "add", "argu', "[]", "3", '{"name": "add"}', ""])
def test_a_text_that_is_no_call_says_so(text: str) -> None:
    with pytest.raises(ProgramError, match="not a tool call"):
        read_call(text, TOOLS)


def test_a_call_of_nothing_we_have_names_the_tools() -> None:
    with pytest.raises(ProgramError, match="add, mail, broken, final_answer"):
        call_named("rm", {}, TOOLS)
