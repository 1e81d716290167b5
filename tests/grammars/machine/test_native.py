"""The compiled machine against the Python machine, which says what is true: masks, accepts, forced bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from ramify.errors import GrammarError, GrammarTooLarge, InvalidRequest
from ramify.grammars.expression import byte_range, bytes_in, concat, either, literal, repeat
from ramify.grammars.machine.machine import Machine
from ramify.grammars.machine.matcher import Matcher
from ramify.grammars.machine.native import NativeMachine, NativeMatcher, apply_masks, fill_masks
from ramify.grammars.machine.native_core import CoreUnavailable, grammar_core
from ramify.grammars.program import Array, Counted, Definition, Lexeme, Place, Program, Rules
from ramify.grammars.schema.front import json_schema
from ramify.grammars.vocabulary import Vocabulary

from .random_programs import random_program, random_vocabulary

try:
    grammar_core()
except CoreUnavailable as reason:
    pytest.skip(f"no compiled core: {reason}", allow_module_level=True)

BYTES = Vocabulary([bytes([byte]) for byte in range(256)], [0])


def either_error(make: Callable[[], Matcher]) -> Matcher | type[GrammarError]:
    try:
        return make()
    except GrammarError as error:
        return type(error)


def check_equal(left: Matcher, right: Matcher) -> None:
    """Everything that one can see of them."""
    assert (left.accepting, left.finished, len(left)) == (right.accepting, right.finished, len(right))
    assert left.forced() == right.forced()
    try:
        mask = left.mask()
    except (GrammarError, InvalidRequest) as error:
        with pytest.raises(type(error)):
            right.mask()
        return
    np.testing.assert_array_equal(mask, right.mask())
    for limit in (3, 256):
        ids, others = left.allowed(limit), right.allowed(limit)
        assert (ids is None) == (others is None)
        if ids is not None and others is not None:
            np.testing.assert_array_equal(ids, others)


def tokens_of(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()


def walk(random: Random, left: Matcher, right: Matcher, vocabulary: Vocabulary, steps: int) -> int:
    """The same random steps in both, some back, some into copies; returns how many were taken."""
    taken = 0
    for _ in range(steps):
        check_equal(left, right)
        choice = random.random()
        if choice < 0.1 and len(left):
            back = random.randint(1, len(left))
            left.rollback(back)
            right.rollback(back)
        elif choice < 0.2:
            token = random.randrange(vocabulary.size)
            assert left.accept(token) == right.accept(token)
        elif choice < 0.25:
            data = bytes(random.choices(b'ab01",[]{}', k=random.randint(0, 3)))
            assert left.accept_bytes(data) == right.accept_bytes(data)
        else:
            try:
                allowed = tokens_of(left.mask())
            except (GrammarError, InvalidRequest):
                break
            token = random.choice(allowed)
            assert left.accept(token) and right.accept(token)
            taken += 1
        if random.random() < 0.1:
            left, right = left.copy(), right.copy()
    return taken


def compare(seed: int, steps: int = 12) -> int:
    random = Random(seed)
    program, vocabulary = random_program(random), random_vocabulary(random)
    left = either_error(lambda: Matcher(Machine(program, vocabulary)))
    right = either_error(lambda: NativeMachine(program, vocabulary).matcher())
    if isinstance(left, type) or isinstance(right, type):
        assert left == right
        return 0
    return walk(random, left, right, vocabulary, steps)


@pytest.mark.parametrize("part", range(8))
def test_random_programs_give_the_same_masks_and_accepts(part: int) -> None:
    taken = [compare(1000 * part + seed) for seed in range(25)]
    assert sum(taken) > 60


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_many_random_programs(part: int) -> None:
    for seed in range(200):
        compare(100_000 + 1000 * part + seed, 20)


def test_a_planted_difference_is_seen() -> None:
    definitions: list[Definition | None] = [Lexeme(repeat(byte_range(97, 122), 1, 5))]
    other: list[Definition | None] = [Lexeme(repeat(byte_range(97, 122), 1, 4))]
    vocabulary = Vocabulary([b"a", b"aaaa", b"aaaaa", b"b"], [])
    left = Matcher(Machine(Program(definitions, 0), vocabulary))
    with pytest.raises(AssertionError):
        check_equal(left, NativeMachine(Program(other, 0), vocabulary).matcher())


SCHEMAS: list[object] = [
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}, "b": {"enum": [1, "x", None]}}},
    {"type": "string", "pattern": "^[a-c]+(-[0-9]{2,3})?$", "maxLength": 8},
    {"type": "string", "pattern": "[a-c]{2}-[0-9]", "minLength": 4},
    {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 4},
    {"type": "array", "contains": {"type": "string"}, "maxContains": 2, "items": {"type": ["string", "boolean"]}},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 3},
    {"type": "object", "properties": {"aa": {}, "ab": {}}, "patternProperties": {"^x": {"type": "null"}}},
    {"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"},
    {"anyOf": [{"type": "number", "minimum": 3, "maximum": 40}, {"type": "string", "format": "date"}]},
    True,
]


def json_vocabulary() -> Vocabulary:
    random = Random(5)
    tokens: list[bytes | None] = [bytes([byte]) for byte in range(256)]
    pieces = [
        '"',
        '", "',
        '": ',
        "a",
        "b",
        "-",
        "12",
        "20",
        "true",
        "null",
        "{",
        "}",
        "[",
        "], ",
        "1",
        "x",
        '{"a',
        '"}',
    ]
    pieces += ["é", "\\", "\\u00", " ", "\n", "2024-", "日"]
    tokens += ["".join(random.choices(pieces, k=random.randint(1, 4))).encode() for _ in range(500)]
    return Vocabulary(tokens, [0])


@pytest.mark.parametrize("index", range(len(SCHEMAS)))
def test_schemas_give_the_same_masks(index: int) -> None:
    vocabulary = json_vocabulary()
    random = Random(index)
    left = Matcher(Machine(json_schema(SCHEMAS[index]).program, vocabulary))  # type: ignore[arg-type]
    native = NativeMachine(json_schema(SCHEMAS[index]).program, vocabulary)  # type: ignore[arg-type]
    for _ in range(3):
        walk(random, left.copy(), native.matcher(), vocabulary, 20)


def test_definitions_are_made_when_the_core_reaches_them() -> None:
    made: list[int] = []

    def define(symbol: int) -> Definition:
        made.append(symbol)
        return Lexeme(literal(b"abc"[symbol - 1 : symbol]))

    program = Program([Rules(((1, 2), (1,))), None, None, None], 0, define)
    matcher = NativeMachine(program, BYTES).matcher()
    assert sorted(made) == [1, 2]
    assert matcher.accept_bytes(b"ab") and matcher.finished


def test_what_a_definition_raises_reaches_the_caller() -> None:
    def define(symbol: int) -> Definition:
        raise GrammarError("it cannot be", "/there")

    with pytest.raises(GrammarError, match="/there: it cannot be"):
        NativeMachine(Program([None], 0, define), BYTES).matcher()


def test_a_batch_is_filled_and_applied_as_each_mask_alone() -> None:
    vocabulary = json_vocabulary()
    matchers: list[NativeMatcher] = []
    for schema in SCHEMAS:
        matcher = NativeMachine(json_schema(schema).program, vocabulary).matcher()  # type: ignore[arg-type]
        matcher.accept_bytes(matcher.forced()[:2])
        matchers.append(matcher)
    rows = np.zeros((len(matchers) + 1, vocabulary.words + 3), np.uint32)
    fill_masks(matchers, rows)
    logits = np.random.default_rng(1).standard_normal((len(matchers) + 1, vocabulary.size)).astype(np.float32)
    before = logits.copy()
    apply_masks(logits, [*(matcher.mask() for matcher in matchers), None])
    for row, matcher in enumerate(matchers):
        np.testing.assert_array_equal(rows[row, : vocabulary.words], matcher.mask())
        bits = np.unpackbits(matcher.mask().view(np.uint8), bitorder="little")[: vocabulary.size].astype(bool)
        np.testing.assert_array_equal(logits[row], np.where(bits, before[row], -np.inf))
    np.testing.assert_array_equal(logits[-1], before[-1])


def test_ended_texts_allow_nothing() -> None:
    matcher = NativeMachine(Program([Lexeme(literal(b"a"))], 0), Vocabulary([b"a", None], [1])).matcher()
    assert not matcher.accept(1)
    assert matcher.accept(0) and matcher.accept(1)
    assert matcher.accepting and matcher.finished and not matcher.accept(0) and not matcher.accept_bytes(b"a")
    with pytest.raises(InvalidRequest, match="ended"):
        matcher.mask()
    with pytest.raises(InvalidRequest, match="ended"):
        fill_masks([matcher], np.zeros((1, 1), np.uint32))
    matcher.rollback(1)
    assert matcher.allowed(5) is not None


@pytest.mark.parametrize(
    "program",
    [
        Program([Rules(((0, 0), (0, 0, 0), (1,))), Lexeme(literal(b"a"))], 0),  # the more ambiguous, the longer
        Program([Lexeme(repeat(repeat(literal(b"a"), 1, 1000), 1, 1000))], 0),
        Program([Lexeme(concat([repeat(byte_range(0, 255)), literal(b"a"), repeat(byte_range(0, 255), 14, 14)]))], 0),
        Program([Counted(1, 0, 10**9), Lexeme(repeat(literal(b"a")))], 0),
        Program(
            [Array(1, 2, 3, rest=(Place(4),), least=10**9), *(Lexeme(literal(s)) for s in (b"[", b",", b"]", b"a"))], 0
        ),
        Program([Lexeme(repeat(literal(b"a"), 10**12, None))], 0),
    ],
    ids=["ambiguous", "nested counts", "long window", "nullable items", "a billion items", "a long string"],
)
def test_the_hostile_works_or_is_refused(program: Program) -> None:
    try:
        matcher = NativeMachine(program, BYTES).matcher()
        for _ in range(200):
            matcher.mask()
            if not matcher.accept_bytes(b"a"):
                matcher.accept_bytes(matcher.forced()[:1])
    except GrammarTooLarge as error:
        assert "allowed" in str(error) or "ambiguous" in str(error)


def test_an_endless_nesting_is_refused() -> None:
    expression = literal(b"a")
    for _ in range(3000):
        expression = repeat(either([expression, bytes_in(b"b")]), 0, 2)
    with pytest.raises(GrammarTooLarge, match="nested"):
        NativeMachine(Program([Lexeme(expression)], 0), BYTES).matcher()


def test_many_words_are_one_automaton() -> None:
    random = Random(1)
    words = [bytes(random.choices(b"abcdefgh", k=10)) for _ in range(5000)]
    matcher = NativeMachine(Program([Lexeme(either(map(literal, words)))], 0), BYTES).matcher()
    assert all(matcher.copy().accept_bytes(word) for word in words[:50])
    assert not matcher.accept_bytes(b"z")


def test_threads_share_a_machine() -> None:
    vocabulary = json_vocabulary()
    machine = NativeMachine(json_schema(SCHEMAS[0]).program, vocabulary)  # type: ignore[arg-type]
    wanted = b'{"a": "bb", "b": 1}'
    failures: list[object] = []

    def run() -> None:
        for _ in range(30):
            matcher = machine.matcher()
            for byte in wanted:
                mask = matcher.mask()
                if not mask[byte >> 5] >> (byte & 31) & 1 or not matcher.accept(byte):
                    failures.append(byte)
            if not matcher.accepting:
                failures.append("end")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
