"""Context-free grammars of our own with samples, in GBNF, and the same in Lark's language for who reads that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sample:
    """A grammar by its rules in GBNF (`root` begins), with texts that it has and texts that it has not."""

    name: str
    rules: str
    valid: tuple[str, ...]
    invalid: tuple[str, ...]


JSON_RULES = r"""
root ::= value
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (pair ("," ws pair)*)? "}"
pair ::= string ":" ws value
array ::= "[" ws (value ("," ws value)*)? "]"
string ::= "\"" char* "\""
char ::= [^"\\\x00-\x1f] | "\\" ["\\/bfnrt]
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
ws ::= " "?
"""
ARITHMETIC = r"""
root ::= sum
sum ::= product (("+" | "-") product)*
product ::= power (("*" | "/") power)*
power ::= atom ("^" power)?
atom ::= [0-9]+ | "(" sum ")"
"""
STATEMENTS = r"""
root ::= statement+
statement ::= name " = " expr ";\n" | "if (" expr ") {\n" statement* "}\n" | "return " expr ";\n"
expr ::= term (" " op " " term)*
op ::= "+" | "-" | "*" | "<" | "=="
term ::= name | [0-9]+ | "(" expr ")" | name "(" (expr (", " expr)*)? ")"
name ::= [a-z] [a-z0-9_]*
"""
SELECT = r"""
root ::= "SELECT " columns " FROM " name (" WHERE " condition)? (" ORDER BY " name (" DESC")?)? (" LIMIT " [0-9]+)? ";"
columns ::= "*" | name (", " name)*
condition ::= test ((" AND " | " OR ") test)*
test ::= name (" = " | " < " | " > " | " LIKE ") value | "(" condition ")" | "NOT " test
value ::= [0-9]+ | "'" [^'\n]* "'"
name ::= [a-z] [a-z0-9_]*
"""
MARKUP = r"""
root ::= element
element ::= "<div>" content "</div>" | "<p>" content "</p>" | "<br/>" | "<b>" content "</b>"
content ::= (text | element)*
text ::= [^<>&\n]+ | "&lt;" | "&amp;"
"""
LISP = r"""
root ::= form
form ::= atom | "(" (form (" " form)*)? ")" | "'" form
atom ::= [a-z+*-]+ | [0-9]+ | "\"" [^"]* "\""
"""
LAMBDA = r"""
root ::= term
term ::= abstraction | application
abstraction ::= "\\" [a-z] "." term
application ::= atom+
atom ::= [a-z] | "(" term ")"
"""
PATH = r"""
root ::= ("/" step)+
step ::= name ("[" predicate "]")? | "*" | ".."
predicate ::= [0-9]+ | "@" name "='" [^']* "'" | name
name ::= [a-zA-Z] [a-zA-Z0-9_-]*
"""
CALLS = r"""
root ::= call ("\n" call)*
call ::= name "(" (argument (", " argument)*)? ")"
argument ::= name "=" value
value ::= [0-9]+ ("." [0-9]+)? | "\"" [^"\n]* "\"" | "[" (value (", " value)*)? "]" | "True" | "False" | "None"
name ::= [a-z] [a-z_]*
"""
LOGIC = r"""
root ::= implied
implied ::= or (" -> " implied)?
or ::= and (" | " and)*
and ::= not (" & " not)*
not ::= "~" not | "(" implied ")" | [A-Z]
"""
TYPES = r"""
root ::= type
type ::= simple (" | " simple)*
simple ::= "int" | "str" | "None" | "list[" type "]" | "dict[" type ", " type "]" | "tuple[" type (", " type)* "]"
"""
DICE = r"""
root ::= roll ((" + " | " - ") roll)*
roll ::= [1-9] [0-9]? "d" ("4" | "6" | "8" | "10" | "12" | "20") ("kh" [1-9])? | [0-9]{1,3}
"""
CONFIG = r"""
root ::= (section)+
section ::= "[" name "]\n" line*
line ::= name " = " value "\n" | "# " [^\n]* "\n"
value ::= "true" | "false" | [0-9]+ | "\"" [^"\n]* "\""
name ::= [a-z] [a-z0-9_.-]*
"""
CHORDS = r"""
root ::= bar (" | " bar)*
bar ::= chord (" " chord){0,3}
chord ::= [A-G] ("#" | "b")? ("m" | "maj7" | "7" | "dim")? ("/" [A-G])?
"""

SAMPLES: tuple[Sample, ...] = (
    Sample(
        "json",
        JSON_RULES,
        ('{"a": [1, 2.5e3, "x"], "b": {}}', "null", '[[], [{"k": "v"}]]'),
        ('{"a": }', "[1,", "{a: 1}"),
    ),
    Sample("json-text", JSON_RULES, ('"a longer text, with \\"quotes\\" in it"', "-12.5"), ('"open', "01", "tru")),
    Sample("arithmetic", ARITHMETIC, ("1+2*3", "(1-2)*(3/4)^2", "((((7))))"), ("1+", "(1", "1**2")),
    Sample(
        "statements",
        STATEMENTS,
        ("x = 1;\nif (x < 2) {\nreturn f(x, 1);\n}\n", "return a;\n"),
        ("x = ;\n", "if (x) {\n"),
    ),
    Sample(
        "select",
        SELECT,
        ("SELECT * FROM users;", "SELECT a, b FROM t WHERE (a = 1 OR b LIKE 'x%') AND NOT c > 2 LIMIT 5;"),
        ("SELECT FROM t;", "SELECT a FROM t"),
    ),
    Sample(
        "markup",
        MARKUP,
        ("<div><p>Hello <b>you</b></p><br/></div>", "<p>a &lt; b</p>"),
        ("<div><p></div></p>", "<p>", "<i></i>"),
    ),
    Sample("lisp", LISP, ("(define (square x) (* x x))", '\'(1 2 "three")'), ("(a", "(a))", "( a)")),
    Sample("lambda", LAMBDA, ("\\x.\\y.x(yx)", "(\\x.xx)(\\x.xx)"), ("\\.x", "(x", "\\x.")),
    Sample("path", PATH, ("/a/b[2]/c", "/book[@id='7']/../title"), ("a/b", "/a[", "//")),
    Sample(
        "calls",
        CALLS,
        ('search(query="cats", limit=10)\nopen(path="x", tags=["a", "b"])', "f()"),
        ("f(", "f(1)", "F()"),
    ),
    Sample("logic", LOGIC, ("A & ~B -> (C | D)", "A -> B -> C"), ("A &", "-> A", "a")),
    Sample(
        "types",
        TYPES,
        ("dict[str, list[int | None]]", "tuple[int, str, list[dict[str, int]]]"),
        ("list[]", "dict[int]"),
    ),
    Sample("dice", DICE, ("2d6 + 3", "4d6kh3 - 1d4"), ("d6", "2d7", "2d6 +")),
    Sample(
        "config",
        CONFIG,
        ('[server]\nport = 80\n# a note\nname = "x"\n[log]\n', "[a]\n"),
        ("port = 80\n", "[a]\nb = \n"),
    ),
    Sample("chords", CHORDS, ("C G/B Am F | Dm7 G7".replace("Dm7", "D7"), "F#m Bbmaj7"), ("H", "C  G", "C |")),
    Sample("balanced", 'root ::= ("(" root ")" | "[" root "]")*', ("([])[]", "", "[[[()]]]"), ("([)]", "(", "]")),
    Sample("palindrome", 'root ::= ("a" root "a" | "b" root "b" | "a" | "b")?', ("abba", "ababa", ""), ("ab", "aab")),
    Sample("equal", 'root ::= "a" root "b" | "ab"', ("ab", "aaabbb"), ("aab", "ba", "")),
    Sample("left", 'root ::= root "," item | item\nitem ::= [a-z]+', ("a,b,c", "word"), (",a", "a,,b")),
    Sample("right", 'root ::= item "," root | item\nitem ::= [a-z]+', ("a,b,c", "word"), (",a", "a,")),
    Sample("ambiguous", 'root ::= root root | "a"', ("a", "aaaaaaaa"), ("", "ab")),
    Sample(
        "dangling", 'root ::= "if " root | "if " root " else " root | "x"', ("if if x else x", "x"), ("if", "else x")
    ),
    Sample("postfix", 'root ::= root " " root " " [-+*] | [0-9]+', ("1 2 + 3 *", "42"), ("1 +", "1 2")),
    Sample(
        "nested list", 'root ::= "- " [a-z ]+ "\\n" ("  " root)?', ("- a b\n", "- a\n  - b\n  - c\n"), ("a\n", "- \n\n")
    ),
    Sample(
        "email",
        'root ::= [a-z0-9.]+ "@" [a-z0-9-]+ ("." [a-z]{2,4}){1,2}',
        ("a.b@c.org", "x@y-z.co.uk"),
        ("a@b", "@b.org"),
    ),
    Sample(
        "choices",
        'root ::= "yes" | "no" | "not sure" | "ask " [A-Z] [a-z]+',
        ("no", "not sure", "ask Anna"),
        ("not", "ask anna"),
    ),
)


def lark_of(rules: str) -> str:
    """The same rules in Lark's language."""
    pieces = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|::=|\{(\d+),(\d+)\}|\broot\b', re.DOTALL)

    def turned(match: re.Match[str]) -> str:
        piece = match.group()
        if piece == "::=":
            return ":"
        if piece == "root":
            return "start"
        if piece[0] == "{":
            return f"~{match[1]}..{match[2]}"
        return f"/{piece.replace('/', chr(92) + '/')}/" if piece[0] == "[" else piece

    return "\n".join(pieces.sub(turned, line) for line in rules.strip().splitlines()) + "\n"


def tasks(kind: str) -> list[dict[str, Any]]:
    """The samples as tasks, in GBNF or in Lark's language."""
    return [
        {
            "id": sample.name,
            "split": "context-free",
            "kind": kind,
            "grammar": sample.rules.strip() + "\n" if kind == "gbnf" else lark_of(sample.rules),
            "valid": list(sample.valid),
            "invalid": list(sample.invalid),
        }
        for sample in SAMPLES
    ]
