"""Regular expressions mean what Python's `re` means by them: whole matches, on texts near the language."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import sys
import unicodedata

import interegular
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ramify.grammars import regex
from ramify.grammars.patterns import lower, parse, properties, searched
from ramify.grammars.patterns.characters import of, one

from ..bytewise import walk
from ..derivatives import matches

PATTERNS = [
    r"abc",
    r"a|bc|[x-z]+",
    r"(in|int|integer)",
    r"(a|b)*abb",
    r"0(\.\d+)?",
    r"\d{2,3}\w",
    r"(?i)straße|ſtop|K",
    r"(?ai)[a-k]+",
    r"^(?=.*\d)(?!.*--$)[a-z\d-]{3,8}$",
    r"(foo|foobar)baz",
    r"\bfoo\b",
    r".*\bfoo\b.*",
    r"\B.\B",
    r"a$\n?",
    r"(?m)a$\n^b",
    r"(?s).|a.",
    r"(?<=a)b|a(?<=a)b",
    r"(?!ab)\w+(?<!yz)",
    r"(?=.*\bfoo\b).*",
    r"(?!.*(\bfoo|bar$)).*",
    r"a??b*?c+?",
    r"((((a))))*",
    r"(a{1,3}){2,4}",
    r"(a{2}){2,3}",
    r"(?:^|,)a(?:,|$)",
    r"(?=(?<=a)b)b",
    r"[^a]|[^\w\s]|[\]\-^]",
    r"\u00e9\x41\N{BULLET}|\t|\a|\101",
    r"(?P<year>\d{4})-(?:0[1-9]|1[0-2])",
    r"(?x) a b # comment",
    r"(?i:a)b(?-i:c)",
    r"a{,2}b|c{|d{,}|e{1,}",
    r"\Aab\Z",
    r"a*+b|c?+c|[ab]{1,2}+d|(?>xy*)z",
    r"(?#comment)a",
    r"[a-c&&b]|[[a]",
    r"\.\*\\",
    r"|a",
    r"(?:a|(?:b|(?:c|d)*)+)?",
]
TEXTS = [
    "", "a", "b", "abc", "bc", "xyzx", "12a", "1234", "123é", "STRASSE", "straße", "ſTOP", "STOP", "\u212a", "k",
    "ab1", "ab-", "ab1--", "ab1--c", "foobaz", "foobarbaz", "foo", "a foo b", "foob", "xfoo", "a\n", "a\n\n", "ab",
    "a\nb", "\n", "é", "éA•", "\t", "\a", "A", "aab", "abyz", "cyz", "a bar", "bar a", "aaaa", "a" * 6, "a" * 12,
    "a" * 13, ",a", ",a,", "2024-13", "2024-12", "aB", "Abc", "AbC", "c{", "d", "e", "]", "-", "^", "!", " ", "0.",
    "0.5", "0", "int", "integer", "in", "inte", "abb", "aabb", "cc", "c", "abd", "xyyz", "xz", ".*\\", "ABK", "[]", "&",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_whole_matches(pattern: str) -> None:
    with pytest.warns() if "[[" in pattern or "&&" in pattern else _no_warning():
        compiled = re.compile(pattern)
    tree = parse(pattern)
    utf8, written, search = lower(tree), lower(tree, "json"), lower(searched(tree))
    for text in TEXTS + [text + tail for text in TEXTS for tail in ("a", "\n")]:
        expected = compiled.fullmatch(text) is not None
        assert matches(utf8, text.encode()) == expected, text
        for ascii_only in (True, False):
            assert matches(written, json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode()) == expected, text
        assert matches(search, text.encode()) == (compiled.search(text) is not None), text


def test_what_masks_let_through_matches() -> None:
    chance, done = random.Random(8), 0
    quiet = [one for one in PATTERNS if "&&" not in one and one != r"(?=(?<=a)b)b"]  # no warning, and not empty
    for pattern in quiet + LOOPS:
        compiled = re.compile(pattern)
        for _ in range(3):
            text = walk(regex(pattern), chance, 60)
            if text is not None:
                assert compiled.fullmatch(text.decode()), (pattern, text)
                done += 1
    assert done > 60


LOOPS = [
    r"((?!ab)[abc])*",
    r"(?:[abc](?!ab))*",
    r"((?!ab)[abc]){2,4}c?",
    r"((?!ab)[abc])*abc",
    r"(?:^|,)a(?:,b(?=,|$))*",
    r"(?:\ba|b|,)*",
    r"(a(?<!aa)|b)*",
    r"((?<=b)a|b)*",
    r"(?:a(?=b)|b(?!b)|c)+",
    r"(\b[abc]+\b,?)*",
    r"((?!a$).)*",
    r"(?:a*(?!c))*b",
    r"(?:(?:a|(?=b))*b)*",
    r"a(?=bc).(?<=ab)c",
    r"(?:a(?!b{2,3}c)|b|c)*",
    r"(?<!a)(?:b(?<=bb)|b(?<!bb))*",
    r"(a|b)*?(?!b)(?<=a)(c|(?<!ac)a)*",
    r"((?!(a|b)c)[abc])*(?<!b)",
    r"((?!bc)[abc]){1,4}(?<!ca)$",
    r"(?:a++b)*",
]


@pytest.mark.parametrize("pattern", LOOPS)
def test_looks_within_repetitions_on_every_short_text(pattern: str) -> None:
    compiled, tree = re.compile(pattern), parse(pattern)
    whole, search = lower(tree), lower(searched(tree))
    for length in range(6):
        for letters in itertools.product("abc,", repeat=length):
            text = "".join(letters)
            assert matches(whole, text.encode()) == (compiled.fullmatch(text) is not None), text
            if length < 5:
                assert matches(search, text.encode()) == (compiled.search(text) is not None), text


def test_a_forgotten_look_would_be_seen() -> None:
    wrong = lower(parse(r"((?!ab)[abc])*".replace("(?!ab)", "")))
    assert matches(wrong, b"ab") and re.fullmatch(LOOPS[0], "ab") is None


atoms = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", "(?:)"])
random_patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}"])).map(
            "(?:{0[0]}){0[1]}".format
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(random_patterns)
def test_random_patterns_against_re_and_interegular(pattern: str) -> None:
    automaton = interegular.parse_pattern(pattern).to_fsm()
    expression, compiled = lower(parse(pattern)), re.compile(pattern)
    for length in range(5):
        for letters in itertools.product("abc", repeat=length):
            text = "".join(letters)
            found = matches(expression, text.encode())
            assert found == automaton.accepts(text) == (compiled.fullmatch(text) is not None), text


@settings(max_examples=100)
@given(st.sampled_from([p for p in PATTERNS if "(?" not in p and r"\b" not in p and r"\B" not in p]), st.data())
def test_texts_made_from_the_pattern(pattern: str, data: st.DataObject) -> None:
    compiled = re.compile(pattern)
    text = data.draw(st.from_regex(compiled, fullmatch=True))
    changed = text[: len(text) // 2] + data.draw(st.sampled_from(["", "x", "0", "é"])) + text[len(text) // 2 + 1 :]
    for one_text in (text, changed):
        if not any("\ud800" <= letter <= "\udfff" for letter in one_text):
            expected = compiled.fullmatch(one_text) is not None
            assert matches(lower(parse(pattern)), one_text.encode()) == expected


def test_classes_of_characters_are_those_of_re() -> None:
    for name, made in (("d", properties.digits), ("w", properties.word_characters), ("s", properties.spaces)):
        for ascii_only in (False, True):
            compiled = re.compile(rf"\{name}", re.ASCII if ascii_only else 0)
            expected = {ord(character) for character in compiled.findall("".join(map(chr, range(sys.maxunicode + 1))))}
            chosen = {code for first, last in made(ascii_only).ranges for code in range(first, last + 1)}
            assert chosen == expected


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_ignoring_case_is_that_of_re(step: int) -> None:
    cased = [chr(code) for code in range(0x1F000) if chr(code).lower() != chr(code) or chr(code).upper() != chr(code)]
    everything = "".join(cased)
    for character in [*cased[::step], *"IiİıKkKSsſΣσςµ"]:
        expected = set(re.compile(re.escape(character), re.IGNORECASE).findall(everything))
        found = properties.ignoring_case(one(ord(character)), False)
        assert {other for other in cased if ord(other) in found} == expected, character
    assert properties.ignoring_case(of("aZ1"), True) == of("aAzZ1")


def test_properties_of_characters() -> None:
    sample = random.Random(1).sample(range(0x30000), 3000)
    for name in ("Lu", "L", "Nd", "P", "Zs", "Cc", "Cn", "So", "Co"):
        chosen = properties.unicode_property(name)
        assert all((code in chosen) == unicodedata.category(chr(code)).startswith(name) for code in sample)
    assert properties.unicode_property("Letter") == properties.unicode_property("gc=L")
    greek = properties.unicode_property("Script=Greek")
    assert ord("α") in greek and ord("a") not in greek
    assert properties.unicode_property("Han") == properties.unicode_property("Script=Han")


def _no_warning():  # type: ignore[no-untyped-def]
    return contextlib.nullcontext()
