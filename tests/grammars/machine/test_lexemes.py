"""Derivatives against sets of strings, Python's re and interegular; liveness; counts that are never unrolled."""

from __future__ import annotations

import re

import interegular
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from ramify.errors import GrammarTooLarge
from ramify.grammars.expression import (
    ANY_BYTE,
    ANYTHING,
    ByteSet,
    Concat,
    Either,
    Expression,
    Repeat,
    both,
    bytes_in,
    complement,
    concat,
    either,
    literal,
    repeat,
)
from ramify.grammars.machine.lexemes import Lexemes
from ramify.grammars.machine.nodes import NOTHING, Node

from .languages import language, strings

ALPHABET = b"abc"
LONGEST = 5

leaves = some.sampled_from(
    [bytes_in(b"a"), bytes_in(b"b"), bytes_in(b"ab"), bytes_in(b"bc"), literal(b"ab"), literal(b"")]
)
counts = some.tuples(some.integers(0, 3), some.one_of(some.none(), some.integers(0, 3)))


def composed(inner: some.SearchStrategy[Expression]) -> some.SearchStrategy[Expression]:
    return some.one_of(
        some.lists(inner, min_size=1, max_size=3).map(concat),
        some.lists(inner, min_size=1, max_size=3).map(either),
        some.builds(lambda one, span: repeat(one, span[0], None if span[1] is None else sum(span)), inner, counts),
    )


def with_sets(inner: some.SearchStrategy[Expression]) -> some.SearchStrategy[Expression]:
    return some.one_of(
        composed(inner), some.lists(inner, min_size=2, max_size=3).map(both), some.builds(complement, inner)
    )


regular = some.recursive(leaves, composed, max_leaves=8)
expressions = some.recursive(leaves, with_sets, max_leaves=8)


def run(lexemes: Lexemes, state: Node, text: bytes) -> Node:
    for byte in text:
        state = lexemes.step(state, byte)
    return state


@settings(max_examples=200)
@given(expressions)
@example(both([repeat(bytes_in(b"ab")), complement(concat([ANYTHING, literal(b"b")]))]))
@example(repeat(either([literal(b""), literal(b"ab")]), 2, 3))
def test_a_state_knows_what_it_accepts_and_whether_anything_may_follow(expression: Expression) -> None:
    wanted = language(expression, ALPHABET, LONGEST)
    begun = {text[:length] for text in wanted for length in range(len(text) + 1)}
    lexemes = Lexemes()
    for text in strings(ALPHABET, LONGEST):
        state = run(lexemes, lexemes.add(expression), text)
        assert bool(lexemes.nullable[state]) == (text in wanted), text
        if text in begun:
            assert state != NOTHING, text
        elif state != NOTHING and len(text) < 3:
            assert accepts_something(lexemes, state), text
        if state != NOTHING:
            ways = {byte for byte in range(256) if lexemes.step(state, byte)}
            assert lexemes.onward(state) == sum(1 << byte for byte in ways)


def accepts_something(lexemes: Lexemes, state: Node) -> bool:
    seen, queue = {state}, [state]
    for one in queue:
        if lexemes.nullable[one]:
            return True
        for byte in (*ALPHABET, ord("z")):
            following = lexemes.step(one, byte)
            if following and following not in seen and len(seen) < 3000:
                seen.add(following)
                queue.append(following)
    return False


def pattern_of(expression: Expression) -> str:
    """As Python writes it; no intersections and complements."""
    if isinstance(expression, ByteSet):
        found = "".join(chr(byte) for byte in range(256) if expression.bits >> byte & 1)
        return f"[{found}]" if found else "(?!)"
    if isinstance(expression, Concat):
        return "".join(f"(?:{pattern_of(part)})" for part in expression.parts)
    if isinstance(expression, Either):
        return "|".join(f"(?:{pattern_of(part)})" for part in expression.parts)
    assert isinstance(expression, Repeat)
    most = "" if expression.most is None else expression.most
    return f"(?:{pattern_of(expression.inner)}){{{expression.least},{most}}}"


@settings(max_examples=200)
@given(regular, some.lists(some.text("abc", max_size=14), min_size=20, max_size=20))
def test_the_regular_part_agrees_with_python(expression: Expression, texts: list[str]) -> None:
    pattern, lexemes = re.compile(pattern_of(expression)), Lexemes()
    for text in texts:
        state = run(lexemes, lexemes.add(expression), text.encode())
        assert bool(lexemes.nullable[state]) == bool(pattern.fullmatch(text)), (pattern.pattern, text)


def automaton_of(expression: Expression) -> interegular.FSM:
    """The same language as another library unrolls it."""
    return interegular.parse_pattern(pattern_of(expression)).to_fsm()


