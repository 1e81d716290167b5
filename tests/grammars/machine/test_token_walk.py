"""Masks of the compiled machine against its own accepts, on a vocabulary whose tokens share many beginnings."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest
from ramify.grammars import gbnf, json_schema, regex
from ramify.grammars.machine.native import NativeMachine, NativeMatcher
from ramify.grammars.machine.native_core import CoreUnavailable, grammar_core
from ramify.grammars.program import Program
from ramify.grammars.vocabulary import Vocabulary

try:
    grammar_core()
except CoreUnavailable as reason:
    pytest.skip(f"no compiled core: {reason}", allow_module_level=True)

WHOLE = ["a", "b", "z", "Q", "7", "0", "_", "-", " ", '"', "\\", ",", ": ", "}", "<", "é", "日", "\n"]
# characters that are cut, go on, were never begun, are too long, and a surrogate
CUT = [b"\xe6", b"\xe6\x97", b"\x97\xa5", b"\x80", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf4\x90"]
PIECES = [*(piece.encode() for piece in WHOLE), *CUT]

MARKUP = r"""
root ::= "<" content ">"
content ::= (text | "<" content ">")*
text ::= [^<>\n]+ | "\\a"
"""
TERMS = r"""
root ::= term
term ::= "_" [a-z] "-" term | atom+
atom ::= [a-z] | "\"" term "\""
"""
NAMES = r"""
root ::= name (", " name)* (" " [0-9]+)?
name ::= [ab] [a-z0-9_]*
"""
SCHEMAS: tuple[dict[str, Any], ...] = (
    {
        "type": "object",
        "properties": {"ab": {"type": "string"}, "a_b": {"const": 7}, "abba": {"type": "null"}},
        "additionalProperties": {"type": "string", "maxLength": 9},
    },
    {"type": "string", "pattern": "^[^a]*7", "minLength": 3, "maxLength": 20},
    {
        "type": "object",
        "patternProperties": {"^a": {"type": "string", "minLength": 2}, "7$": {"type": "string"}},
        "additionalProperties": False,
    },
    {"type": "array", "items": {"type": "string", "pattern": "b{2}"}, "uniqueItems": True},
)
GRAMMARS: dict[str, Program] = {
    **{
        f"regex {pattern}": regex(pattern).program
        for pattern in (
            r"[a-z0-9_]*",
            r'[^"]*"b',
            r".*ab.*7",
            r"[ab7]{0,5}-",
            r'[^ ]{2,40}"',
            r'[^ ]{1,7}"',
            r"[^\né]*",
            r"[a-z]{2,4}(-[a-z]{2,4}){1,2}",
            r"(?:[^b]|b7)*_{3,}",
            r"ab_7|abba|aé",
            r"[\u00e9-\uffff]+a?",
        )
    },
    **{f"schema {index}": json_schema(schema).program for index, schema in enumerate(SCHEMAS)},
    **{f"rules {index}": gbnf(rules).program for index, rules in enumerate((MARKUP, TERMS, NAMES))},
}


def crowded(seed: int) -> Vocabulary:
    """Every byte, every pair of pieces, and some longer ones; a few spellings twice."""
    chance = Random(seed)
    tokens: list[bytes | None] = [b"</s>", *(bytes([byte]) for byte in range(256))]
    tokens += [b"".join(pair) for pair in product(PIECES, PIECES)]
    tokens += [b"".join(chance.choices(PIECES, k=chance.randint(3, 6))) for _ in range(600)]
    tokens += [b"".join(three) for three in product([b"a", b"b", b"7", b'"', b"_", "é".encode(), b"\xc3"], repeat=3)]
    tokens += [b"ab", b"a\xe6\x97\xa5"]
    return Vocabulary(tokens, [0])


def masked(matcher: NativeMatcher) -> list[int]:
    return np.flatnonzero(np.unpackbits(matcher.mask().view(np.uint8), bitorder="little")).tolist()


def accepted(matcher: NativeMatcher, vocabulary: Vocabulary) -> list[int]:
    found = []
    for token in range(vocabulary.size):
        if matcher.accept(token):
            matcher.rollback(1)
            found.append(token)
    return found


@pytest.mark.parametrize("name", GRAMMARS)
def test_masks_have_the_tokens_that_are_accepted(name: str) -> None:
    vocabulary = crowded(3)
    machine = NativeMachine(GRAMMARS[name], vocabulary)
    chance = Random(name)
    for _ in range(2):
        matcher = machine.matcher()
        for _ in range(7):
            allowed = masked(matcher)
            assert allowed == accepted(matcher.copy(), vocabulary)
            longer = [token for token in allowed if token and len(vocabulary.tokens[token] or b"") > 1]
            going_on = longer or [token for token in allowed if token]
            if not going_on:
                break
            assert matcher.accept(chance.choice(going_on))


def test_a_language_a_little_smaller_is_told_apart() -> None:
    vocabulary = crowded(3)
    allowed = [masked(NativeMachine(regex(one).program, vocabulary).matcher()) for one in (r"[^\n]*", r"[^\né]*")]
    spelled = [vocabulary.tokens[token] or b"" for token in set(allowed[0]) - set(allowed[1])]
    assert spelled and all("é".encode() in token for token in spelled)
    assert set(allowed[1]) < set(allowed[0])
