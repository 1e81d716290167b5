"""Structural tags: free text with parts that must obey, in both of the shapes in use."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from ramify.errors import GrammarError
from ramify.grammars import structural_tag

from ..bytewise import accepts, begins, walk

ONE_INTEGER = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
CALLS = {
    "type": "structural_tag",
    "structures": [
        {"begin": "<function=f>", "schema": ONE_INTEGER, "end": "</function>"},
        {"begin": "<function=g>", "schema": {"type": "array"}, "end": "</function>"},
    ],
    "triggers": ["<function="],
}


def test_calls_in_free_text() -> None:
    grammar = structural_tag(CALLS)
    for text in (
        "",
        "hello <b> <functio",
        'hi <function=f>{"x": 1}</function> bye <function=g>[1]</function>',
        '<<function=f>{"x": 1}</function>',
    ):
        assert accepts(grammar, text), text
    for text in ("hi <function=h>", "<function=f>{}", '<function=f>{"x": 1}', "<function=g>{}"):
        assert not accepts(grammar, text), text
    assert not begins(grammar, "<function=h")
    assert accepts(structural_tag(json.dumps(CALLS)), "a")


def test_every_trigger_begins_a_tag() -> None:
    grammar, chance = structural_tag(CALLS), random.Random(2)
    matcher_text = [walk(grammar, chance, 60) for _ in range(10)]
    assert all(text is None or b"<function=" not in text.replace(b"<function=f>", b"") for text in matcher_text)


def tag(begin: str, content: Any, end: Any = "</t>") -> dict[str, Any]:
    return {"type": "tag", "begin": begin, "content": content, "end": end}


ANY = {"type": "any_text"}
TRIGGERED = {
    "type": "triggered_tags",
    "triggers": ["<t"],
    "tags": [tag("<t>", ANY), tag("<t2>", {"type": "regex", "pattern": "a+"})],
}
SEPARATED = {"type": "tags_with_separator", "separator": ",", "tags": [tag("<t>", ANY), tag("<u>", ANY, ["</u>", "!"])]}


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ({"type": "const_string", "value": "ü"}, ["ü"], ["", "u"]),
        ({"type": "json_schema", "json_schema": {"type": "boolean"}}, ["true"], ["1"]),
        ({"type": "regex", "pattern": "a|b+"}, ["a", "bb"], ["ab"]),
        ({"type": "grammar", "grammar": 'root ::= "(" root ")" | "x"'}, ["((x))"], ["((x)"]),
        (
            {
                "type": "sequence",
                "elements": [{"type": "const_string", "value": "a"}, {"type": "regex", "pattern": "b*"}],
            },
            ["a", "abb"],
            ["b"],
        ),
        (
            {"type": "or", "elements": [{"type": "const_string", "value": "a"}, tag("<", ANY, ">")]},
            ["a", "<x>"],
            ["<x>>"],
        ),
        (TRIGGERED, ["", "x<t>y</t>z<t2>aa</t>", "<"], ["<t", "<t2>b</t>", "<t>y"]),
        (TRIGGERED | {"at_least_one": True}, ["<t></t>"], ["", "x"]),
        (TRIGGERED | {"stop_after_first": True}, ["x", "x<t>a</t>"], ["x<t>a</t>b"]),
        (SEPARATED, ["", "<t>a</t>", "<t>a</t>,<u>b!"], ["<t>a</t><u>b!", "x", "<u>a!b!"]),
        (SEPARATED | {"at_least_one": True, "stop_after_first": True}, ["<t>a</t>"], ["", "<t>a</t>,<u>b!"]),
    ],
)
def test_formats(form: dict[str, Any], good: list[str], bad: list[str]) -> None:
    grammar = structural_tag({"type": "structural_tag", "format": form})
    for text in good:
        assert accepts(grammar, text), text
    for text in bad:
        assert not accepts(grammar, text), text


@pytest.mark.parametrize(
    ("spec", "path", "says"),
    [
        ({"structures": [], "triggers": ["<"]}, "/structures", "0 entries"),
        ({"structures": [{"begin": "x", "schema": {}, "end": ""}], "triggers": ["<"]}, "/tags/0", "no trigger begins"),
        (
            {"structures": [{"begin": "<", "schema": {"type": "thing"}, "end": ""}], "triggers": ["<"]},
            "/structures/0/schema",
            "thing",
        ),
        ({"structures": [{"begin": "<", "end": ""}], "triggers": ["<"]}, "/structures/0", "'schema' is missing"),
        ({"format": {"type": "magic"}}, "/format/type", "magic"),
        ({"format": {"type": "regex", "pattern": "("}}, "/format/pattern", "never closed"),
        (
            {"format": {"type": "sequence", "elements": [{"type": "regex"}]}},
            "/format/elements/0",
            "'pattern' is missing",
        ),
        ({"format": {"type": "const_string", "value": 3}}, "/format/value", "a string"),
        ({"format": {"type": "const_string", "value": "\ud800"}}, "/format/value", "surrogate"),
        ({}, "", "'format' is missing"),
        ("[1", "", "not JSON"),
        ("[1]", "", "an object"),
    ],
)
def test_what_is_refused_says_where(spec: Any, path: str, says: str) -> None:
    with pytest.raises(GrammarError, match=says) as refusal:
        structural_tag(spec)
    assert refusal.value.path == path


def test_formats_within_formats_are_bounded() -> None:
    spec: Any = ANY
    for _ in range(2000):
        spec = {"type": "sequence", "elements": [spec]}
    with pytest.raises(GrammarError, match=r"deeper|not JSON"):
        structural_tag({"format": spec})