PARTS = [
    repeat(bytes_in(b"ab")),
    repeat(either([literal(b"a"), literal(b"bc")]), 1, 4),
    concat([repeat(bytes_in(b"abc")), literal(b"ab"), repeat(bytes_in(b"abc"))]),
    concat([repeat(bytes_in(b"abc"), 2, 6), literal(b"c")]),
    concat([repeat(literal(b"ab"), 0, 3), repeat(literal(b"c"), 0, 1)]),
    either([literal(b"abc"), literal(b"ab"), repeat(literal(b"c"), 3, None)]),
]


@pytest.mark.parametrize("one", PARTS)
def test_intersections_and_differences_agree_with_interegular(one: Expression) -> None:
    lexemes = Lexemes()
    for other in PARTS:
        for ours, theirs in (
            (both([one, other]), automaton_of(one) & automaton_of(other)),
            (both([one, complement(other)]), automaton_of(one) - automaton_of(other)),
        ):
            begin = lexemes.add(ours)
            assert (begin == NOTHING) == theirs.empty()
            for text in strings(b"abc", 6):
                assert bool(lexemes.nullable[run(lexemes, begin, text)]) == theirs.accepts(text.decode()), text


def test_the_comparison_would_see_a_wrong_derivative() -> None:
    class Wrong(Lexemes):
        def _derived(self, state: Node, byte: int) -> Node:
            right = super()._derived(state, byte)
            return self.either({right, state}) if self.keys[state][0] == 5 else right

    wrong, expression = Wrong(), repeat(literal(b"ab"), 0, 2)
    accepted = {text for text in strings(b"ab", 5) if wrong.nullable[run(wrong, wrong.add(expression), text)]}
    assert accepted != language(expression, b"ab", 5)


def test_counts_are_not_unrolled() -> None:
    lexemes = Lexemes()
    state = lexemes.add(repeat(bytes_in(b"a"), 10**9, 10**12))
    before = len(lexemes)
    state = run(lexemes, state, b"a" * 100)
    assert state and not lexemes.nullable[state]
    assert len(lexemes) - before == 100


def test_counts_of_one_thing_are_one_count() -> None:
    lexemes = Lexemes()
    a = bytes_in(b"a")
    assert lexemes.add(concat([repeat(a, 2, 5), repeat(a, 1, 3)])) == lexemes.add(repeat(a, 3, 8))
    assert lexemes.add(concat([repeat(a, 0, 1)] * 5000)) == lexemes.add(repeat(a, 0, 5000))
    assert lexemes.add(either([repeat(a, 2, 5), repeat(a, 0, 3)])) == lexemes.add(repeat(a, 0, 5))
    assert lexemes.add(either([repeat(a, 5, 6), repeat(a, 0, 3)])) != lexemes.add(repeat(a, 0, 6))


def test_a_long_literal_and_a_deep_expression_need_no_recursion() -> None:
    lexemes = Lexemes()
    text = b"x" * 50_000
    assert lexemes.nullable[run(lexemes, lexemes.add(literal(text)), text)]
    deep = literal(b"a")
    for _ in range(110):
        deep = repeat(concat([deep, literal(b"b")]), 0, 2)
    state = lexemes.add(deep)
    assert lexemes.step(state, ord("a")) and not lexemes.step(state, ord("c"))
    for _ in range(5000):
        deep = repeat(concat([deep, literal(b"b")]), 0, 2)
    with pytest.raises(GrammarTooLarge, match="nested"):
        lexemes.add(deep)


def test_an_empty_intersection_is_seen_at_once_where_lengths_show_it() -> None:
    lexemes = Lexemes()
    short, long = repeat(ANY_BYTE, 0, 10**6), repeat(literal(b"ab"), 10**7, None)
    assert lexemes.add(both([short, long])) == NOTHING
    assert len(lexemes) < 30


def test_an_intersection_with_long_strings_only_is_found_alive() -> None:
    lexemes = Lexemes()
    letters, even = repeat(bytes_in(b"abc"), 3000, 4000), repeat(concat([ANY_BYTE, ANY_BYTE]))
    assert lexemes.add(both([letters, even, complement(concat([ANYTHING, literal(b"aa"), ANYTHING]))]))


def test_an_undecidable_amount_of_work_is_refused() -> None:
    lexemes = Lexemes()

    def at(place: int) -> Expression:  # the byte so many from the end is an a
        return concat([repeat(bytes_in(b"ab")), literal(b"a"), repeat(bytes_in(b"ab"), place, place)])

    with pytest.raises(GrammarTooLarge, match="decided"):
        lexemes.add(both([at(40), complement(at(41)), at(60), complement(either([at(place) for place in range(20)]))]))
