"""Programs survive the way to bytes and back, and bytes that are no program are refused."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest
from ramify.errors import GrammarError
from ramify.grammars import choices, ebnf, json_schema, json_value, regex, structural_tag
from ramify.grammars.codec import VERSION, decode, encode
from ramify.grammars.expression import ANYTHING, byte_range
from ramify.grammars.grammar import Grammar
from ramify.grammars.program import Array, Counted, Kind, Lexeme, Member, Object, Others, Place, Program, Rules

SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "integer"},
        "b": {"type": "array", "items": {"type": "string"}, "contains": {"const": "x"}},
    },
    "required": ["a"],
    "dependentRequired": {"b": ["a"]},
    "additionalProperties": {"type": "array", "uniqueItems": True, "items": {"enum": [1, 2, 3]}},
    "maxProperties": 10**30,
}


@pytest.mark.parametrize(
    "grammar",
    [
        regex(r"(?!a)\w{2,300}x|(?=.*y)z*"),
        json_schema(SCHEMA),
        json_value(whitespace="free"),
        choices(["a", "ab"]),
        ebnf('root ::= root "a" | "b"{2,3}'),
        structural_tag({"format": {"type": "any_text"}}),
    ],
    ids=lambda grammar: grammar.kind,
)
def test_there_and_back(grammar: Grammar) -> None:
    back = decode(encode(grammar.program))
    assert back.definitions == grammar.program.definitions and back.start == grammar.program.start


def everything() -> Program:
    """A program with every field set."""
    return Program(
        [
            Lexeme(byte_range(48, 57)),
            Rules(((0, 1), ())),
            Counted(0, 2, 10**25, separator=0),
            Object(
                0, 0, 0, 0,
                (Member(0, 1, True, frozenset({1})), Member(0, 2)),
                (Others(0, 1, 1, 3, False),),
                2, None, False,
            ),
            Array(0, 0, 0, ((Place(1, 0), Place(2)),), (Place(3),), (Kind(1, None),), 1, 9, True),
            Lexeme(ANYTHING),
        ],
        3,
    )  # fmt: skip


def test_every_field_travels() -> None:
    assert decode(encode(everything())) == everything()


def test_what_is_broken_is_refused() -> None:
    data, chance = encode(everything()), random.Random(4)
    for cut in range(len(data)):
        with pytest.raises(GrammarError):
            decode(data[:cut])
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            found = decode(bytes(changed))
        except GrammarError:
            continue
        encode(found)  # what is taken is a program


@pytest.mark.parametrize(
    "value",
    [
        [VERSION + 1, [], [], 0],
        [VERSION, [], [], 0],
        [VERSION, [[1, [0]]], [[0, 0]], 0],
        [VERSION, [[9, 0]], [[0, 0]], 0],
        [VERSION, [[0, bytes(31)]], [[0, 0]], 0],
        [VERSION, [[0, bytes(32)]], [[0, 1]], 0],
        [VERSION, [[0, bytes(32)]], [[0, 0]], 1],
        [VERSION, [[0, bytes(32)]], [[0, 0], [2, 0, -1, None, None]], 0],
        [VERSION, [[0, bytes(32)]], [[0, 0], [1, [[2]]]], 0],
        [VERSION, [[0, bytes(32)]], [[0, True]], 0],
        "text",
        None,
    ],
)
def test_references_and_counts_are_checked(value: Any) -> None:
    with pytest.raises(GrammarError):
        decode(msgpack.packb(value))
