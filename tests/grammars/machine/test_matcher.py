"""A matcher's life: going on and back, copies, forced text, the end; flat memory over many grammars."""

from __future__ import annotations

import gc
import random
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from ramify.errors import GrammarError, GrammarTooLarge, InvalidRequest
from ramify.grammars.expression import bytes_in, concat, either, literal, repeat
from ramify.grammars.grammar import Grammar
from ramify.grammars.machine.machine import Machine
from ramify.grammars.machine.matcher import Matcher
from ramify.grammars.program import Array, Lexeme, Place, Program, Rules
from ramify.grammars.vocabulary import Vocabulary

from .languages import ONE_BYTE_EACH, matcher_of

SIGNS = [Lexeme(literal(sign)) for sign in (b"[", b"]", b",")]
NUMBERS = Program(
    [*SIGNS, Rules(((4,), (5,))), Lexeme(repeat(bytes_in(b"12"), 1, 3)), Array(0, 2, 1, (), (Place(3),))], 5
)
VOCABULARY = Vocabulary([b"[", b"]", b",", b"1", b"2", b"1,", b"],", b"[[", b"12]", None, b"end"], [10])


actions = some.one_of(some.integers(0, 11), some.sampled_from(["back", "copy"]))


@settings(max_examples=60)
@given(
    some.lists(some.one_of(some.integers(0, 11), some.sampled_from(["back", "copy"])), max_size=40), some.integers(1, 4)
)
def test_rollback_and_copies_are_as_fresh_ones(chosen: list[int | str], back: int) -> None:
    machine = Machine(NUMBERS, VOCABULARY)
    matcher, taken = Matcher(machine), list[int]()
    for action in chosen:
        if action == "back":
            count = min(back, len(matcher))
            matcher.rollback(count)
            taken = taken[: len(taken) - count]
        elif action == "copy":
            old, matcher = matcher, matcher.copy()
            old.accept(0)
        elif isinstance(action, int) and matcher.accept(action):
            taken.append(action)
        fresh = matcher_of(NUMBERS, VOCABULARY)
        assert all(fresh.accept(token) for token in taken) and len(fresh) == len(matcher)
        assert (fresh.accepting, fresh.finished, fresh.forced()) == (
            matcher.accepting,
            matcher.finished,
            matcher.forced(),
        )
        if 10 not in taken:
            np.testing.assert_array_equal(fresh.mask(), matcher.mask())


def test_the_end_is_a_step_like_others() -> None:
    matcher = matcher_of(NUMBERS, VOCABULARY)
    assert not matcher.accept(10) and matcher.accept(0) and matcher.accept(1)
    assert matcher.accepting and matcher.finished and matcher.allowed().tolist() == [10]  # type: ignore[union-attr]
    assert matcher.accept(10) and matcher.accepting and matcher.finished and matcher.forced() == b""
    assert not matcher.accept(10) and not matcher.accept_bytes(b"")
    with pytest.raises(InvalidRequest, match="ended"):
        matcher.mask()
    matcher.rollback(2)
    assert not matcher.accepting and matcher.accept(1)


def test_what_is_refused_changes_nothing() -> None:
    matcher = matcher_of(NUMBERS, VOCABULARY)
    assert matcher.accept(0)
    before = matcher.mask()
    for token in (2, 6, 8 + 1, -1, 99):
        assert not matcher.accept(token)
    assert not matcher.accept_bytes(b"1x") and matcher.mask() is before and len(matcher) == 1
    with pytest.raises(InvalidRequest, match="roll back 2 of 1"):
        matcher.rollback(2)


def test_forced_text_is_all_that_is_without_a_choice() -> None:
    language = concat([literal(b"ab"), repeat(literal(b"c"), 2, 3), literal(b"d")])
    matcher = matcher_of(Program([Lexeme(language)], 0))
    assert matcher.forced() == b"abcc" and matcher.accept_bytes(b"abccc")
    assert matcher.forced() == b"d" and matcher.accept_bytes(b"d") and matcher.forced() == b"" and matcher.finished
    optional = matcher_of(Program([Lexeme(concat([literal(b"a"), repeat(literal(b"b"), 0, 1)]))], 0))
    assert optional.forced() == b"a"  # after it the text may end: a choice
    accents = matcher_of(Program([Lexeme(either([literal("é".encode()), literal("è".encode())]))], 0))
    assert accents.forced() == b"\xc3"  # half a character: the caller holds it back


