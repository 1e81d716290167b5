"""Multiples of a number as expressions over decimals: by their last digits, or by a remainder carried along."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import gcd

from ...errors import GrammarError, GrammarTooLarge
from ..expression import EMPTY, NOTHING, Expression, both, bytes_in, concat, either, literal, repeat

MOST_STATES = 12  # remainders that are eliminated one by one, beyond those that the last digits decide
_DIGIT = bytes_in(b"0123456789")
_ZERO, _POINT, _SIGN = literal(b"0"), literal(b"."), repeat(literal(b"-"), 0, 1)
_NATURAL = either([_ZERO, concat([bytes_in(b"123456789"), repeat(_DIGIT)])])


@lru_cache(1024)
def multiples(step: Fraction) -> Expression:
    """Every plain decimal, with a sign or without, that is a multiple of `step` (above 0): 0.25 is one of 0.05.

    With step = p / 10**k: without its point, and with k decimals, the number is a multiple of p. GrammarTooLarge
    when the remainders by p are too many.
    """
    decimals, numerator = 0, step
    while numerator.denominator != 1:
        numerator *= 10
        decimals += 1
        if decimals > 30:
            raise GrammarError(f"multipleOf {float(step)!r} is not a decimal number")
    whole = int(numerator)
    # With so many decimals written, then only zeros: the digits times 10**(decimals - written) are a multiple of p.
    found = [_divisible(whole // gcd(whole, 10 ** (decimals - written)), written) for written in range(decimals + 1)]
    zeros = repeat(_ZERO)
    ways = [concat([found[0], repeat(concat([_POINT, repeat(_ZERO, 1)]), 0, 1)])]
    ways += [concat([digits, zeros]) for digits in found[1:]]
    return concat([_SIGN, either(ways)])


def _divisible(divisor: int, decimals: int) -> Expression:
    """Naturals followed by a point and that many decimals (by nothing when 0), whose digits are a multiple."""
    rest = divisor
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    parts = []
    if divisor != rest or rest == 1:
        parts.append(_by_last_digits(divisor // rest, decimals))
    if rest != 1:
        parts.append(_by_remainder(rest, decimals))
    return both(parts)


def _by_last_digits(divisor: int, decimals: int) -> Expression:
    """For a divisor of some power of 10."""
    count = next((count for count in range(5) if 10**count % divisor == 0), None)
    if count is None:
        raise GrammarTooLarge(f"multipleOf that {divisor} divides: more than 4 digits decide")
    if count <= decimals:
        ends = either(literal(f"{number:0{count}d}".encode()) for number in range(0, 10**count, divisor))
        free = decimals - count
        tail = concat([repeat(_DIGIT, free, free), ends if count else EMPTY])
        return concat([_NATURAL, _POINT, tail] if decimals else [_NATURAL, tail])
    numbers = range(0, 10**count, divisor)
    short = [literal(_pointed(f"{number:0{decimals + 1}d}", decimals)) for number in numbers]
    long = [literal(_pointed(f"{number:0{count}d}", decimals)) for number in numbers]
    return either([*short, concat([bytes_in(b"123456789"), repeat(_DIGIT), either(long)])])


def _pointed(digits: str, decimals: int) -> bytes:
    return (f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits).encode()


def _by_remainder(divisor: int, decimals: int) -> Expression:
    """For a divisor without factors of 10: the automaton of the remainders, its states eliminated one by one."""
    if divisor > MOST_STATES:
        raise GrammarTooLarge(f"multipleOf that needs {divisor} remainders carried along: more than {MOST_STATES}")
    after: list[Expression] = [EMPTY if rest == 0 else NOTHING for rest in range(divisor)]
    for _ in range(decimals):
        after = [_step(after, rest, divisor) for rest in range(divisor)]
    if decimals:
        after = [concat([_POINT, one]) for one in after]
    # after[r]: what may follow a natural part with remainder r. Solve x[r] = after[r] | digit d . x[10 r + d].
    rows = [_row(rest, divisor) for rest in range(divisor)]
    ends = after[:]
    for gone in range(divisor - 1, -1, -1):
        loop = repeat(rows[gone].pop(gone)) if gone in rows[gone] else EMPTY
        rows[gone] = {target: concat([loop, edge]) for target, edge in rows[gone].items()}
        ends[gone] = concat([loop, ends[gone]])
        for row in range(gone):
            through = rows[row].pop(gone, None)
            if through is None:
                continue
            for target, edge in rows[gone].items():
                rows[row][target] = either([rows[row].get(target, NOTHING), concat([through, edge])])
            ends[row] = either([ends[row], concat([through, ends[gone]])])
    solved: list[Expression] = []
    for rest in range(divisor):
        ways = [concat([edge, solved[target]]) for target, edge in rows[rest].items() if target < rest]
        solved.append(either([*ways, ends[rest]]))
    first = [concat([_ZERO, after[0]])]
    first += [concat([literal(str(digit).encode()), solved[digit % divisor]]) for digit in range(1, 10)]
    return either(first)


def _row(rest: int, divisor: int) -> dict[int, Expression]:
    row: dict[int, list[int]] = {}
    for digit in range(10):
        row.setdefault((rest * 10 + digit) % divisor, []).append(0x30 + digit)
    return {target: bytes_in(digits) for target, digits in row.items()}


def _step(after: list[Expression], rest: int, divisor: int) -> Expression:
    return either(concat([digits, after[target]]) for target, digits in _row(rest, divisor).items())
