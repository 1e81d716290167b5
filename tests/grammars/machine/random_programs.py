"""Random programs over a few bytes, and vocabularies whose tokens cut across them: what both machines must agree on."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from ramify.grammars.expression import (
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
from ramify.grammars.vocabulary import Vocabulary

ALPHABET = b'ab01"{}[],: \\u00610-.e'
CHARACTERS = either([bytes_in(b"ab01"), literal(b"\\u0061"), literal("é".encode())])
STRING = concat([literal(b'"'), repeat(CHARACTERS), literal(b'"')])
SHORT = concat([literal(b'"'), repeat(CHARACTERS, 1, 3), literal(b'"')])
NUMBER = concat(
    [
        repeat(literal(b"-"), 0, 1),
        either([literal(b"0"), concat([literal(b"1"), repeat(bytes_in(b"01"))])]),
        repeat(concat([literal(b"."), repeat(bytes_in(b"01"), 1)]), 0, 1),
    ]
)
WORDS = [b"a", b"b", b"ab", b"ba", b"0", b"1", b'"a"', b'"b"', b'"ab"', b'"', b",", b": ", b"[", b"]", b"{", b"}"]


def random_expression(random: Random, depth: int) -> Expression:
    """Anything: counts, intersections and complements too."""
    kind = random.randrange(9) if depth else random.randrange(3)
    inner = depth - 1
    if kind < 2:
        return bytes_in(random.sample(list(b"ab01"), random.randint(1, 3)))
    if kind == 2:
        return literal(random.choice(WORDS))
    if kind in (3, 4):
        return concat(random_expression(random, inner) for _ in range(random.randint(0, 3)))
    if kind == 5:
        return either([random_expression(random, inner) for _ in range(random.randint(1, 3))])
    if kind in (6, 7):
        least = random.choice([0, 0, 1, 2, 5])
        most = random.choice([None, least, least + 1, least + 3, least + 40])
        return repeat(random_expression(random, inner), least, most)
    wide = repeat(byte_range(0x20, 0x7E), 0, random.choice([None, 4, 9]))
    narrow = random_expression(random, inner)
    return both([wide, complement(narrow) if random.random() < 0.5 else narrow])


def random_lexeme(random: Random) -> Lexeme:
    """Something of JSON, or anything."""
    kind = random.randrange(6)
    if kind == 0:
        return Lexeme(STRING)
    if kind == 1:
        return Lexeme(random.choice([SHORT, NUMBER]))
    if kind == 2:
        excluded = either([literal(b'"a"'), literal(b'"ab"')])
        return Lexeme(both([STRING, complement(excluded)]))
    if kind == 3:
        pattern = concat([literal(b'"'), random_expression(random, 1), repeat(CHARACTERS), literal(b'"')])
        return Lexeme(both([concat([literal(b'"'), repeat(CHARACTERS, 0, 6), literal(b'"')]), pattern]))
    return Lexeme(random_expression(random, 3))


def random_program(random: Random) -> Program:
    """A dozen definitions that refer to each other anyhow; one of the last is the start."""
    signs = [Lexeme(literal(sign)) for sign in (b"{", b":", b",", b"}", b"[", b"]")]
    scalars = [random_lexeme(random) for _ in range(4)]
    scalars += [Lexeme(literal(b'"a"')), Lexeme(literal(b'"b"')), Lexeme(NUMBER), Lexeme(STRING)]
    first = len(signs) + len(scalars)
    count = random.randint(1, 4)
    definitions: list[Definition | None] = [*signs, *scalars]
    definitions += [random_definition(random, first, count) for _ in range(count)]
    return Program(definitions, first + random.randrange(count))


def random_definition(random: Random, first: int, count: int) -> Definition:
    """Of any form, over scalars 6 up to `first` and definitions up to `first + count`."""

    def some() -> int:
        return random.randrange(6, first + count)

    def span() -> tuple[int, int | None]:
        least = random.choice([0, 0, 1, 2])
        return least, random.choice([None, least, least + 1, least + 2])

    form = random.randrange(4)
    least, most = span()
    if form == 0:
        return Rules(tuple(tuple(some() for _ in range(random.randint(0, 3))) for _ in range(random.randint(1, 3))))
    if form == 1:
        return Counted(some(), least, most, random.choice([None, 2, some()]))
    if form == 2:
        keys = random.sample([first - 4, first - 3], random.randint(0, 2))
        members = tuple(
            Member(key, some(), random.random() < 0.5, frozenset(random.sample(range(len(keys)), random.randint(0, 1))))
            for key in keys
        )
        others = (Others(first - 1, some(), *random.choice([(0, None), (1, 2), (0, 1)]), random.random() < 0.7),)
        others = tuple(replace(one, least=min(one.least, 2)) for one in others[: random.randint(0, 1)])
        return Object(0, 1, 2, 3, members, others, least, most, random.random() < 0.5)
    unique = random.random() < 0.5
    values = [first - 1, first - 2, first - 4] if unique else [some() for _ in range(3)]
    kinds = tuple(Kind(*random.choice([(0, 1), (1, 1), (1, None), (0, None)])) for _ in range(random.randint(0, 2)))

    def places() -> tuple[Place, ...]:
        chosen = random.sample(values, random.randint(1, 2))
        return tuple(Place(value, random.choice([None, *range(len(kinds))])) for value in chosen)

    prefix = tuple(places() for _ in range(random.randint(0, 2)))
    return Array(4, 2, 5, prefix, places() if random.random() < 0.8 else (), kinds, least, most, unique)


def random_vocabulary(random: Random, tokens: int = 150) -> Vocabulary:
    """Every byte of the alphabet, and tokens of several, which cross the borders of lexemes."""
    spelled: list[bytes | None] = [bytes([byte]) for byte in sorted(set(ALPHABET))]
    spelled += ["é".encode()[:1], "é".encode()[1:], None, b"\xff"]
    while len(spelled) < tokens:
        parts = [
            random.choice(WORDS) if random.random() < 0.6 else bytes([random.choice(ALPHABET)])
            for _ in range(random.randint(1, 4))
        ]
        spelled.append(b"".join(parts))
    return Vocabulary(spelled, [random.randrange(len(spelled))], len(spelled) + random.randint(0, 40))
