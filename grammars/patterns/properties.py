r"""What \d, \w, \s, \p{...} and ignoring case mean: tables of Unicode, made once when they are first needed."""

from __future__ import annotations

import re
import sys
import unicodedata
from array import array
from functools import cache, lru_cache

from ...errors import GrammarError
from .characters import ANY_CHARACTER, LAST, CharacterSet, character_set, of

ASCII = character_set([(0, 127)])
ASCII_DIGITS = of("0123456789")
ASCII_WORD = character_set([(48, 57), (65, 90), (95, 95), (97, 122)])
ASCII_SPACE = of(" \t\n\r\f\v")
ECMA_SPACE = of("\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff") | character_set([(0x2000, 0x200A)])

# Planes 4 to 13 hold no characters, 15 and 16 only private ones: tables are read off the others.
_SURVEYED = ((0, 0x3FFFF), (0xE0000, 0xE0FFF))
_PRIVATE = ((0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))

_LONG_CATEGORIES = {
    "letter": "L",
    "cased_letter": "LC",
    "uppercase_letter": "Lu",
    "lowercase_letter": "Ll",
    "titlecase_letter": "Lt",
    "modifier_letter": "Lm",
    "other_letter": "Lo",
    "mark": "M",
    "combining_mark": "M",
    "nonspacing_mark": "Mn",
    "spacing_mark": "Mc",
    "enclosing_mark": "Me",
    "number": "N",
    "decimal_number": "Nd",
    "digit": "Nd",
    "letter_number": "Nl",
    "other_number": "No",
    "punctuation": "P",
    "punct": "P",
    "connector_punctuation": "Pc",
    "dash_punctuation": "Pd",
    "open_punctuation": "Ps",
    "close_punctuation": "Pe",
    "initial_punctuation": "Pi",
    "final_punctuation": "Pf",
    "other_punctuation": "Po",
    "symbol": "S",
    "math_symbol": "Sm",
    "currency_symbol": "Sc",
    "modifier_symbol": "Sk",
    "other_symbol": "So",
    "separator": "Z",
    "space_separator": "Zs",
    "line_separator": "Zl",
    "paragraph_separator": "Zp",
    "other": "C",
    "control": "Cc",
    "cntrl": "Cc",
    "format": "Cf",
    "surrogate": "Cs",
    "private_use": "Co",
    "unassigned": "Cn",
}


@cache
def _surveyed_text() -> str:
    # Four times as fast as joining characters one by one, and each worker and caller makes it once.
    codes = b"".join(array("I", range(first, last + 1)).tobytes() for first, last in _SURVEYED)
    return codes.decode(f"utf-32-{sys.byteorder[0]}e", "surrogatepass")


def _code_at(position: int) -> int:
    first_length = _SURVEYED[0][1] + 1
    return position if position < first_length else _SURVEYED[1][0] + position - first_length


@cache
def _runs(expression: str) -> CharacterSet:
    """The surveyed characters that a class of Python's own `re` takes."""
    found = []
    for match in re.finditer(f"{expression}+", _surveyed_text()):
        first, last = _code_at(match.start()), _code_at(match.end() - 1)
        found.append((first, last))
    return character_set(found)


def digits(ascii_only: bool) -> CharacterSet:
    r"""\d."""
    return ASCII_DIGITS if ascii_only else _runs(r"\d")


def word_characters(ascii_only: bool) -> CharacterSet:
    r"""\w."""
    return ASCII_WORD if ascii_only else _runs(r"\w")


def spaces(ascii_only: bool) -> CharacterSet:
    r"""\s."""
    return ASCII_SPACE if ascii_only else _runs(r"\s")


@cache
def _categories() -> dict[str, CharacterSet]:
    """Every general category, by its two letters."""
    found: dict[str, list[tuple[int, int]]] = {"Co": list(_PRIVATE)}
    category = unicodedata.category
    for low, high in _SURVEYED:
        start, current = low, category(chr(low))
        for code in range(low + 1, high + 2):
            now = category(chr(code)) if code <= high else ""
            if now != current:
                found.setdefault(current, []).append((start, code - 1))
                start, current = code, now
    tables = {name: character_set(ranges) for name, ranges in found.items()}
    named = character_set(part for name, table in tables.items() if name != "Cn" for part in table.ranges)
    return tables | {"Cn": ~named}


