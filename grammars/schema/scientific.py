"""Numbers with an exponent, as programs write what is very small or very large: 1e-05, 2.5e+16."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from ..expression import NOTHING, Expression, both, byte_range, concat, either, literal, repeat
from .shapes import Bound

LARGEST = 307  # of exponents: with one digit before the point, a number that every reader can hold
_DIGIT = byte_range(0x30, 0x39)
_E = either([literal(b"e"), literal(b"E")])
_ONE_TO_NINE = byte_range(0x31, 0x39)
_MANTISSA = concat([_ONE_TO_NINE, repeat(concat([literal(b"."), repeat(_DIGIT, 1)]), 0, 1)])
Range = Callable[[int, int], Expression]


def scientific(
    low: Bound,
    high: Bound | None,
    naturals: Range,
    above: Callable[[Bound], Expression],
    below: Callable[[Bound], Expression],
) -> Expression:
    """Numbers above 0 within bounds (`low` at least 0), written with one digit, not 0, before the point.

    `naturals`, `above` and `below` write ranges of plain numbers: of exponents, and of what stands before them.
    """
    first, last = -LARGEST, LARGEST
    found = []
    lowest = highest = None
    if low.value > 0:
        lowest = _exponent(Fraction(low.value))
        first = lowest + 1
    if high is not None:
        if high.value <= 0:
            return NOTHING
        highest = _exponent(Fraction(high.value))
        last = highest - 1
    ends: dict[int, list[Expression]] = {}
    if lowest is not None and abs(lowest) <= LARGEST:
        ends.setdefault(lowest, []).append(above(_scaled(low, lowest)))
    if high is not None and highest is not None and abs(highest) <= LARGEST:
        ends.setdefault(highest, []).append(below(_scaled(high, highest)))
    for exponent, limits in ends.items():
        if (lowest is None or exponent >= lowest) and (highest is None or exponent <= highest):
            found.append(concat([both([_MANTISSA, *limits]), _E, _exponents(exponent, exponent, naturals)]))
    found.append(concat([_MANTISSA, _E, _exponents(max(first, -LARGEST), min(last, LARGEST), naturals)]))
    return either(found)


def _scaled(bound: Bound, exponent: int) -> Bound:
    return Bound(bound.value / Fraction(10) ** exponent, bound.exclusive)


def _exponent(value: Fraction) -> int:
    """The exponent with which a number above 0 has one digit before its point."""
    guess = len(str(value.numerator)) - len(str(value.denominator))
    while Fraction(10) ** guess > value:
        guess -= 1
    while Fraction(10) ** (guess + 1) <= value:
        guess += 1
    return guess


def _exponents(first: int, last: int, naturals: Range) -> Expression:
    zero = repeat(literal(b"0"), 0, 1)
    found = []
    if last >= 0 and first <= last:
        found.append(concat([repeat(literal(b"+"), 0, 1), zero, naturals(max(first, 0), last)]))
    if first < 0 and first <= last:
        found.append(concat([literal(b"-"), zero, naturals(max(-last, 1), -first)]))
    return either(found)
