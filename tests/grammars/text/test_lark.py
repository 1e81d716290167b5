"""Lark grammars: the product accepts what lark's own parser accepts."""

from __future__ import annotations

import random

import lark as reference
import pytest
from ramify.errors import GrammarError, GrammarTooLarge
from ramify.grammars import ebnf, lark

from ..bytewise import accepts, begins, walk

JSON = r"""
?start: value
?value: object | array | string | SIGNED_NUMBER -> number | "true" | "false" | "null"
array  : "[" [value ("," value)*] "]"
object : "{" [pair ("," pair)*] "}"
pair   : string ":" value
string : ESCAPED_STRING
%import common.ESCAPED_STRING
%import common.SIGNED_NUMBER
%import common.WS
%ignore WS
"""
CALCULATOR = r"""
?start: sum | NAME "=" sum -> assign
?sum: product | sum "+" product | sum "-" product
?product: atom | product "*" atom
?atom: NUMBER | "-" atom | NAME | "(" sum ")"
%import common.CNAME -> NAME
%import common.NUMBER
%import common.WS_INLINE
%ignore WS_INLINE
"""
TEMPLATES = r"""
start: _sep{item, ","} _sep{NUM, _sep{"x"i, ";"}}
item: /[a-z]+/ | "(" start ")"
_sep{x, y}: x (y x)*
NUM: "0".."9"
"""
REPEATS = r"""
start: "a"~3..5 B~2 [C] d
B.2: "b" | "β"
C: /c{1,2}/i
!d: ("d" "e"?)+ | "!"*
%extend B: "bb"
"""


@pytest.mark.parametrize(
    ("grammar", "texts"),
    [
        (
            JSON,
            ['{"a": [1, -2.5e3, "x\\"y", null]}', "[", " [ ] ", '"a"b"', '"a\\\\"', '"a\\"', '{"a" 1}', "tru", "01"],
        ),
        (CALCULATOR, ["1+2*(x - -3)", "x = 1", "x = = 1", "1 +", "(1", "a_1*2.5", " 1", "1 "]),
        (TEMPLATES, ["a,(b1)1", "a1x;X2", "a,1", "a12", "a1xx2", "a,b1"]),
        (
            REPEATS,
            ["aaabbd", "aaaabβCdde", "aabbd", "aaabbb", "aaabb!!", "aaabb", "aaaaaabbd", "aaabbbbccd", "aaabbcccd"],
        ),
    ],
    ids=["json", "calculator", "templates", "repeats"],
)
def test_as_lark_parses(grammar: str, texts: list[str]) -> None:
    ours, judge = lark(grammar), reference.Lark(grammar, parser="earley", lexer="dynamic_complete")
    agreed = set()
    for text in texts:
        try:
            judge.parse(text)
            expected = True
        except reference.exceptions.LarkError:
            expected = False
        assert accepts(ours, text) == expected, text
        agreed.add(expected)
    assert agreed == {True, False}


def test_random_texts_parse() -> None:
    chance = random.Random(11)
    judge = reference.Lark(CALCULATOR, parser="earley", lexer="dynamic_complete")
    done = 0
    for _ in range(40):
        text = walk(lark(CALCULATOR), chance, 60)
        if text is not None:
            judge.parse(text.decode())
            done += 1
    assert done >= 10


def test_lazy_terminals_end_where_a_lexer_would_end() -> None:
    grammar = lark('start: Q "b"*\nQ: /".*?"/ /[0-9]*/')
    assert accepts(grammar, '"x"12bb') and not accepts(grammar, '"x"b"bb')
    greedy = lark('start: Q "b"*\nQ: /".*"/')
    assert accepts(greedy, '"x"b"bb')


def test_looks_reach_over_the_parts_of_a_terminal() -> None:
    grammar = lark('start: A\nA: "a" B\nB: /(?<!a)b/ | /(?<=a)c/')
    assert accepts(grammar, "ac") and not accepts(grammar, "ab")


def test_the_notation_is_told_from_the_text() -> None:
    assert ebnf(JSON).kind == "lark" and ebnf(CALCULATOR).kind == "lark" and ebnf(TEMPLATES).kind == "lark"
    assert ebnf('root ::= "a: b"').kind == "gbnf"
    assert ebnf("begin: /x/", start="begin").kind == "lark"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("start: foo", "'foo' is used but not defined"),
        ("start: FOO", "'FOO' is used but not defined"),
        ('start: "a" start', "comes back to itself"),
        ("start: A\n%import foo.A", "only lark's own"),
        ("start: A\n%import .foo.A", "only lark's own"),
        ("start: A\n%import common.sub.A", "only lark's own"),
        ("start: A\n%import common.NO_SUCH_THING -> A", "used but not defined"),
        ("start: A\n%declare A", "declared"),
        ('start: A\nA: "x" A | "y"', "comes back to itself"),
        ('start: "a"~3..2', "count"),
        ('start: "a"~99999999999', "count"),
        ('start: "a" | ) "b"', "Unexpected token"),
        ("start: /a(/", "never closed"),
        (r"start: /(a)\1/", "back-reference"),
        ('start: "a"\nstart: "b"', "twice"),
        ("start: A\nA: b\nb: /x/", "terminal cannot use a rule"),
        ('start: a{"x", "y"}\na{x}: x', "takes 1 arguments"),
        ("%ignore /x/", "'start' is used but not defined"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(GrammarError, match=says):
        lark(text)


def test_no_file_is_opened(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "foo.lark").write_text('A: "x"\n')
    monkeypatch.chdir(tmp_path)
    for path in ("foo.A", ".foo.A"):
        with pytest.raises(GrammarError, match="only lark's own"):
            lark(f"start: A\n%import {path}")


def test_sizes_are_bounded() -> None:
    for text in (
        'start: a{"x"}\na{x}: x a{a{x}} | x',  # a template in ever more ways
        "start: A0\n" + "\n".join(f"A{i}: A{i + 1} A{i + 1}" for i in range(40)) + '\nA40: "x"',
        "start: " + "(" * 3000 + '"a"' + ")" * 3000,
        "start: " + " | ".join(f'"w{i}"' for i in range(40_000)),
    ):
        with pytest.raises(GrammarTooLarge):
            lark(text)
    many = "start: r0\n" + "\n".join(f'r{i}: "w{i}" r{i + 1} | "x"' for i in range(1000)) + '\nr1000: "end"'
    assert begins(lark(many), "w0w1w2")
    chain = "start: A0\n" + "\n".join(f'A{i}: A{i + 1} | "{i}"' for i in range(1000)) + '\nA1000: "x"'
    with pytest.raises(GrammarTooLarge):
        lark(chain)
