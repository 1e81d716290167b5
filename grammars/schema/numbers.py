"""Sets of numbers as expressions over their decimal spellings: ranges digit by digit, multiples by their last digits.

Numbers are written plainly, -12.50, or, when nothing but bounds restricts them, with an exponent too (of one digit
before the point; of any number when there are no bounds). Bounds are exact in decimal: `maximum: 0.3` takes 0.3 and
0.30 and not 0.30000000000000004. Constants are written as the schema writes them.
"""

from __future__ import annotations

import json
from fractions import Fraction
from functools import lru_cache

from ...errors import GrammarTooLarge
from ..expression import EMPTY, NOTHING, Expression, both, byte_range, complement, concat, either, literal, repeat
from .multiples import multiples
from .scalars import exact_number, fraction_fits
from .scientific import scientific
from .shapes import Bound, Numbers

DIGIT = byte_range(0x30, 0x39)
DIGITS = repeat(DIGIT)
_NATURAL = either([literal(b"0"), concat([byte_range(0x31, 0x39), DIGITS])])
_SIGN = repeat(literal(b"-"), 0, 1)
_POINT = literal(b".")
_ZERO = literal(b"0")
_FRACTION = concat([_POINT, repeat(DIGIT, 1)])
_ZEROS = repeat(concat([_POINT, repeat(_ZERO, 1)]), 0, 1)  # what an integer may end in, in every spelling
_ONE_ZERO = repeat(literal(b".0"), 0, 1)  # what it may end in when we write it
_E = either([literal(b"e"), literal(b"E")])
_SMALL_EXPONENT = either(
    [concat([repeat(literal(b"+"), 0, 1), repeat(DIGIT, 1, 2)]), concat([literal(b"-"), repeat(DIGIT, 1, 3)])]
)
PLAIN = concat([_SIGN, _NATURAL, repeat(_FRACTION, 0, 1)])
_WITH_EXPONENT = concat([PLAIN, _E, _SMALL_EXPONENT])
_ANY_INTEGER = concat([_SIGN, _NATURAL, _ZEROS])
MOST_DIGITS = 400
# What is to be a multiple, or no integer, must be that for a reader too who keeps some 16 digits of it.
_EXACT = concat([_SIGN, repeat(DIGIT, 1, 15), repeat(_FRACTION, 0, 1)])
_SHORT = concat([_SIGN, repeat(DIGIT, 1, 9), repeat(concat([_POINT, repeat(DIGIT, 1, 6)]), 0, 1)])


@lru_cache(1024)
def number_text(shape: Numbers, dotted: bool = True) -> Expression:
    """The spellings of the numbers of this shape; `dotted`: 1.0 is an integer. GrammarTooLarge for steps that need too
    many states."""
    if shape.values is not None:
        return either(literal(json.dumps(value).encode()) for value in shape.values)
    if shape == Numbers():
        return either([PLAIN, _WITH_EXPONENT, _decimals(None, None, True)])
    parts: list[Expression] = []
    if shape.integer:
        parts.append(_integers(shape.low, shape.high, dotted))
    else:
        parts.append(_decimals(shape.low, shape.high, shape == Numbers(low=shape.low, high=shape.high)))
    if shape.fractional:
        parts += [complement(_ANY_INTEGER), _SHORT]
    small = _listed(shape, dotted)
    if small is not None:
        return small
    steps = [step for step in shape.steps if not (shape.integer and step == 1)]
    if steps:
        parts += [_EXACT, *(multiples(step) for step in steps)]
    if shape.not_steps:
        parts += [_SHORT, *(complement(multiples(step)) for step in shape.not_steps)]
    if shape.without:
        parts.append(complement(either(_exactly(exact_number(value)) for value in sorted(shape.without))))
    return both(parts)