@lru_cache(256)
def unicode_property(name: str) -> CharacterSet:
    r"""The characters of \p{name}. Raises GrammarError for a property that is not known.

    General categories (L, Lu, Letter, gc=Lu), Any, ASCII and Assigned come from the standard library; scripts and all
    others need the `regex` package, whose tables they are.
    """
    plain = name.strip()
    for prefix in ("General_Category=", "gc=", "Is"):
        if plain.lower().startswith(prefix.lower()) and len(plain) > len(prefix):
            plain = plain[len(prefix) :]
            break
    lowered = plain.lower().replace("-", "_").replace(" ", "_")
    if lowered in ("any", "ascii", "assigned"):
        return {"any": ANY_CHARACTER, "ascii": ASCII}.get(lowered) or ~_categories()["Cn"]
    short = _LONG_CATEGORIES.get(lowered, plain)
    if short.upper() in ("LC", "L&"):
        return _categories()["Lu"] | _categories()["Ll"] | _categories()["Lt"]
    short = short[:1].upper() + short[1:].lower()
    if 1 <= len(short) <= 2:
        chosen = [part for key, table in _categories().items() if key.startswith(short) for part in table.ranges]
        if chosen:
            return character_set(chosen)
    return _from_regex_package(name)


def _from_regex_package(name: str) -> CharacterSet:
    if re.fullmatch(r"[A-Za-z0-9_ =:-]{1,100}", name) is None:
        raise GrammarError(f"no Unicode property is called {name!r}")
    try:
        import regex  # type: ignore[import-untyped]
    except ImportError:
        raise GrammarError(f"the Unicode property {name!r} needs the `regex` package: pip install regex") from None
    try:
        pattern = regex.compile(rf"\p{{{name}}}+")
    except regex.error:
        raise GrammarError(f"no Unicode property is called {name!r}") from None
    found = [(_code_at(match.start()), _code_at(match.end() - 1)) for match in pattern.finditer(_surveyed_text())]
    return character_set(found)


@cache
def _case_partners() -> dict[int, frozenset[int]]:
    """For each character with case: all that equal it when case is ignored, as Python's `re` sees it."""
    groups: dict[int, set[int]] = {}
    for code in range(0x1F000):
        lower = chr(code).lower()
        key = ord(lower[0])  # İ is the one whose lowercase is two characters: i and a dot, of which `re` takes the i
        if key != code:
            groups.setdefault(key, {key}).add(code)
    # `re` further equates lowercase letters that share an uppercase one, such as s and long s, σ and ς.
    by_upper: dict[str, list[int]] = {}
    for code in range(0x1F000):
        character = chr(code)
        if character.islower() or code in groups:
            upper = character.upper()
            by_upper.setdefault(upper, []).append(code)
    partners: dict[int, set[int]] = {code: set(group) for group in groups.values() for code in group}
    for same in by_upper.values():
        if len(same) > 1:
            union = set().union(*(partners.get(code, {code}) for code in same))
            for code in union:
                partners[code] = union
    return {code: frozenset(group) for code, group in partners.items()}


@lru_cache(512)
def ignoring_case(characters: CharacterSet, ascii_only: bool) -> CharacterSet:
    """These characters, and those that equal one of them when case is ignored."""
    if ascii_only:
        low = characters.within(97, 122)
        high = characters.within(65, 90)
        shifted = [(a - 32, b - 32) for a, b in low] + [(a + 32, b + 32) for a, b in high]
        return characters | character_set(shifted)
    if characters.ranges == ((0, LAST),):
        return characters
    found = characters
    added = [(other, other) for code, group in _case_partners().items() if code in found for other in group]
    return found | character_set(added) if added else found
