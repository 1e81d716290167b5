"""Hostile expressions and programs: each works, or is refused with a clear error, in little work and memory."""

from __future__ import annotations

import random
from itertools import product

import pytest
from ramify.errors import GrammarTooLarge
from ramify.grammars.expression import (
    ANY_BYTE,
    ANYTHING,
    Expression,
    both,
    byte_range,
    bytes_in,
    complement,
    concat,
    either,
    literal,
    repeat,
)
from ramify.grammars.machine.lexemes import Lexemes
from ramify.grammars.machine.machine import Machine
from ramify.grammars.machine.matcher import Matcher
from ramify.grammars.program import Array, Counted, Definition, Lexeme, Place, Program, Rules
from ramify.grammars.vocabulary import Vocabulary

from .languages import ONE_BYTE_EACH, matcher_of

A, B = literal(b"a"), literal(b"b")
LETTERS = repeat(bytes_in(b"ab"))
WORDS = Vocabulary([bytes(word) for length in (1, 2, 3, 8) for word in product(b"ab", repeat=length)], [])


def nested(levels: int) -> Expression:
    found = A
    for _ in range(levels):
        found = repeat(either([found, concat([found, B])]), 0, None)
    return found


@pytest.mark.parametrize(
    ("expression", "text", "nodes"),
    [
        (
            concat([LETTERS, A, repeat(bytes_in(b"ab"), 14, 14)]),
            b"abbabab" * 20,
            3000,
        ),  # 2**14 states, if all were made
        (repeat(repeat(A, 1, 1000), 1, 1000), b"a" * 300, 3000),
        (repeat(concat([repeat(A, 1, 1000), B]), 1, 1000), b"aab" * 100, 3000),
        (repeat(A, 999_999_999, 999_999_999), b"a" * 300, 700),
        (concat([repeat(repeat(repeat(A))), B]), b"a" * 300, 20),
        (concat([nested(12), literal(b"c")]), b"aab" * 100, 3000),
        (concat([repeat(A, 0, 1)] * 5000 + [repeat(A, 5000, 5000)]), b"a" * 300, 40_000),
        (concat([concat([ANYTHING, A])] * 20 + [repeat(ANY_BYTE, 20, 20)]), b"abcaa" * 60, 30_000),
    ],
)
def test_a_hostile_expression_runs(expression: Expression, text: bytes, nodes: int) -> None:
    machine = Machine(Program([Lexeme(expression)], 0), WORDS)
    matcher, before = Matcher(machine), len(machine.lexemes)
    for place in range(len(text)):
        assert matcher.accept_bytes(text[place : place + 1])
    assert matcher.mask().any()
    assert len(machine.lexemes) - before < nodes


def test_twenty_thousand_words() -> None:
    chance = random.Random(0)
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=8)) for _ in range(20_000)]
    matcher = matcher_of(Program([Lexeme(either(map(literal, words)))], 0))
    assert matcher.accept_bytes(words[7]) and matcher.finished and not matcher.copy().accept_bytes(b"a")
    matcher = matcher_of(
        Program([*(Lexeme(literal(word)) for word in words), Rules(tuple((i,) for i in range(20_000)))], 20_000)
    )
    assert matcher.accept_bytes(words[7]) and matcher.finished


def test_what_takes_too_many_states_is_refused_and_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def nth_from_the_end(place: int) -> Expression:
        return concat([LETTERS, A, repeat(bytes_in(b"ab"), place, place)])

    hostile = both([complement(concat([nth_from_the_end(place), B])) for place in range(30, 60)] + [LETTERS])
    monkeypatch.setattr("ramify.grammars.machine.machine.MACHINE_WORK", 150_000)
    machine = Machine(Program([Lexeme(hostile)], 0), WORDS)
    matcher, chance = Matcher(machine), random.Random(0)
    with pytest.raises(GrammarTooLarge, match="states"):
        for _ in range(500):
            ids = matcher.allowed(1000)
            assert ids is not None
            assert matcher.accept(int(chance.choice(ids.tolist())))
    assert matcher_of(Program([Lexeme(repeat(B, 3, 3))], 0)).accept_bytes(b"bbb")


def test_a_huge_array_of_what_is_not_there_is_impossible_at_once() -> None:
    lexemes = Lexemes()
    nothing = both([repeat(byte_range(0x61, 0x7A), 2, 3), repeat(byte_range(0x41, 0x5A), 1, None)])
    assert not lexemes.add(nothing)
    signs: list[Definition | None] = [Lexeme(literal(sign)) for sign in (b"[", b"]", b",")]
    either_way = Program([*signs, Lexeme(nothing), Array(0, 2, 1, rest=(Place(3),)), Counted(3, 0, 10**9)], 4)
    assert matcher_of(either_way).forced() == b"[]"
    either_way.start = 5
    assert matcher_of(either_way).finished


def test_every_byte_is_a_byte() -> None:
    matcher = matcher_of(Program([Lexeme(concat([literal(b"\x00\xff"), repeat(ANY_BYTE, 2, 2)]))], 0), ONE_BYTE_EACH)
    assert matcher.forced() == b"\x00\xff" and matcher.accept_bytes(b"\x00\xff\xed\xa0") and matcher.finished