@given(some.lists(some.text("ab", min_size=1, max_size=4), min_size=1, max_size=4), some.text("ab", max_size=3))
def test_forced_text_is_the_longest_common_start(words: list[str], start: str) -> None:
    matcher = matcher_of(Program([Lexeme(either(literal(word.encode()) for word in words))], 0))
    rest = [word[len(start) :] for word in words if word.startswith(start)]
    assert matcher.accept_bytes(start.encode()) == bool(rest)
    if rest:
        wanted = rest[0]
        while not all(word.startswith(wanted) for word in rest):
            wanted = wanted[:-1]
        assert matcher.forced() == wanted.encode()


def test_an_empty_language_is_refused() -> None:
    with pytest.raises(GrammarError, match="empty"):
        matcher_of(Program([Rules(((0,),))], 0))


def test_threads_may_share_a_grammar() -> None:
    machine, failures = Machine(NUMBERS, VOCABULARY), list[BaseException]()

    def work(seed: int) -> None:
        chance, matcher = random.Random(seed), Matcher(machine)
        try:
            for _ in range(150):
                ids = matcher.allowed(20)
                assert ids is not None
                token = chance.choice(ids.tolist())
                assert matcher.accept(token)
                if token == 10:
                    matcher.rollback(chance.randint(1, len(matcher)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_states_are_dropped_when_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramify.grammars.machine.earley.SETS_LIMIT", 20)
    machine = Machine(NUMBERS, VOCABULARY)
    matcher, chance = Matcher(machine), random.Random(0)
    replayed = matcher_of(NUMBERS, VOCABULARY)
    for _ in range(300):
        ids = matcher.allowed(20)
        assert ids is not None and ids.tolist() == replayed.allowed(20).tolist()  # type: ignore[union-attr]
        token = chance.choice([token for token in ids.tolist() if token != 10] or [10])
        assert matcher.accept(token) and replayed.accept(token)
        if token == 10:
            matcher.rollback(5)
            replayed.rollback(5)
    assert len(machine._earley._sets) <= 20


def test_too_many_states_of_one_grammar_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramify.grammars.machine.machine.MACHINE_WORK", 3000)
    matcher = matcher_of(Program([Lexeme(repeat(bytes_in(b"ab"), 1000, 2000))], 0))
    with pytest.raises(GrammarTooLarge, match="states"):
        for _ in range(2000):
            matcher.accept_bytes(b"a")
    assert matcher_of(NUMBERS).accept_bytes(b"[1,2]")  # others are not harmed


def grow(first: int, last: int) -> None:
    for index in range(first, last):
        field = literal(f'"field{index}"'.encode())
        grammar = Grammar(Program([Lexeme(concat([literal(b"{"), field, literal(b":"), repeat(bytes_in(b"12"))]))], 0))
        matcher = Matcher(Machine(grammar.program, ONE_BYTE_EACH))
        assert matcher.accept_bytes(f'{{"field{index}":'.encode())
        matcher.mask()


@pytest.mark.slow
def test_memory_is_flat_over_many_grammars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramify.grammars.machine.lexemes.NODE_BUDGET", 5000)
    monkeypatch.setattr("ramify.grammars.machine.masks.BYTES_LIMIT", 1 << 20)
    grow(0, 1000)
    gc.collect()
    tracemalloc.start()
    grow(1000, 2000)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    grow(2000, 10_000)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 3_000_000, f"{before} -> {after} bytes"


def test_keys_say_what_a_grammar_was_made_from() -> None:
    one = Grammar(NUMBERS, "regex", "a+", {"flags": 0})
    assert one.key == Grammar(NUMBERS, "regex", "a+", {"flags": 0}).key != Grammar(NUMBERS, "regex", "a+").key
    matcher = one.matcher(VOCABULARY)
    assert matcher.accept_bytes(b"[1]") and matcher.accepting and "regex" in repr(one)
