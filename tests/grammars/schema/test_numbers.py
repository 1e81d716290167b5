"""Numbers: their spellings against exact arithmetic, and, beyond bounds, what a planted mistake would change."""

from __future__ import annotations

import json
import random
from fractions import Fraction

from ramify.grammars.schema.multiples import multiples
from ramify.grammars.schema.numbers import naturals, number_text
from ramify.grammars.schema.scalars import fraction_fits, settled_numbers
from ramify.grammars.schema.shapes import Bound, Numbers
from ramify.grammars.schema.strings import accepts

STEPS = [Fraction(whole) for whole in (1, 2, 3, 5, 6, 7, 10, 11, 16, 25)]
STEPS += [Fraction(text) for text in ("0.1", "0.01", "0.5", "2.5", "0.3", "0.25", "2.25")]


def some(chance: random.Random) -> Fraction:
    return Fraction(chance.randint(-2000, 2000), chance.choice([1, 1, 2, 4, 10, 100]))


def plain(value: Fraction, zeros: int) -> str:
    whole, rest = divmod(abs(value), 1)
    digits = ""
    while rest:
        digit, rest = divmod(rest * 10, 1)
        digits += str(digit)
    digits += "0" * zeros
    return f"{'-' if value < 0 else ''}{whole}{'.' if digits else ''}{digits}"


def a_shape(chance: random.Random) -> Numbers:
    return Numbers(
        integer=chance.random() < 0.4,
        fractional=chance.random() < 0.1,
        low=Bound(some(chance), chance.random() < 0.4) if chance.random() < 0.6 else None,
        high=Bound(some(chance), chance.random() < 0.4) if chance.random() < 0.6 else None,
        steps=(chance.choice(STEPS),) if chance.random() < 0.4 else (),
        not_steps=(chance.choice(STEPS[1:3]),) if chance.random() < 0.1 else (),
        without=frozenset(chance.sample(range(-5, 6), 2)) if chance.random() < 0.2 else frozenset(),
    )


def test_plain_numbers_are_told_apart_exactly() -> None:
    chance = random.Random(1)
    told = {True: 0, False: 0}
    for _ in range(120):
        shape = a_shape(chance)
        settled = settled_numbers(shape)
        if settled is None:
            continue
        text = number_text(settled)
        for _ in range(30):
            value = some(chance)
            if shape.steps and chance.random() < 0.5:
                value = chance.randint(-100, 100) * shape.steps[0]
            for bound in (shape.low, shape.high):
                if bound is not None and chance.random() < 0.2:
                    value = bound.value + chance.choice([Fraction(0), Fraction(1, 10), Fraction(-1, 1000)])
            zeros = 0 if shape.integer else chance.choice([0, 0, 2])
            fits = fraction_fits(value, shape)
            assert accepts(text, plain(value, zeros).encode()) == fits, (shape, value)
            told[fits] += 1
    assert min(told.values()) > 400


def test_numbers_as_python_writes_them_are_told_apart_exactly() -> None:
    chance = random.Random(2)
    for _ in range(80):
        low, high = (some(chance) * Fraction(10) ** chance.randint(-8, 18) for _ in range(2))
        shape = Numbers(
            low=Bound(low, chance.random() < 0.5) if chance.random() < 0.7 else None,
            high=Bound(high, chance.random() < 0.5) if chance.random() < 0.7 else None,
        )
        settled = settled_numbers(shape)
        if settled is None:
            continue
        text = number_text(settled)
        for _ in range(30):
            value = (
                chance.choice([1.0, -1.0]) * chance.choice([1, chance.random() * 10]) * 10.0 ** chance.randint(-9, 20)
            )
            written = json.dumps(chance.choice([value, float(low), float(high)]))
            assert accepts(text, written.encode()) == fraction_fits(Fraction(written), shape), (shape, written)


def test_every_natural_of_a_range() -> None:
    for first, last in ((0, 0), (0, 9), (3, 127), (99, 101), (8, 1000)):
        text = naturals(first, last)
        assert [n for n in range(1200) if accepts(text, str(n).encode())] == list(range(first, last + 1))
    assert not accepts(naturals(0, 20), b"05")


def test_multiples_by_remainder() -> None:
    for step in (3, 7, 9, 11):
        text = multiples(Fraction(step))
        assert [n for n in range(800) if accepts(text, str(n).encode())] == list(range(0, 800, step))
    assert accepts(multiples(Fraction("0.07")), b"10.01") and not accepts(multiples(Fraction("0.07")), b"10.02")


def test_numbers_without_bounds() -> None:
    text = number_text(Numbers())
    for written in ("0", "-0", "1.50", "1e5", "1E+05", "-2.5e-300", "1e+300", "12e10"):
        assert accepts(text, written.encode())
    for written in ("01", "+1", ".5", "1.", "1e", "1e400", "--1", "NaN", "0x1", "1e99999"):
        assert not accepts(text, written.encode())
