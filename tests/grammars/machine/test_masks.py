"""Masks against trying every token; shared between grammars; for a real vocabulary, too."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from ramify.errors import GrammarError
from ramify.grammars.expression import both as both_of
from ramify.grammars.expression import (
    byte_range,
    bytes_in,
    complement,
    concat,
    either,
    literal,
    repeat,
)
from ramify.grammars.machine.lexemes import shared_lexemes
from ramify.grammars.machine.machine import Machine
from ramify.grammars.machine.masks import LexemeMasks, LexemeTokens, masks_for
from ramify.grammars.machine.matcher import Matcher
from ramify.grammars.machine.trie import TokenTrie
from ramify.grammars.program import Array, Counted, Definition, Lexeme, Member, Object, Others, Place, Program, Rules
from ramify.grammars.vocabulary import Vocabulary
from ramify.runtime.text.tokenizer import load_tokenizer
from ramify.runtime.weights.checkpoint import open_checkpoint

from .languages import matcher_of


def allowed(matcher: Matcher) -> list[int]:
    mask = matcher.mask()
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()


def brute(matcher: Matcher, vocabulary: Vocabulary) -> list[int]:
    return [token for token in range(vocabulary.size) if matcher.copy().accept(token)]


CHARACTER = either([byte_range(0x20, 0x21), byte_range(0x23, 0x5B), byte_range(0x5D, 0x7E)])
STRING = concat(
    [literal(b'"'), repeat(either([CHARACTER, concat([literal(b"\\"), bytes_in(b'"\\n')])])), literal(b'"')]
)
NUMBER = concat([repeat(literal(b"-"), 0, 1), repeat(byte_range(48, 57), 1, 3)])


def json_like(unique: bool = False, distinct: bool = True, most: int | None = None) -> Program:
    """Objects with a required "id", free keys, and arrays of strings and numbers."""
    named = either([literal(b'"id"'), literal(b'"tags"')])
    definitions: list[Definition | None] = [
        Object(1, 2, 3, 4, (Member(5, 7, required=True), Member(6, 8)), (Others(9, 10, 0, most, distinct),)),
        *(Lexeme(literal(sign)) for sign in (b"{", b": ", b", ", b"}", b'"id"', b'"tags"')),
        Lexeme(NUMBER),
        Array(11, 3, 12, (), (Place(7), Place(13)), unique=unique, most=4),
        Lexeme(both_of([STRING, complement(named)])),
        Rules(((7,), (8,), (13,), (0,))),
        *(Lexeme(literal(sign)) for sign in (b"[", b"]")),
        Lexeme(STRING),
    ]
    return Program(definitions, 0)


PROGRAMS = [
    json_like(),
    json_like(unique=True, distinct=False),
    json_like(most=1),
    Program([Counted(1, 2, 5, 2), Lexeme(repeat(bytes_in(b"ab"), 0, 3)), Lexeme(literal(b","))], 0),
    Program([Lexeme(concat([repeat(bytes_in(b"ab"), 3, 40), literal(b"c")]))], 0),
]
PIECES = [b'"', b"i", b"d", b"1", b"{", b"}", b"[", b"]", b": ", b", ", b"a", b"b", b"c", b",", b"\\", b"tags", b"\xc3"]
tokens = some.lists(
    some.lists(some.sampled_from(PIECES), min_size=1, max_size=5).map(b"".join), min_size=10, max_size=60
)


@settings(max_examples=40)
@given(some.sampled_from(PROGRAMS), tokens, some.randoms(use_true_random=False))
def test_a_mask_is_every_token_that_can_be_accepted(
    program: Program, words: list[bytes], chance: random.Random
) -> None:
    vocabulary = Vocabulary([*(bytes([byte]) for byte in range(256)), None, *words, None], [256])
    matcher = matcher_of(program, vocabulary)
    for _ in range(12):
        wanted = brute(matcher, vocabulary)
        assert allowed(matcher) == wanted
        few = matcher.allowed(8)
        assert (few is None) == (len(wanted) > 8) and (few is None or few.tolist() == wanted)
        assert (256 in wanted) == matcher.accepting and len(words) + 257 not in wanted
        longer = [token for token in wanted if token > 256]
        token = chance.choice(longer if longer and chance.random() < 0.7 else wanted)
        if token == 256:
            break
        assert matcher.accept(token)


def test_the_comparison_would_see_a_wrong_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "_cross", lambda *_: None)
    vocabulary = Vocabulary([b"{", b'{"', b'"'], [])
    matcher = matcher_of(json_like(), vocabulary)
    assert allowed(matcher) != brute(matcher, vocabulary)


def test_both_ways_over_the_trie_are_one() -> None:
    chance = random.Random(1)
    words = {bytes(chance.choices(b'ab"1\\', k=chance.randint(1, 6))) for _ in range(3000)}
    vocabulary = Vocabulary([*sorted(words), b"ab"], [])
    lexemes = shared_lexemes()
    masks = LexemeMasks(vocabulary, lexemes)
    for expression in (STRING, NUMBER, repeat(bytes_in(b"ab1")), concat([repeat(CHARACTER, 0, 3), literal(b'"')])):
        state = lexemes.add(expression)
        ids, crossing, _ = masks._by_nodes([(0, state)], len(masks.trie))
        one, other = (
            LexemeTokens(masks._stored(np.array(sorted(ids), np.int32)), crossing),
            masks._by_levels(state, len(masks.trie))[0],
        )
        np.testing.assert_array_equal(one.inside, other.inside)
        inside = set(one.inside.tolist()) if one.inside.dtype == np.int32 else None
        for byte, nodes in one.crossing.items():
            missing = set(nodes) - set(other.crossing.get(byte, []))
            assert inside is None or all(below(masks.trie, node) <= inside for node in missing)


def below(trie: TokenTrie, node: int) -> set[int]:
    found = set(trie.ids[trie.token[node] : trie.token[node + 1]].tolist())
    for child in range(trie.child[node], trie.child[node + 1]):
        found |= below(trie, child)
    return found


@given(some.lists(some.binary(max_size=6), max_size=60))
def test_a_trie_holds_every_token_where_its_bytes_lead(words: list[bytes]) -> None:
    trie = TokenTrie(tuple(words))
    found: dict[int, bytes] = {}
    for node in range(len(trie)):
        for token in trie.ids[trie.token[node] : trie.token[node + 1]].tolist():
            found[token] = trie.spelling(node)
        for child in range(trie.child[node], trie.child[node + 1]):
            assert trie.spelling(child) == trie.spelling(node) + bytes([trie.byte[child]])
    assert found == {index: word for index, word in enumerate(words) if word}


def test_masks_of_lexemes_are_shared_between_grammars() -> None:
    vocabulary = Vocabulary([bytes([byte]) for byte in range(256)], [])
    masks = masks_for(vocabulary, shared_lexemes())
    for field in (b'{"a": ', b'{"other": '):
        matcher = matcher_of(Program([Rules(((1, 2),)), Lexeme(literal(field)), Lexeme(STRING)], 0), vocabulary)
        assert matcher.accept_bytes(field + b'"x')
        before = len(masks._found)
        matcher.mask()
        known = len(masks._found) - before
    assert known == 0


def test_a_mask_is_read_only_and_found_again() -> None:
    vocabulary = Vocabulary([bytes([byte]) for byte in range(256)], [])
    matcher = matcher_of(json_like(), vocabulary)
    assert matcher.mask() is matcher.copy().mask()
    with pytest.raises(ValueError, match="read-only"):
        matcher.mask()[0] = 1


def test_what_no_token_can_spell_is_said() -> None:
    matcher = matcher_of(Program([Lexeme(literal(b"ab"))], 0), Vocabulary([b"a", b"c"], [1]))
    assert allowed(matcher) == [0] and matcher.accept(0)
    with pytest.raises(GrammarError, match="no token of this vocabulary"):
        matcher.mask()


def test_logits_may_have_more_columns_than_there_are_tokens() -> None:
    vocabulary = Vocabulary([b"a", b"b"], [1], size=70)
    matcher = matcher_of(Program([Lexeme(repeat(literal(b"a")))], 0), vocabulary)
    assert len(matcher.mask()) == vocabulary.words == 3 and allowed(matcher) == [0, 1]
    assert not matcher.accept(69) and not matcher.accept(70) and not matcher.accept(-1)


def test_masks_of_counts_are_shared_until_the_end_is_near() -> None:
    chance = random.Random(2)
    words = {bytes(chance.choices(b'ab"', k=chance.randint(1, 30))) for _ in range(400)}
    vocabulary = Vocabulary([*sorted(words)], [])
    masks = LexemeMasks(vocabulary, shared_lexemes())
    plain = LexemeMasks(vocabulary, shared_lexemes())
    plain._reach.of = lambda state: state  # type: ignore[method-assign]
    for least, most in ((0, 90), (0, 20), (40, 60), (10, 17), (70, None)):
        inner = either([literal(b"ab"), bytes_in(b"ab")])
        for expression in (repeat(inner, least, most), concat([repeat(inner, least, most), literal(b'"')])):
            state = masks.lexemes.add(expression)
            for _ in range(70):
                one, other = masks.of(state), plain.of(state)
                np.testing.assert_array_equal(one.inside, other.inside)
                assert {byte: set(nodes) for byte, nodes in one.crossing.items()} == {
                    byte: set(nodes) for byte, nodes in other.crossing.items()
                }
                state = masks.lexemes.step(state, ord("a")) or state
    assert len(masks._near) < len(plain._found) / 3


@pytest.fixture(scope="module")
def smollm2(smollm2_files):  # type: ignore[no-untyped-def]
    return Vocabulary.of(load_tokenizer(open_checkpoint(smollm2_files)))


def test_masks_of_a_real_vocabulary(smollm2: Vocabulary) -> None:
    matcher = matcher_of(json_like(), smollm2)
    for text in (b'{"', b'id": 1', b', "tags": ["x', b'", 3', b"]"):
        assert matcher.accept_bytes(text)
        assert allowed(matcher) == brute(matcher, smollm2)
