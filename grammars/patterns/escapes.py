"""Reads the escapes and the character classes of a regular expression, one dialect's differences at a time."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from ...errors import GrammarError
from . import properties
from .characters import LAST, NO_CHARACTER, CharacterSet, character_set, one

_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11}
_HEX = frozenset("0123456789abcdefABCDEF")
_OCTAL = frozenset("01234567")


@dataclass(frozen=True, slots=True)
class Reader:
    """A pattern and how to read it. Its methods take an offset and return what stands there and where it ends."""

    pattern: str
    ecma: bool

    def error(self, message: str, offset: int) -> GrammarError:
        """The error to raise for what stands at `offset`."""
        return GrammarError(f"in the regular expression {_shown(self.pattern)}: {message}", f"offset {offset}")

    def ascii_classes(self, flags: int) -> bool:
        r"""Whether \d and \w mean ASCII only."""
        return self.ecma or bool(flags & re.ASCII)

    def escape(self, offset: int, flags: int, *, in_class: bool) -> tuple[CharacterSet, int, bool]:
        r"""The escape whose backslash is at `offset`: its characters, where it ends, whether it is one character.

        Anchors and references are not for this method.
        """
        pattern = self.pattern
        if offset + 1 >= len(pattern):
            raise self.error("a backslash at the end escapes nothing", offset)
        letter = pattern[offset + 1]
        end = offset + 2
        if letter in "dDwWsS":
            return self._category(letter, flags), end, False
        if letter in "pP":
            return (*self._property(letter, end, offset), False)
        code: int
        if letter in _CONTROLS:
            code = _CONTROLS[letter]
        elif letter == "b" and in_class:
            code = 8
        elif letter == "a" and not self.ecma:
            code = 7
        elif letter == "x":
            code, end = self._hex(end, 2, offset)
        elif letter == "u":
            code, end = self._unicode(end, offset)
        elif letter == "U" and not self.ecma:
            code, end = self._hex(end, 8, offset)
            if code > LAST:
                raise self.error(f"there is no character {pattern[offset:end]}", offset)
        elif letter == "N" and not self.ecma:
            code, end = self._named(end, offset)
        elif letter == "c" and self.ecma and end < len(pattern) and pattern[end].isascii() and pattern[end].isalpha():
            code, end = ord(pattern[end]) % 32, end + 1
        elif letter in "01234567" and (letter == "0" or in_class or self.is_octal(offset)):
            code, end = self._octal(offset)
        elif letter.isascii() and letter.isalnum():
            raise self.error(f"\\{letter} means nothing here; to match the character itself, write {letter}", offset)
        else:
            code = ord(letter)
        return one(code), end, True

    def character_class(self, offset: int, flags: int) -> tuple[CharacterSet, int]:
        """The class whose `[` is at `offset`: its characters, and where it ends."""
        pattern = self.pattern
        at = offset + 1
        negated = pattern.startswith("^", at)
        at += negated
        first = at
        ranges: list[tuple[int, int]] = []
        while True:
            if at >= len(pattern):
                raise self.error("this [ is never closed", offset)
            if pattern[at] == "]" and (at > first or self.ecma):
                break
            start = at
            low, at, single = self._member(at, flags)
            if pattern.startswith("-", at) and at + 1 < len(pattern) and pattern[at + 1] != "]":
                high, after, high_single = self._member(at + 1, flags)
                if single and high_single:
                    a, b = low.ranges[0][0], high.ranges[0][0]
                    if a > b:
                        raise self.error(f"the range {pattern[start:after]} runs backwards", start)
                    ranges.append((a, b))
                    at = after
                    continue
                if not self.ecma:
                    raise self.error(f"{pattern[start:after]} is no range: a class cannot bound one", start)
            ranges += low.ranges
        found = character_set(ranges)
        if flags & re.IGNORECASE:
            found = properties.ignoring_case(found, bool(flags & re.ASCII))
        return (~found if negated else found), at + 1

    def _member(self, offset: int, flags: int) -> tuple[CharacterSet, int, bool]:
        if self.pattern[offset] == "\\":
            return self.escape(offset, flags, in_class=True)
        return one(ord(self.pattern[offset])), offset + 1, True

    def _category(self, letter: str, flags: int) -> CharacterSet:
        ascii_only = self.ascii_classes(flags)
        kind = letter.lower()
        if kind == "d":
            found = properties.digits(ascii_only)
        elif kind == "w":
            found = properties.word_characters(ascii_only)
        else:
            found = properties.ECMA_SPACE if self.ecma else properties.spaces(ascii_only)
        return ~found if letter.isupper() else found

    def _property(self, letter: str, at: int, offset: int) -> tuple[CharacterSet, int]:
        pattern = self.pattern
        if pattern.startswith("{", at):
            close = pattern.find("}", at)
            if close < 0:
                raise self.error(f"\\{letter}{{ is never closed", offset)
            name, end = pattern[at + 1 : close], close + 1
        else:
            name, end = pattern[at : at + 1], at + 1
        negated = letter == "P"
        if name.startswith("^"):
            name, negated = name[1:], not negated
        try:
            found = properties.unicode_property(name) if name else NO_CHARACTER
        except GrammarError as error:
            raise self.error(str(error), offset) from None
        if not name:
            raise self.error(f"\\{letter} needs the name of a property, as in \\{letter}{{Lu}}", offset)
        return (~found if negated else found), end

    def _hex(self, at: int, count: int, offset: int) -> tuple[int, int]:
        digits = self.pattern[at : at + count]
        if len(digits) < count or not _HEX.issuperset(digits):
            raise self.error(f"{self.pattern[offset:at]} needs {count} hexadecimal digits", offset)
        return int(digits, 16), at + count

    def _unicode(self, at: int, offset: int) -> tuple[int, int]:
        pattern = self.pattern
        if pattern.startswith("{", at):
            close = pattern.find("}", at)
            digits = pattern[at + 1 : close] if close > 0 else ""
            if not 0 < len(digits) <= 8 or not _HEX.issuperset(digits) or int(digits, 16) > LAST:
                raise self.error("\\u{...} needs the hexadecimal number of a character", offset)
            return int(digits, 16), close + 1
        code, end = self._hex(at, 4, offset)
        if self.ecma and 0xD800 <= code <= 0xDBFF and pattern.startswith("\\u", end):
            digits = pattern[end + 2 : end + 6]
            if len(digits) == 4 and _HEX.issuperset(digits) and 0xDC00 <= int(digits, 16) <= 0xDFFF:
                return 0x10000 + ((code - 0xD800) << 10) + int(digits, 16) - 0xDC00, end + 6
        return code, end

    def _named(self, at: int, offset: int) -> tuple[int, int]:
        close = self.pattern.find("}", at)
        name = self.pattern[at + 1 : close] if self.pattern.startswith("{", at) and close > 0 else ""
        try:
            return ord(unicodedata.lookup(name)), close + 1
        except (KeyError, TypeError):
            raise self.error(f"\\N needs the name of a character, and {name!r} is none", offset) from None

    def is_octal(self, offset: int) -> bool:
        """Whether three octal digits follow the backslash at `offset`: then they are no reference."""
        digits = self.pattern[offset + 1 : offset + 4]
        return len(digits) == 3 and _OCTAL.issuperset(digits)

    def _octal(self, offset: int) -> tuple[int, int]:
        end = offset + 1
        while end < min(offset + 4, len(self.pattern)) and self.pattern[end] in _OCTAL:
            end += 1
        code = int(self.pattern[offset + 1 : end], 8)
        if code > 0o377:
            raise self.error(f"the octal escape {self.pattern[offset:end]} is above \\377", offset)
        return code, end


def _shown(pattern: str) -> str:
    return repr(pattern) if len(pattern) <= 100 else f"{pattern[:80]!r}... ({len(pattern):,} characters)"
