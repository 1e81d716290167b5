"""Equal JSON scalars have one name, and their spellings are all that spell them; arrays and keys that must differ."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as some
from ramify.errors import GrammarError
from ramify.grammars.expression import Expression, byte_range, bytes_in, concat, either, literal, repeat
from ramify.grammars.machine.amounts import different_values
from ramify.grammars.machine.lexemes import Lexemes
from ramify.grammars.machine.scalars import spellings, value_of
from ramify.grammars.program import Array, Definition, Lexeme, Object, Others, Place, Program

from .languages import matcher_of

DIGITS = ("0", "1", "10", "100", "5", "12")
NUMBERS = [
    sign + whole + part + exponent
    for sign, whole, part, exponent in product(
        ("", "-"), DIGITS, ("", ".0", ".00", ".5", ".50", ".05", ".1"), ("", "e0", "E1", "e+1", "e-1", "e-02", "e20")
    )
]


def spelled(value: bytes, text: bytes) -> bool:
    lexemes = Lexemes()
    state = lexemes.add(spellings(value))
    for byte in text:
        state = lexemes.step(state, byte)
    return bool(lexemes.nullable[state])


def test_numbers_are_one_value_when_they_are_equal() -> None:
    names: dict[Decimal, bytes] = {}
    for number in NUMBERS:
        name = value_of(number.encode())
        assert names.setdefault(Decimal(number).normalize() + 0, name) == name, number
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("number", ["0", "1", "-10", "12", "0.5", "100", "5e20", "-0.05", "1e-1"])
def test_spellings_of_a_number_are_those_of_equal_numbers(number: str) -> None:
    value = value_of(number.encode())
    lexemes = Lexemes()
    begin = lexemes.add(spellings(value))
    for other in NUMBERS:
        state = begin
        for byte in other.encode():
            state = lexemes.step(state, byte)
        assert bool(lexemes.nullable[state]) == (Decimal(other) == Decimal(number)), other


def test_absurd_exponents_are_kept_out_rather_than_let_in() -> None:
    assert spelled(value_of(b"1"), b"1" + b"0" * 40 + b"e-40")
    assert spelled(value_of(b"1"), b"0." + b"0" * 39 + b"1e40")
    assert not spelled(value_of(b"1"), b"1e40") and not spelled(value_of(b"1"), b"1e-40")


@given(some.text(max_size=8), some.booleans())
def test_strings_are_one_value_however_they_are_escaped(text: str, ascii_only: bool) -> None:
    plain = json.dumps(text, ensure_ascii=ascii_only)
    numbers = '"' + "".join(f"\\u{unit:04x}" for unit in units(text)) + '"'
    upper = '"' + "".join(f"\\u{unit:04X}" for unit in units(text)) + '"'
    values = {value_of(one.encode("utf-8", "surrogatepass")) for one in (plain, numbers, upper)}
    assert len(values) == 1
    [value] = values
    assert all(spelled(value, one.encode("utf-8", "surrogatepass")) for one in (plain, numbers, upper))
    assert not spelled(value, json.dumps(text + "!").encode()) and value_of(json.dumps(text + "!").encode()) != value


def units(text: str) -> list[int]:
    data = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[place : place + 2], "big") for place in range(0, len(data), 2)]


@pytest.mark.parametrize("word", [b"true", b"null"])
def test_words_are_themselves(word: bytes) -> None:
    assert spelled(value_of(word), word) and not spelled(value_of(word), b"false")


SCALAR = either(
    [
        concat([literal(b'"'), repeat(either([byte_range(0x61, 0x7A), literal(b"\\u0061")])), literal(b'"')]),
        concat([byte_range(0x31, 0x39), repeat(concat([literal(b"."), repeat(literal(b"0"), 1, 2)]), 0, 1)]),
    ]
)
SIGNS: list[Definition | None] = [Lexeme(literal(sign)) for sign in (b"[", b"]", b",", b":")]


def unique(least: int = 0, element: Definition | None = None) -> Program:
    return Program([*SIGNS, element or Lexeme(SCALAR), Array(0, 2, 1, (), (Place(4),), least=least, unique=True)], 5)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (b'["a","b",1,2]', True),
        (b'["a","a"]', False),
        (b'["a","\\u0061"]', False),
        (b'["a","aa"]', True),
        (b"[1,1.0]", False),
        (b"[1.00,1]", False),
        (b'[1,"a",2.0,3]', True),
        (b'[1,"a",2.0,2]', False),
    ],
)
def test_an_array_of_different_values(text: bytes, good: bool) -> None:
    matcher = matcher_of(unique())
    accepted = all(matcher.accept_bytes(bytes([byte])) for byte in text)
    assert (accepted and matcher.accepting) == good


def test_no_comma_follows_when_every_value_is_used() -> None:
    matcher = matcher_of(unique(element=Lexeme(either([literal(b"1"), literal(b"2"), literal(b'"a"')]))))
    assert matcher.accept_bytes(b'[2,"a",1')
    assert matcher.forced() == b"]" and not matcher.accept_bytes(b",")
    matcher.rollback(1)
    assert (
        matcher.accept_bytes(b"[2,1") and matcher.copy().accept_bytes(b",") and not matcher.copy().accept_bytes(b",1")
    )


def test_keys_that_must_differ() -> None:
    free = Others(4, 5, distinct=True)
    key, value = Lexeme(bytes_in(b"xy")), Lexeme(literal(b"1"))
    matcher = matcher_of(Program([*SIGNS, key, value, Object(0, 3, 2, 1, (), (free,))], 6))
    assert matcher.accept_bytes(b"[x:1,y:1") and not matcher.copy().accept_bytes(b",")
    assert matcher.accept_bytes(b"]") and matcher.finished
    matcher.rollback(2)
    assert matcher.accept_bytes(b"[y:1") and not matcher.copy().accept_bytes(b",y") and matcher.accept_bytes(b",x")


INTEGERS = byte_range(0x31, 0x33)


@pytest.mark.parametrize(
    ("element", "amount"),
    [
        (INTEGERS, 3),
        (concat([INTEGERS, repeat(concat([literal(b"."), repeat(literal(b"0"), 1, None)]), 0, 1)]), 3),
        (concat([INTEGERS, literal(b".0")]), 3),  # none of them plainly spelled
        (either([INTEGERS, literal(b"1e1"), literal(b"10"), literal(b"true")]), 5),
        (concat([literal(b'"'), repeat(either([literal(b"a"), literal(b"\\u0061")]), 0, 2), literal(b'"')]), 3),
        (literal(b"null"), 1),
        (SCALAR, 7),
        (concat([repeat(literal(b"12"), 0, None), literal(b"3")]), 7),
    ],
)
def test_how_many_different_values_there_are(element: Expression, amount: int) -> None:
    values = different_values([element], 7, Lexemes())
    assert (7 if values is None else len(values)) == amount


def test_an_array_of_more_different_values_than_there_are_is_impossible() -> None:
    assert matcher_of(unique(3, Lexeme(INTEGERS))).accept_bytes(b"[1,3,2]")
    for impossible in (unique(4, Lexeme(INTEGERS)), unique(10**9, Lexeme(INTEGERS))):
        with pytest.raises(GrammarError, match="empty"):
            matcher_of(impossible)


def test_keys_that_must_differ_and_are_too_few() -> None:
    key, value = Lexeme(bytes_in(b"xy")), Lexeme(literal(b"1"))
    with pytest.raises(GrammarError, match="empty"):
        matcher_of(Program([*SIGNS, key, value, Object(0, 3, 2, 1, (), (Others(4, 5),), least=3)], 6))
    two = matcher_of(Program([*SIGNS, key, value, Object(0, 3, 2, 1, (), (Others(4, 5),), least=2)], 6))
    assert two.accept_bytes(b"[x:1") and two.forced() == b",y:1]"
    assert matcher_of(Program([*SIGNS, key, value, Object(0, 3, 2, 1, (), (Others(4, 5, 0, 0),))], 6)).forced() == b"[]"


@pytest.mark.parametrize(
    ("places", "rest", "least", "outcome"),
    [
        ((b"12", b"12"), b"", 2, "fine"),
        ((b"12", b"1"), b"", 2, "refused"),  # 1 may be taken
        ((b"23", b"1"), b"", 2, "fine"),
        ((b"1", b"1"), b"", 2, "empty"),
        ((b"12", b"1"), b"", 1, "fine"),
        ((b"3",), b"12", 3, "fine"),
        ((b"1",), b"12", 3, "empty"),
        ((b"13",), b"12", 3, "refused"),
    ],
)
def test_places_that_may_be_left_without_a_value(
    places: tuple[bytes, ...], rest: bytes, least: int, outcome: str
) -> None:
    values: list[Definition | None] = [Lexeme(bytes_in(values)) for values in (*places, rest)]
    prefix = tuple((Place(4 + index),) for index in range(len(places)))
    last = (Place(4 + len(places)),) if rest else ()
    array = Array(0, 2, 1, prefix, last, least=least, unique=True)
    program = Program([*SIGNS, *values, array], 4 + len(values))
    if outcome == "fine":
        everything = [matcher_of(program)]
        for _ in range(2 * least + 1):
            everything = [
                twin for one in everything for byte in b"[],123" if (twin := one.copy()).accept_bytes(bytes([byte]))
            ]
            assert all(one.accepting or one._machine._earley.onward(one._trail[-1]) for one in everything)
        assert any(one.accepting for one in everything)
    else:
        with pytest.raises(GrammarError, match="empty" if outcome == "empty" else "must differ"):
            matcher_of(program)
