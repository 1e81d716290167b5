r"""Characters as bytes: raw UTF-8, or as they may stand in a JSON string, where each has several spellings.

é   utf8  C3 A9
    json  C3 A9 | \u00e9 (either case of the digits)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from ..expression import NOTHING, Expression, bytes_in, concat, either, literal, repeat
from .characters import ANY_CHARACTER, CharacterSet, Range, character_set, of

Encoding = Literal["utf8", "json", "written"]  # "written": JSON without needless escapes

_SURROGATES = character_set([(0xD800, 0xDFFF)])  # halves of characters: no text that can be written has them
_RAW_IN_JSON = ~(character_set([(0, 31)]) | of('"\\'))
_NEVER_ESCAPED = character_set([(32, 126)]) & _RAW_IN_JSON  # in the encoding "written"
_SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_UNICODE_ESCAPE = literal(b"\\u")


@lru_cache(4096)
def characters(allowed: CharacterSet, encoding: Encoding) -> Expression:
    """One character out of the set; lone surrogates among them count for nothing."""
    allowed = allowed - _SURROGATES
    if encoding == "utf8":
        return _utf8(allowed)
    return _json(allowed, allowed if encoding == "json" else allowed - _NEVER_ESCAPED)


@lru_cache(3)
def universe(encoding: Encoding) -> Expression:
    """Every text, the empty one too: all sequences of characters in this encoding."""
    return repeat(characters(ANY_CHARACTER, encoding))


def _utf8(allowed: CharacterSet) -> Expression:
    return either(
        [
            _ascii(allowed),
            _digits(allowed.within(0x80, 0x7FF), 0, (0x7FF >> 6) + 1, 0xC0, 1),
            _digits(allowed.within(0x800, 0xFFFF), 0, (0xFFFF >> 12) + 1, 0xE0, 2),
            _digits(allowed.within(0x10000, 0x10FFFF), 0, (0x10FFFF >> 18) + 1, 0xF0, 3),
        ]
    )


def _ascii(allowed: CharacterSet) -> Expression:
    return bytes_in(code for first, last in allowed.within(0, 127) for code in range(first, last + 1))


@lru_cache(16384)
def _digits(ranges: tuple[Range, ...], start: int, count: int, offset: int, more: int) -> Expression:
    """Numbers in `ranges` written in base 64: one of `count` first digits from `start`, as bytes from `offset`, and
    `more` further digits as bytes 80 to BF."""
    if not ranges:
        return NOTHING
    if more == 0:
        return bytes_in(offset + value - start for a, b in ranges for value in range(a, b + 1))
    grouped: dict[tuple[Range, ...], list[int]] = {}
    for digit, rest in _split(ranges, 64**more):
        grouped.setdefault(rest, []).append(offset + digit - start)
    return either(concat([bytes_in(first), _digits(rest, 0, 64, 0x80, more - 1)]) for rest, first in grouped.items())


def _split(ranges: tuple[Range, ...], unit: int) -> list[tuple[int, tuple[Range, ...]]]:
    """The ranges by their values' quotient by `unit`: (quotient, the ranges of the remainders)."""
    found: dict[int, list[Range]] = {}
    for first, last in ranges:
        for digit in range(first // unit, last // unit + 1):
            low = max(first - digit * unit, 0)
            high = min(last - digit * unit, unit - 1)
            found.setdefault(digit, []).append((low, high))
    return [(digit, tuple(parts)) for digit, parts in found.items()]


def _json(allowed: CharacterSet, escaped: CharacterSet) -> Expression:
    short = [escape for raw, escape in _SHORT_ESCAPES.items() if ord(raw) in escaped]
    return either(
        [
            _utf8(allowed & _RAW_IN_JSON),
            concat([literal(b"\\"), bytes_in(ord(escape) for escape in short)]),
            concat([_UNICODE_ESCAPE, _hexadecimal(escaped.within(0, 0xFFFF), 4)]),
            *_surrogate_pairs(escaped.within(0x10000, 0x10FFFF)),
        ]
    )


@lru_cache(16384)
def _hexadecimal(ranges: tuple[Range, ...], count: int) -> Expression:
    """Numbers in `ranges` as `count` hexadecimal digits."""
    if not ranges:
        return NOTHING
    grouped: dict[tuple[Range, ...], list[int]] = {}
    if count == 1:
        return _hex_digit([value for a, b in ranges for value in range(a, b + 1)])
    for digit, rest in _split(ranges, 16 ** (count - 1)):
        grouped.setdefault(rest, []).append(digit)
    return either(concat([_hex_digit(first), _hexadecimal(rest, count - 1)]) for rest, first in grouped.items())


def _hex_digit(values: list[int]) -> Expression:
    return bytes_in(ord(spelling) for value in values for spelling in {f"{value:x}", f"{value:X}"})


@lru_cache(256)  # what is left of them by one class of characters or another is mostly all
def _surrogate_pairs(ranges: tuple[Range, ...]) -> list[Expression]:
    """Characters beyond 16 bits as two escapes."""
    grouped: dict[tuple[Range, ...], list[Range]] = {}
    for high, rest in _split(tuple((a - 0x10000, b - 0x10000) for a, b in ranges), 0x400):
        grouped.setdefault(rest, []).append((0xD800 + high, 0xD800 + high))
    return [
        concat(
            [
                _UNICODE_ESCAPE,
                _hexadecimal(character_set(high).ranges, 4),
                _UNICODE_ESCAPE,
                _hexadecimal(tuple((0xDC00 + a, 0xDC00 + b) for a, b in rest), 4),
            ]
        )
        for rest, high in grouped.items()
    ]