def _listed(shape: Numbers, dotted: bool) -> Expression | None:
    """Multiples within narrow bounds, one by one."""
    low, high = shape.low, shape.high
    if not shape.steps or low is None or high is None or (high.value - low.value) / shape.steps[0] > 1000:
        return None
    step = shape.steps[0]
    found = []
    for count in range(int(low.value // step), int(high.value // step) + 1):
        value = count * step
        bare = shape._replace(values=None)
        if fraction_fits(value, bare):
            found.append(_integer(literal(str(value).encode()), dotted) if shape.integer else _exactly(value))
    return either(found)


def _exactly(value: Fraction) -> Expression:
    """Every plain spelling of a value, zeros at the end included."""
    whole, digits = _decimal(abs(value))
    tail = concat([_POINT, literal(digits.encode()), repeat(_ZERO)]) if digits else _ZEROS
    text = concat([literal(str(whole).encode()), tail])
    if value == 0:
        return concat([_SIGN, text])
    return concat([literal(b"-"), text]) if value < 0 else text


def _decimal(value: Fraction) -> tuple[int, str]:
    """A number of at least 0 as its whole part and its decimals, without zeros at the end."""
    whole, rest = divmod(value, 1)
    digits = ""
    while rest:
        digit, rest = divmod(rest * 10, 1)
        digits += str(digit)
        if len(digits) > MOST_DIGITS:
            raise GrammarTooLarge(f"a number with more than {MOST_DIGITS} decimals")
    if whole >= 10**MOST_DIGITS:
        raise GrammarTooLarge(f"a number of more than {MOST_DIGITS} digits")
    return int(whole), digits


def _integer(text: Expression, dotted: bool) -> Expression:
    return concat([text, _ONE_ZERO]) if dotted else text


def _integers(low: Bound | None, high: Bound | None, dotted: bool) -> Expression:
    """Integers in a range, with `.0` behind them or not."""
    if low is None and high is None:
        return _integer(concat([_SIGN, _NATURAL]), dotted)
    first = None if low is None else (low.value // 1 + 1 if low.exclusive or low.value % 1 else int(low.value))
    last = None if high is None else (-(-high.value // 1) - 1 if high.exclusive or high.value % 1 else int(high.value))
    return _integer(_signed(first if first is None else int(first), last if last is None else int(last)), dotted)


def _signed(first: int | None, last: int | None) -> Expression:
    """Whole numbers from `first` to `last`, without an end where None."""
    found: list[Expression] = []
    if last is None or last >= 0:
        found.append(naturals(max(first or 0, 0), last))
    if first is None or first < 0:
        most = None if first is None else -first
        found.append(concat([literal(b"-"), naturals(1 if last is None or last >= 0 else -last, most)]))
    return either(found)


@lru_cache(1024)
def naturals(first: int, last: int | None) -> Expression:
    """Natural numbers from `first` to `last` in decimal."""
    if last is not None and first > last:
        return NOTHING
    if last is None:
        text = str(first)
        _bounded(text)
        more = concat([byte_range(0x31, 0x39), repeat(DIGIT, len(text))])
        return either([_between(text, "9" * len(text)), more])
    _bounded(str(last))
    found: list[Expression] = []
    for length in range(len(str(first)), len(str(last)) + 1):
        smallest = 10 ** (length - 1) if length > 1 else 0
        low, high = max(first, smallest), min(last, 10**length - 1)
        if low == 10 ** (length - 1) and high == 10**length - 1 and found and length > 1:
            found.append(concat([byte_range(0x31, 0x39), repeat(DIGIT, length - 1, length - 1)]))
        else:
            found.append(_between(str(low), str(high)))
    return either(found)


def _bounded(text: str) -> None:
    if len(text) > MOST_DIGITS:
        raise GrammarTooLarge(f"a bound of more than {MOST_DIGITS} digits")


def _between(low: str, high: str) -> Expression:
    """Digit strings of this one length, in order from `low` to `high`."""
    shared = 0
    while shared < len(low) and low[shared] == high[shared]:
        shared += 1
    head = literal(low[:shared].encode())
    low, high = low[shared:], high[shared:]
    if not low:
        return head
    more = len(low) - 1
    any_tail = repeat(DIGIT, more, more)
    first, last = int(low[0]), int(high[0])
    found = []
    if low[1:].strip("0"):
        found.append(concat([_digit(first, first), _at_least(low[1:])]))
        first += 1
    if high[1:].strip("9"):
        found.append(concat([_digit(last, last), _at_most(high[1:])]))
        last -= 1
    if first <= last:
        found.append(concat([_digit(first, last), any_tail]))
    return concat([head, either(found)])


def _digit(first: int, last: int) -> Expression:
    return byte_range(0x30 + first, 0x30 + last)


def _at_least(low: str) -> Expression:
    """Digit strings of this length from `low` up."""
    found: Expression = EMPTY
    for place in range(len(low) - 1, -1, -1):
        digit, more = int(low[place]), len(low) - 1 - place
        larger = concat([_digit(digit + 1, 9), repeat(DIGIT, more, more)]) if digit < 9 else NOTHING
        found = either([concat([_digit(digit, digit), found]), larger])
    return found


def _at_most(high: str) -> Expression:
    """Digit strings of this length up to `high`."""
    found: Expression = EMPTY
    for place in range(len(high) - 1, -1, -1):
        digit, more = int(high[place]), len(high) - 1 - place
        smaller = concat([_digit(0, digit - 1), repeat(DIGIT, more, more)]) if digit > 0 else NOTHING
        found = either([concat([_digit(digit, digit), found]), smaller])
    return found


def _decimals(low: Bound | None, high: Bound | None, exponents: bool) -> Expression:
    """Numbers in a range, as plain decimals, or with `exponents` too."""
    if low is None and high is None and not exponents:
        return PLAIN
    found = []
    if high is None or high.value >= 0:
        floor = low if low is not None and low.value >= 0 else Bound(Fraction(0), False)
        found.append(_magnitudes(floor, high, exponents))
    if low is None or low.value < 0:
        ceiling = None if low is None else Bound(-low.value, low.exclusive)
        floor = Bound(Fraction(0), True) if high is None or high.value >= 0 else Bound(-high.value, high.exclusive)
        found.append(concat([literal(b"-"), _magnitudes(floor, ceiling, exponents)]))
    return either(found)


def _magnitudes(low: Bound, high: Bound | None, exponents: bool) -> Expression:
    """Numbers of at least 0 in a range, without a sign."""
    above = _above(low)
    plain = above if high is None else both([above, _below(high)])
    return either([plain, scientific(low, high, naturals, _above, _below)]) if exponents else plain


def _above(low: Bound) -> Expression:
    whole, digits = _decimal(Fraction(low.value))
    found = [concat([naturals(whole + 1, None), repeat(_FRACTION, 0, 1)])]
    same: list[Expression] = []
    if not digits:
        if low.exclusive:
            same.append(concat([_POINT, repeat(_ZERO), byte_range(0x31, 0x39), DIGITS]))
        else:
            same.append(repeat(_FRACTION, 0, 1))
    else:
        tail = concat([repeat(_ZERO), byte_range(0x31, 0x39), DIGITS]) if low.exclusive else DIGITS
        for place in range(len(digits) - 1, -1, -1):
            digit = int(digits[place])
            larger = concat([_digit(digit + 1, 9), DIGITS]) if digit < 9 else NOTHING
            tail = either([concat([_digit(digit, digit), tail]), larger])
        same.append(concat([_POINT, tail]))
    found.append(concat([literal(str(whole).encode()), either(same)]))
    return either(found)


def _below(high: Bound) -> Expression:
    whole, digits = _decimal(Fraction(high.value))
    found = [concat([naturals(0, whole - 1), repeat(_FRACTION, 0, 1)])] if whole > 0 else []
    if not digits:
        same = NOTHING if high.exclusive else _ZEROS
    else:
        tail = NOTHING if high.exclusive else repeat(_ZERO)  # after all of its digits
        for place in range(len(digits) - 1, -1, -1):
            digit = int(digits[place])
            smaller = concat([_digit(0, digit - 1), DIGITS]) if digit > 0 else NOTHING
            ended = EMPTY if place else NOTHING  # fewer digits, at least one: a smaller number
            tail = either([concat([_digit(digit, digit), tail]), smaller, ended])
        same = repeat(concat([_POINT, tail]), 0, 1)
    found.append(concat([literal(str(whole).encode()), same]))
    return either(found)
