"""When two JSON scalars are the same value, and every way in which a value can be spelled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache

from ..expression import EMPTY, Expression, bytes_in, concat, either, literal, repeat

_NUMBER = re.compile(rb"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,9}))?")
_SHORT = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_DIGITS = bytes_in(b"0123456789")
_ZERO = literal(b"0")
SHIFTS = 20  # exponents are followed exactly while they move the point by no more than this


def value_of(spelling: bytes) -> bytes:
    """A name for the value that `spelling` spells: equal for equal values (1, 1.0 and 10e-1; "a" and "\\u0061").

    What is no JSON scalar names itself.
    """
    spelling = spelling.strip(b" \t\n\r")
    number = _NUMBER.fullmatch(spelling)
    if number:
        sign, digits, scale = _decimal(number)
        return b"0" if not digits else sign + digits + b"e" + str(scale).encode()
    if spelling[:1] == b'"':
        try:
            text = json.loads(spelling.decode("utf-8", "surrogatepass"), strict=False)
        except ValueError:
            return spelling
        return b'"' + str(text).encode("utf-16-le", "surrogatepass")
    return spelling


def _decimal(number: re.Match[bytes]) -> tuple[bytes, bytes, int]:
    """Sign, digits without zeros at either end, and the power of ten that the last of them stands for."""
    sign, whole, part, exponent = number.groups()
    part = part or b""
    digits = whole + part
    scale = int(exponent or 0) - len(part)
    stripped = digits.rstrip(b"0")
    return sign, stripped.lstrip(b"0"), scale + len(digits) - len(stripped)


@lru_cache(4096)
def spellings(value: bytes) -> Expression:
    """Every spelling of a value that `value_of` named, and blanks around none of them.

    Of numbers with an exponent, some more than that: those whose digits have over SHIFTS zeros in a row beside this
    value's digits, whatever the exponent. So what is kept out of a set of different values is never too little.
    """
    if value[:1] == b'"' and len(value) % 2 == 1:
        text = value[1:].decode("utf-16-le", "surrogatepass")
        quote = literal(b'"')
        return concat([quote, *(_character(character) for character in text), quote])
    number = re.fullmatch(rb"(-?)(\d+)e(-?\d+)", value)
    if number:
        return either(_number_spellings(number[1], number[2], int(number[3])))
    if value == b"0":
        fraction = either([EMPTY, concat([literal(b"."), repeat(_ZERO, 1, None)])])
        exponent = concat([bytes_in(b"eE"), either([EMPTY, bytes_in(b"+-")]), repeat(_DIGITS, 1, None)])
        return concat([either([EMPTY, literal(b"-")]), _ZERO, fraction, either([EMPTY, exponent])])
    return literal(value)


def _character(character: str) -> Expression:
    """One character in a JSON string: itself, its short escape, or its number."""
    code = ord(character)
    ways = []
    if code >= 0x20 and character not in '"\\' and not 0xD800 <= code < 0xE000:
        ways.append(literal(character.encode()))
    if character in _SHORT:
        ways.append(literal(b"\\" + _SHORT[character].encode()))
    units = character.encode("utf-16-be", "surrogatepass")
    ways.append(concat(_unit(units[i : i + 2].hex()) for i in range(0, len(units), 2)))
    return either(ways)


def _unit(digits: str) -> Expression:
    return concat([literal(b"\\u"), *(bytes_in({ord(digit), ord(digit.upper())}) for digit in digits)])


def _number_spellings(sign: bytes, digits: bytes, scale: int) -> Iterator[Expression]:
    zeros = repeat(_ZERO, 0, None)
    plain = _shifted(digits, scale) if abs(scale) < 1000 else None
    if plain is not None:
        yield concat([literal(sign), plain])
    mark = bytes_in(b"eE")
    for power in range(scale - SHIFTS, scale + SHIFTS + len(digits) + 1):
        signs = either([EMPTY, literal(b"+")]) if power >= 0 else literal(b"-")
        signs = either([signs, literal(b"-")]) if power == 0 else signs
        mantissa = _shifted(digits, scale - power)
        yield concat([literal(sign), mantissa, mark, signs, zeros, literal(str(abs(power)).encode())])
    many = repeat(_ZERO, SHIFTS, None)
    fraction = either([EMPTY, concat([literal(b"."), zeros])])
    small = concat([literal(b"0."), many, literal(digits), zeros])
    large = concat([literal(digits), many, fraction])
    power_text = concat([mark, either([EMPTY, bytes_in(b"+-")]), repeat(_DIGITS, 1, None)])
    yield concat([literal(sign), either([small, large]), power_text])


def _shifted(digits: bytes, scale: int) -> Expression:
    """digits x 10^scale without an exponent, with any number of zeros after the point."""
    zeros = repeat(_ZERO, 0, None)
    if scale >= 0:
        fraction = either([EMPTY, concat([literal(b"."), _ZERO, zeros])])
        return concat([literal(digits + b"0" * scale), fraction])
    whole, part = digits[:scale], digits[scale:]
    part = part.rjust(-scale, b"0")
    return concat([literal(whole or b"0"), literal(b"."), literal(part), zeros])
