"""Grammars of `name ::= ...` rules: what they accept, and what is refused where."""

from __future__ import annotations

import json
import random

import pytest
from ramify.errors import GrammarError, GrammarTooLarge
from ramify.grammars import Vocabulary, ebnf, gbnf

from ..bytewise import accepts, begins, walk

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws # a comment
ws     ::= | " " | "\n" [ \t]{0,20}
"""


def test_json() -> None:
    grammar = ebnf(JSON)
    assert grammar.kind == "gbnf"
    for value in ({}, {"a": [1, -2.5, 'x"\\é', None, True]}, {"b": {"c": []}}):
        for indent in (None, 1):
            assert accepts(grammar, json.dumps(value, indent=indent))
    for text in ("[]", '{"a": }', '{"a": 1,}', '{"a": 01}', '{"a": "\n"}'):
        assert not accepts(grammar, text)
    chance = random.Random(5)
    walks = [walk(grammar, chance, 2000) for _ in range(20)]
    for text in walks:
        if text is not None:
            json.loads(text)
    assert sum(text is not None for text in walks) > 5


def test_sglang_example() -> None:
    grammar = ebnf(
        'root ::= city | description\ncity ::= "London" | "Paris" | "Berlin" | "Rome"\n'
        'description ::= city " is " status\nstatus ::= "the capital of " country\n'
        'country ::= "England" | "France" | "Germany" | "Italy"'
    )
    assert accepts(grammar, "Paris") and accepts(grammar, "Rome is the capital of Germany")
    assert not accepts(grammar, "Paris is the capital of Spain") and not accepts(grammar, "Madrid")


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ('root ::= root "a" | "b"', ["b", "baaa"], ["", "a"]),
        ('root ::= root root | "a" | ""', ["", "a", "aaaa"], ["b"]),
        ('root ::= x y "c"\nx ::= "a" | y\ny ::= x | ""', ["c", "ac", "aac"], ["aaac", "b"]),
        ('root ::= "a" | "a" | [a] | root', ["a"], ["aa"]),
        ('root ::= ("a" ("b" | "c"){2,3}){2} "d"?', ["abbacc", "abcbaccd"], ["abb", "abbab", "abbbbabb"]),
        ("root ::= #x41 [#x42-#x44]* 'q' /* x */ foo-bar? // y\nfoo-bar ::= '\\''", ["Aq", "ABCDq'"], ["AEq"]),
        ('root ::= "\\x41\\u00e9\\U0001F600\\n\\t\\"" .', ['Aé😀\n\t"ü'], ['Aé😀\n\t"']),
        ('root ::= a\na ::=\n  "x"\n  | "y"\n\nb ::= "z"', ["x", "y"], ["z"]),
        ('root ::= "a"{0} "b"{2,} [^a-y]', ["bbz", "bbbbz", "bbé"], ["abz", "bz", "bbb"]),
        ('root ::= "a" | "b" dead\ndead ::= "x" dead', ["a"], ["b"]),
        ('root ::= "a" root?', ["a", "aaa"], [""]),
    ],
)
def test_what_is_accepted(text: str, good: list[str], bad: list[str]) -> None:
    grammar = gbnf(text)
    for one in good:
        assert accepts(grammar, one), one
    for one in bad:
        assert not accepts(grammar, one), one


def test_no_way_leads_into_a_dead_end() -> None:
    grammar = gbnf('root ::= "a" | "b" dead\ndead ::= "x" dead')
    assert not begins(grammar, "b")


def test_a_rule_that_is_not_reached_may_be_anything() -> None:
    assert accepts(gbnf('root ::= "a"\nother ::= missing | other'), "a")


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("root ::= foo", "line 1, column 10", "'foo' is used in 'root' but not defined"),
        ('root ::= "a" root', "", "comes back to itself"),
        ('root ::= "a" | ) "b"', "line 1, column 16", "closes nothing"),
        ('root ::= "a"\n  ("b"', "line 2, column 3", "never closed"),
        ('root ::= "a"\nroot ::= "b"', "line 2, column 1", "twice"),
        ('root ::= "a', "line 1, column 10", "does not go on"),
        ('root ::= "a" ::= "b"', "line 1, column 14", "without the name"),
        ("root ::= * x", "line 1, column 10", "nothing to repeat"),
        ('root ::= "a"{3,2}', "line 1, column 13", "more than it allows"),
        ('root ::= "a"{99999999999}', "line 1, column 13", "count"),
        ('root ::= "\\q"', "line 1, column 10", "means nothing"),
        ('root ::= "\\uD800"', "line 1, column 10", "surrogate"),
        ("root ::= [z-a]", "line 1, column 10", "backwards"),
        ('a ::= "b"', "", "no rule 'root'"),
        ("", "line 1, column 1", "neither"),
        ("hello", "line 1, column 1", "neither"),
    ],
)
def test_what_is_refused_says_where(text: str, path: str, says: str) -> None:
    with pytest.raises(GrammarError, match=says) as refusal:
        ebnf(text)
    assert refusal.value.path == path


def test_twenty_thousand_rules() -> None:
    chain = "".join(f'r{i} ::= "w{i} " r{i + 1} | "x"\n' for i in range(20_000))
    grammar = ebnf(f'root ::= r0\n{chain}r20000 ::= "end"')
    assert accepts(grammar, "w0 w1 w2 x") and not begins(grammar, "w0 w2")
    fan = " | ".join(f"r{i}" for i in range(500))
    wide = ebnf(f"root ::= {fan}\n" + "".join(f'r{i} ::= "w{i}" | "w{i}" "(" root ")"\n' for i in range(500)))
    assert accepts(wide, "w7(w499(w12))")


def test_sizes_are_bounded() -> None:
    deep = gbnf("root ::= " + "(" * 3000 + '"a"' + ")" * 3000)
    assert accepts(deep, "a")
    with pytest.raises(GrammarTooLarge, match="nest deeper"):
        gbnf("root ::= " + "(x " * 3000 + '"a"' + ")*" * 3000 + '\nx ::= x "b" | "b"')
    doubling = "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(60))
    assert begins(gbnf(f'root ::= r0\n{doubling}\nr60 ::= "e"'), "e" * 50)
    with pytest.raises(GrammarTooLarge):
        gbnf('root ::= "' + "a" * (1 << 22) + '"')


def test_the_name_of_the_end_token_is_text_like_any_other() -> None:
    grammar = gbnf('root ::= "a</s>b"')
    vocabulary = Vocabulary([b"a", b"</s>", b"<", b"/", b"s", b">", b"b", None], [1])
    matcher = grammar.matcher(vocabulary)
    for token in (0, 2, 3, 4, 5, 6, 1):  # spelled out; the end token only ends
        allowed = matcher.allowed()
        assert allowed is not None and list(allowed) == [token]
        assert matcher.accept(token)
