"""And and not of shapes of numbers and of strings, and whether a number fits a shape."""

from __future__ import annotations

from fractions import Fraction
from math import lcm

from .shapes import Bound, Numbers, Strings


def smaller(left: int | None, right: int | None) -> int | None:
    """The smaller of two counts, where None has no end."""
    if left is None or right is None:
        return right if left is None else left
    return min(left, right)


def both_numbers(left: Numbers, right: Numbers) -> Numbers | None:
    """The numbers in both; None when that is plainly none."""
    lows = [bound for bound in (left.low, right.low) if bound is not None]
    highs = [bound for bound in (left.high, right.high) if bound is not None]
    values = left.values
    if right.values is not None:
        values = right.values if values is None else tuple(value for value in values if value in right.values)
    both = Numbers(
        left.integer or right.integer,
        left.fractional or right.fractional,
        max(lows, default=None),
        min(highs, key=lambda bound: (bound.value, not bound.exclusive), default=None),
        tuple(dict.fromkeys(left.steps + right.steps)),
        tuple(dict.fromkeys(left.not_steps + right.not_steps)),
        values,
        left.without | right.without,
    )
    return settled_numbers(both)


def settled_numbers(shape: Numbers) -> Numbers | None:
    """The same numbers with `values` filtered by all else; None when there are none."""
    if shape.values is not None:
        kept = tuple(value for value in shape.values if number_fits(value, shape))
        return Numbers(values=kept) if kept else None
    if (shape.integer and shape.fractional) or set(shape.steps) & set(shape.not_steps):
        return None
    low, high = shape.low, shape.high
    if low is not None and high is not None and _apart(low, high):
        return None
    if len(shape.steps) > 1:
        shape = shape._replace(steps=(_common_step(shape.steps),))
    if shape.steps and shape.integer:
        shape = shape._replace(steps=(_common_step((*shape.steps, Fraction(1))),))
    return shape


def _apart(low: Bound, high: Bound) -> bool:
    return low.value > high.value or (low.value == high.value and (low.exclusive or high.exclusive))


def _common_step(steps: tuple[Fraction, ...]) -> Fraction:
    below = lcm(*(step.denominator for step in steps))
    return Fraction(lcm(*(int(step * below) for step in steps)), below)


def number_fits(value: int | float, shape: Numbers) -> bool:
    """Whether a number satisfies everything else that `shape` says."""
    return fraction_fits(exact_number(value), shape)


def fraction_fits(exact: Fraction, shape: Numbers) -> bool:
    """The same, of a number as a fraction."""
    low, high = shape.low, shape.high
    return not (
        (shape.integer and exact.denominator != 1)
        or (shape.fractional and exact.denominator == 1)
        or (low is not None and (exact < low.value or (low.exclusive and exact == low.value)))
        or (high is not None and (exact > high.value or (high.exclusive and exact == high.value)))
        or any((exact / step).denominator != 1 for step in shape.steps)
        or any((exact / step).denominator == 1 for step in shape.not_steps)
        or any(exact == exact_number(value) for value in shape.without)
    )


def exact_number(value: int | float) -> Fraction:
    """The number as it is written in decimal: 0.1 is a tenth."""
    return Fraction(value) if isinstance(value, int) else Fraction(repr(value))


def not_numbers(shape: Numbers) -> list[Numbers]:
    """All other numbers, as a union."""
    found: list[Numbers] = []
    if shape.values is not None:
        found.append(Numbers(without=frozenset(shape.values)))
    if shape.integer:
        found.append(Numbers(fractional=True))
    if shape.fractional:
        found.append(Numbers(integer=True))
    if shape.low is not None:
        found.append(Numbers(high=Bound(shape.low.value, not shape.low.exclusive)))
    if shape.high is not None:
        found.append(Numbers(low=Bound(shape.high.value, not shape.high.exclusive)))
    found += [Numbers(not_steps=(step,)) for step in shape.steps]
    found += [Numbers(steps=(step,)) for step in shape.not_steps]
    if shape.without:
        found.append(Numbers(values=tuple(sorted(shape.without))))
    return found


def both_strings(left: Strings, right: Strings) -> Strings | None:
    """The strings in both; None when that is plainly none."""
    values = left.values
    if right.values is not None:
        allowed = set(right.values)
        values = right.values if values is None else tuple(value for value in values if value in allowed)
    return settled_strings(
        Strings(
            values,
            left.without | right.without,
            tuple(dict.fromkeys(left.inside + right.inside)),
            tuple(dict.fromkeys(left.outside + right.outside)),
            max(left.least, right.least),
            smaller(left.most, right.most),
        )
    )


def settled_strings(shape: Strings) -> Strings | None:
    """The same strings with `values` filtered by length and exclusions; None when there are none."""
    least, most = shape.least, shape.most
    if most is not None and least > most:
        return None
    if set(shape.inside) & set(shape.outside):
        return None
    if shape.values is None:
        return shape
    kept = tuple(
        value
        for value in shape.values
        if value not in shape.without and least <= len(value) and (most is None or len(value) <= most)
    )
    return shape._replace(values=kept, without=frozenset(), least=0, most=None) if kept else None


def not_strings(shape: Strings) -> list[Strings]:
    """All other strings, as a union."""
    found: list[Strings] = []
    if shape.values is not None:
        found.append(Strings(without=frozenset(shape.values)))
    if shape.without:
        found.append(Strings(values=tuple(sorted(shape.without))))
    found += [Strings(outside=(atom,)) for atom in shape.inside]
    found += [Strings(inside=(atom,)) for atom in shape.outside]
    if shape.least:
        found.append(Strings(most=shape.least - 1))
    if shape.most is not None:
        found.append(Strings(least=shape.most + 1))
    return found
