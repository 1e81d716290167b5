"""Where the dialects differ, what is refused and where, and how characters are written."""

from __future__ import annotations

import json
import random
import re

import pytest
from ramify.errors import GrammarError, GrammarTooLarge
from ramify.grammars.expression import NOTHING
from ramify.grammars.patterns import lower, parse, searched, universe, words
from ramify.grammars.patterns.characters import CharacterSet, character_set
from ramify.grammars.patterns.encoding import Encoding, characters
from ramify.grammars.patterns.parser import Dialect

from ..derivatives import matches


def found(pattern: str, text: str, dialect: Dialect = "ecma") -> bool:
    return matches(lower(searched(parse(pattern, dialect))), text.encode())


def test_ecmascript() -> None:
    assert not found(r"^\d$", "٣") and found(r"^\d$", "٣", "python")
    assert not found(r"^\w$", "é") and found(r"^\w$", "é", "python")
    assert found(r"^\s$", "\ufeff") and not found(r"^\s$", "\ufeff", "python")
    assert not found("a$", "a\n") and found("a$", "a\n", "python")
    assert found("^[^]$", "x") and not found("[]", "x")
    assert found(r"^\cA$", "\x01")
    assert found(r"^\u{1F600}$", "😀") and found(r"^\ud83d\ude00$", "😀") and found("^[\\ud83d\\ude00]$", "😀")
    assert not found("^.$", "\u2028") and found("^.$", "\u2028", "python")
    assert found("^a{,2}$", "a{,2}") and found("^a{,2}$", "aa", "python")
    assert found(r"^[\d-x]+$", "-1x")
    assert found(r"^(?<y>a)\/$", "a/")
    assert found(r"^[\w-]+$", "a-b")


@pytest.mark.parametrize(
    ("pattern", "offset", "says"),
    [
        (r"(a)\1", 3, "back-reference"),
        (r"(?P<x>a)(?P=x)", 8, "back-reference"),
        (r"\k<x>", 0, "back-reference"),
        (r"a(?(1)b|c)", 1, "conditional"),
        (r"(?R)", 0, "recursive"),
        (r"a**", 2, "nothing to repeat"),
        (r"*", 0, "nothing to repeat"),
        (r"(?:a", 0, "never closed"),
        (r"ab)", 2, "closes nothing"),
        (r"[a", 0, "never closed"),
        (r"[z-a]", 1, "backwards"),
        (r"a{3,2}", 1, "more than it allows"),
        (r"a{99999999999}", 1, "count"),
        (r"\q", 0, "means nothing"),
        ("a\\", 1, "escapes nothing"),
        (r"\p{Klingon}", 0, "no Unicode property"),
        (r"\x4", 0, "hexadecimal"),
        (r"(?>a|ab)c", 0, "atomic"),
        (r"(?:ab)*+", 6, "atomic"),
        (r"(?z)a", 0, "not known"),
    ],
)
def test_what_is_refused_says_where(pattern: str, offset: int, says: str) -> None:
    with pytest.raises(GrammarError, match=says) as refusal:
        parse(pattern)
    assert refusal.value.path == f"offset {offset}"
    assert not isinstance(refusal.value, GrammarTooLarge)


def test_unlike_re_nothing_is_silently_dropped() -> None:
    with pytest.raises(GrammarError, match="LOCALE"):
        parse("a", flags=re.LOCALE)
    with pytest.raises(GrammarError, match="not bytes"):
        parse(b"a")  # type: ignore[arg-type]


ENCODINGS: tuple[Encoding, ...] = ("utf8", "json", "written")


def spellings(code: int) -> dict[str, list[bytes]]:
    character = chr(code)
    raw = character.encode()
    dumped = json.dumps(character)[1:-1].encode()
    escaped = b"".join(b"\\u%04x" % unit for unit in _units(character))
    printable = 32 <= code <= 126 and character not in '"\\'
    json_only = [dumped, escaped, escaped.upper().replace(b"\\U", b"\\u")]
    inside = [] if code < 32 or character in '"\\' else [raw]
    return {"utf8": [raw], "json": inside + json_only, "written": [raw] if printable else inside + json_only}


def _units(character: str) -> list[int]:
    data = character.encode("utf-16-be")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def test_every_character_in_every_spelling_and_no_other() -> None:
    chance = random.Random(7)
    everything = {encoding: universe(encoding) for encoding in ENCODINGS}
    borders = [0, 31, 32, 34, 47, 92, 126, 127, 128, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]
    for code in [*borders, *chance.sample(range(0xD800), 50), *chance.sample(range(0xE000, 0x110000), 50)]:
        inside = character_set([(code, code), (code + 7, code + 3000)])
        outside = ~inside
        for encoding in ENCODINGS:
            for spelling in spellings(code)[encoding]:
                assert matches(characters(inside, encoding), spelling), (code, encoding, spelling)
                assert not matches(characters(outside, encoding), spelling), (code, encoding, spelling)
                assert matches(everything[encoding], spelling * 2)
    assert not matches(everything["written"], b"\\u0041") and matches(everything["json"], b"\\u0041")


def test_what_is_no_character_is_in_no_set() -> None:
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
        assert not matches(universe("utf8"), bad) and not matches(universe("json"), bad)
    for bad in (b"\\ud800", b"\\ud800\\u0041", b"\\x41", b"\n", b'"', b"\\"):
        assert not matches(universe("json"), bad)
    assert characters(CharacterSet(((0xD800, 0xDFFF),)), "json") == NOTHING
    assert lower(parse(r"\ud800", "python")) == NOTHING


def test_words() -> None:
    chance = random.Random(3)
    chosen = sorted({"".join(chance.choices("abé\n", k=chance.randint(0, 6))) for _ in range(300)})
    expression, inside = words(chosen), words(chosen, "json")
    for word in chosen:
        assert matches(expression, word.encode()) and matches(inside, json.dumps(word)[1:-1].encode())
        assert matches(expression, word.encode() + b"a") == (word + "a" in chosen)
    assert words([]) == NOTHING
