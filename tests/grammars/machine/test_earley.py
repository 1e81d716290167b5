"""Programs of random rules, counts, objects and arrays against their languages as sets of strings."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from ramify.errors import GrammarError, GrammarTooLarge
from ramify.grammars.expression import both as both_of
from ramify.grammars.expression import bytes_in, complement, concat, either, literal, repeat
from ramify.grammars.machine.earley import Earley
from ramify.grammars.machine.lexemes import Lexemes
from ramify.grammars.machine.positions_table import PositionTable
from ramify.grammars.program import (
    Array,
    Counted,
    Definition,
    Kind,
    Lexeme,
    Member,
    Object,
    Others,
    Place,
    Program,
    Rules,
)

from .languages import Strings, check_against, languages, matcher_of

A, B, EMPTY, AB, STAR, DEAD = range(6)
LEXEMES: list[Definition | None] = [
    Lexeme(literal(b"a")),
    Lexeme(literal(b"b")),
    Lexeme(literal(b"")),
    Lexeme(either([literal(b"ab"), literal(b"a")])),
    Lexeme(repeat(literal(b"b"), 0, 2)),
    Lexeme(both_of([literal(b"a"), complement(bytes_in(b"ab"))])),
]
symbols = some.integers(0, len(LEXEMES) + 2)  # three definitions over them
bounds = some.tuples(some.integers(0, 2), some.one_of(some.none(), some.integers(0, 2)))
ways = some.lists(some.lists(symbols, max_size=3).map(tuple), min_size=1, max_size=3)
rules = ways.map(lambda found: Rules(tuple(found)))
counted = some.builds(
    lambda item, span, separator: Counted(item, span[0], None if span[1] is None else sum(span), separator),
    symbols,
    bounds,
    some.one_of(some.none(), symbols),
)
grammars = some.lists(some.one_of(rules, rules, counted), min_size=3, max_size=3)


def check(program: Program, alphabet: bytes, longest: int, shorter: int) -> None:
    wanted = languages(program, alphabet, longest)[program.start]
    try:
        matcher = matcher_of(program)
    except GrammarError as error:
        assert "empty" in str(error) and not wanted
        return
    check_against(matcher, wanted, alphabet, longest, shorter)


@settings(max_examples=400)
@given(grammars)
@example([Rules(((6, 6), (A,))), Rules(((),)), Rules(((),))])  # as ambiguous as can be
@example([Rules(((6, A), ())), Rules(((),)), Rules(((),))])  # left recursion
@example([Rules(((A, 6), (A,))), Rules(((),)), Rules(((),))])  # right recursion
@example([Rules(((7,), (A,))), Rules(((6,), (8,))), Rules(((7, 7), ()))])  # loops that read nothing
@example([Counted(7, 2, 5, 8), Rules(((A,), ())), Rules(((B,), ()))])  # nothing, separated by nothing
@example([Rules(((A, 7),)), Rules(((B, 7),)), Rules(((),))])  # a rule that never ends
@example([Counted(A, 0, None, 8), Rules(((),)), Counted(A, 2, None, 8)])  # a separator that never ends
def test_rules_and_counts(definitions: list[Definition]) -> None:
    check(Program([*LEXEMES, *definitions], 6), b"ab", 6, 3)


OPEN, CLOSE, COLON, COMMA, KEYS, VALUES = range(6)
SIGNS: list[Definition | None] = [
    Lexeme(literal(b"{")),
    Lexeme(literal(b"}")),
    Lexeme(literal(b"")),
    Lexeme(literal(b",")),
    Lexeme(bytes_in(b"xyz")),
    Lexeme(bytes_in(b"12")),
    *(Lexeme(literal(name)) for name in (b"a", b"b", b"c")),
    Rules(((7, 9),)),  # never ends
]
members = some.lists(
    some.tuples(some.sampled_from([VALUES, VALUES, VALUES, 9]), some.booleans(), some.frozensets(some.integers(0, 2))),
    max_size=3,
)
small = some.one_of(some.none(), some.integers(0, 4))


@some.composite
def objects(draw: some.DrawFn) -> Object:
    chosen = draw(members)
    named = [
        Member(6 + index, value, required, frozenset(need for need in needs if need < len(chosen) and need != index))
        for index, (value, required, needs) in enumerate(chosen)
    ]
    others = draw(some.lists(some.tuples(some.integers(0, 2), small, some.booleans()), max_size=1))
    return Object(
        *(OPEN, COLON, COMMA, CLOSE, tuple(named)),
        tuple(Others(KEYS, VALUES, least, most, distinct) for least, most, distinct in others),
        draw(some.integers(0, 3)),
        draw(small),
        draw(some.booleans()),
    )


@settings(max_examples=150)
@given(objects())
@example(Object(0, 2, 3, 1, tuple(Member(6 + i, 5, needs=frozenset({1 - i})) for i in range(2)), (), 1, 1))  # a circle
@example(Object(0, 2, 3, 1, (Member(6, 5, needs=frozenset({1})), Member(7, 5)), (), 0, None))
def test_objects(definition: Object) -> None:
    check_sequences(definition, 11)


values = some.lists(
    some.builds(Place, some.sampled_from([5, 6, 9]), some.one_of(some.none(), some.integers(0, 1))), max_size=2
).map(tuple)


@some.composite
def arrays(draw: some.DrawFn) -> Array:
    kinds = tuple(draw(some.lists(some.builds(Kind, some.integers(0, 2), small), min_size=2, max_size=2)))
    prefix = tuple(draw(some.lists(values, max_size=2)))
    return Array(OPEN, COMMA, CLOSE, prefix, draw(values), kinds, draw(some.integers(0, 3)), draw(small))


@settings(max_examples=200)
@given(arrays())
def test_arrays(definition: Array) -> None:
    check_sequences(definition, 9)


def check_sequences(definition: Object | Array, longest: int) -> None:
    """As `check`, but with every value and key written `1` and `x`: what they are makes no difference here."""
    lexemes = [*SIGNS]
    lexemes[VALUES] = Lexeme(literal(b"1"))
    distinct = isinstance(definition, Object) and any(one.distinct for one in definition.others)
    lexemes[KEYS] = Lexeme(bytes_in(b"xyz") if distinct else literal(b"x"))
    program = Program([*lexemes, definition], len(lexemes))
    check(program, b"{},abcxyz1" if distinct else b"{},abcx1", longest, 4)


def test_the_comparison_would_see_a_wrong_language() -> None:
    program = Program([*LEXEMES, Rules(((A, 6), ()))], 6)
    wanted: Strings = languages(program, b"ab", 6)[6]
    check_against(matcher_of(program), wanted, b"ab", 6, 3)
    for wrong in (wanted - {b"aaa"}, wanted | {b"ab"}):
        with pytest.raises(AssertionError):
            check_against(matcher_of(program), wrong, b"ab", 6, 3)


def states_of(program: Program, text: bytes) -> list[object]:
    matcher = matcher_of(program)
    assert all(matcher.accept_bytes(bytes([byte])) for byte in text)
    return list(matcher._trail)


def test_equal_places_are_one_state() -> None:
    digit, value = Lexeme(bytes_in(b"123")), Rules(((5,), (6,)))
    signs = [Lexeme(literal(sign)) for sign in (b"[", b"]", b",")]
    program = Program([Rules(((4,),)), *signs, Array(1, 3, 2, (), (Place(7),)), digit, Rules(((4,),)), value], 0)
    states = states_of(program, b"[1,2,3,[1,2],3")
    assert states[2] is states[4] is states[6] is states[14]
    assert states[8] is not states[2]


def test_recursion_to_the_right_and_left_takes_no_more_states_as_it_goes() -> None:
    for ways in (((A, 6), ()), ((6, A), ())):
        states = states_of(Program([*LEXEMES, Rules(ways)], 6), b"a" * 50)
        assert len(set(map(id, states))) <= (3 if ways[0][0] == 6 else 52)
    lexemes = Lexemes()
    table = PositionTable(Program([*LEXEMES, Rules(((A, 6), ()))], 6), lexemes)
    earley = Earley(table, 6)
    state = earley.initial
    for _ in range(50):
        following = earley.step(state, ord("a"))
        assert following is not None
        state = following
        assert len(state.scans) == 1 and sum(map(len, state.waiting.values())) == 0


def test_ten_thousand_brackets_deep() -> None:
    signs = [Lexeme(literal(sign)) for sign in (b"[", b"]", b",")]
    program = Program([Array(1, 3, 2, (), (Place(0),)), *signs], 0)
    matcher = matcher_of(program)
    assert matcher.accept_bytes(b"[" * 10_000) and not matcher.accepting
    assert matcher.accept_bytes(b"]" * 9_999) and not matcher.accepting
    assert matcher.accept_bytes(b"]") and matcher.accepting and matcher.finished


def test_huge_counts_are_numbers() -> None:
    signs = [Lexeme(literal(sign)) for sign in (b"[", b"]", b",", b"1")]
    least = Program([Array(1, 3, 2, (), (Place(4),), least=10**9), *signs], 0)
    matcher = matcher_of(least)
    assert (
        matcher.accept_bytes(b"[1" + b",1" * 200)
        and not matcher.accept_bytes(b"]")
        and matcher.forced() == b",1" * 2048
    )
    assert not matcher_of(Program([Counted(4, 10**9, None), *signs], 0)).accepting
    empty_items = Program([Counted(5, 10**9, 2 * 10**9), *signs, Rules(((4,), ()))], 0)
    matcher = matcher_of(empty_items)
    assert matcher.accepting and matcher.accept_bytes(b"1" * 100) and matcher.accepting


def test_twenty_thousand_rules_in_a_row() -> None:
    chain: list[Definition | None] = [Rules(((symbol + 1,),)) for symbol in range(20_000)]
    matcher = matcher_of(Program([*chain, Lexeme(literal(b"a"))], 0))
    assert matcher.accept_bytes(b"a") and matcher.finished


def test_too_much_ambiguity_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramify.grammars.machine.earley.WORK_LIMIT", 2000)
    matcher = matcher_of(Program([*LEXEMES, Rules(((6, 6), (A,), (6, 6, 6)))], 6))
    with pytest.raises(GrammarTooLarge, match="ambiguous"):
        matcher.accept_bytes(b"a" * 200)
    assert matcher.accept_bytes(b"aa") and len(matcher) == 1


def test_definitions_are_made_when_they_are_reached() -> None:
    made: list[int] = []

    def define(symbol: int) -> Definition:
        made.append(symbol)
        return Lexeme(literal(b"v"))

    signs = [Lexeme(literal(sign)) for sign in (b"{", b":", b",", b"}", b"a", b"b")]
    inner = Object(1, 2, 3, 4, (Member(5, 8, required=True),))
    outer = Object(1, 2, 3, 4, (Member(5, 7, required=True), Member(6, 9)))
    program = Program([outer, *signs, inner, None, None, None], 0, define)
    matcher = matcher_of(program)
    assert made == [8]  # without it nothing can be written
    assert matcher.accept_bytes(b"{a:{a:v") and 10 not in made
    assert concat([literal(b"v")]) == literal(b"v")
