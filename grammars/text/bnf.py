r"""Reads grammars of `name ::= ...` rules: llama.cpp's GBNF, and the EBNF that SGLang, vLLM and xgrammar users write.

    root   ::= "{" pair ("," pair)* "}"      # comments, also /* ... */
    pair   ::= [a-z]+ ":" value{1,3}
    value  ::= "yes" | 'no' | . | #x263A | [^\]\x00-\x1f]

A rule goes on until the next `name ::=`, over as many lines as it likes.
"""

from __future__ import annotations

import re

from ...errors import GrammarError, GrammarTooLarge
from ..expression import Expression, literal
from ..patterns import lower, parse
from ..program import Program
from .bodies import Body, Reference, Regular, in_order, one_of, times
from .rules import program

MAX_TEXT = 1 << 22  # characters
MAX_COUNT = 2**32 - 2

_TOKEN = re.compile(
    r"""
    (?P<blank>   (?: \s+ | /\*.*?\*/ | //[^\n]* | \#(?!x[0-9A-Fa-f])[^\n]* )+ )
  | (?P<rule>    [A-Za-z_][\w.-]* (?= \s* ::= ) )
  | (?P<is>      ::= )
  | (?P<name>    [A-Za-z_][\w.-]* )
  | (?P<string>  "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
  | (?P<class>   \[\^?(?:\\.|[^\]\\])*\] )
  | (?P<code>    \#x[0-9A-Fa-f]+ )
  | (?P<count>   [*+?] | \{\s*\d*\s*(?:,\s*\d*\s*)?\} )
  | (?P<mark>    [.()|] )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]{1,6}\}|U[0-9A-Fa-f]{8}|[\s\S])")
_CODE = re.compile(r"#x([0-9A-Fa-f]{1,6})")
_ANY = Regular(lower(parse("(?s:.)")))


def read_bnf(text: str, start: str = "root") -> Program:
    """The program of a grammar of `name ::= ...` rules.

    Raises GrammarError, with line and column, for what is malformed or not defined, and when there is no text in the
    language; GrammarTooLarge beyond `MAX_TEXT` characters.
    """
    if len(text) > MAX_TEXT:
        raise GrammarTooLarge(f"a grammar of {len(text):,} characters; at most {MAX_TEXT:,} are read")
    reader = _Reader(text)
    rules = reader.rules()
    if not rules:
        raise GrammarError("a grammar without rules; write one as: root ::= ...")
    return program(rules, start, reader.where)


class _Reader:
    """Reads with a stack of its own: no depth of parentheses is too deep to be read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        # for each open group: the options so far, and the items of the one being read
        self._groups: list[tuple[list[Body], list[Body], int]] = []

    def rules(self) -> dict[str, Body]:
        """The bodies of all rules, by name."""
        found: dict[str, Body] = {}
        text, name = self._text, ""
        after_name = False
        while self._at < len(text):
            token = _TOKEN.match(text, self._at)
            if token is None:
                raise self._error("this does not go on as a grammar does", self._at)
            kind, written = token.lastgroup, token[0]
            if kind == "rule":
                if name:
                    found[name] = self._finished()
                name = written
                if name in found:
                    raise self._error(f"the rule {name!r} is defined twice", self._at)
                self._groups = [([], [], self._at)]
            elif kind == "is":
                if not after_name:
                    raise self._error("::= without the name of a rule before it", self._at)
            elif kind != "blank":
                if not name:
                    raise self._error("a grammar begins with a rule, as in: root ::= ...", self._at)
                self._item(str(kind), written)
            if kind != "blank":
                after_name = kind == "rule"
            self._at = token.end()
        if name:
            found[name] = self._finished()
        return found

    def _item(self, kind: str, written: str) -> None:
        options, items, _ = self._groups[-1]
        if kind == "count":
            if not items:
                raise self._error(f"nothing to repeat before {written}", self._at)
            items[-1] = times(items[-1], *self._count(written))
        elif written == "(":
            self._groups.append(([], [], self._at))
        elif written == ")":
            if len(self._groups) == 1:
                raise self._error("this ) closes nothing", self._at)
            self._groups.pop()
            self._groups[-1][1].append(one_of([*options, in_order(items)]))
        elif written == "|":
            options.append(in_order(items))
            items.clear()
        else:
            items.append(self._atom(kind, written))

    def _atom(self, kind: str, written: str) -> Body:
        if kind == "name":
            return Reference(written, self._at)
        if kind == "string":
            inside = written[1:-1]
            if "\\" in inside:
                inside = _ESCAPE.sub(lambda found: self._unescaped(found[1]), inside)
            return Regular(self._literal(inside), weight=len(inside))
        if kind == "class":
            return Regular(self._class(_CODE.sub(lambda found: f"\\u{{{found[1]}}}", written)))
        if kind == "code":
            return Regular(self._literal(self._character(int(written[2:], 16))))
        return _ANY

    def _finished(self) -> Body:
        options, items, _ = self._groups[0]
        if len(self._groups) > 1:
            raise self._error("this ( is never closed", self._groups[-1][2])
        return one_of([*options, in_order(items)])

    def _count(self, written: str) -> tuple[int, int | None]:
        if len(written) == 1:
            return int(written == "+"), 1 if written == "?" else None
        numbers = [number.strip() for number in written[1:-1].split(",")]
        if any(len(number) > 10 or int(number or 0) > MAX_COUNT for number in numbers) or not "".join(numbers):
            raise self._error(f"{written} is not a count of at most {MAX_COUNT:,}", self._at)
        least = int(numbers[0] or 0)
        most = int(numbers[-1]) if numbers[-1] else None
        if most is not None and most < least:
            raise self._error(f"{written} asks for more than it allows", self._at)
        return least, most

    def _literal(self, text: str) -> Expression:
        try:
            return literal(text.encode())
        except UnicodeEncodeError:
            raise self._error("half of a surrogate pair cannot be written", self._at) from None

    def _class(self, pattern: str) -> Expression:
        try:
            return lower(parse(pattern, "ecma"))
        except GrammarError as error:
            raise self._error(str(error), self._at) from None

    def _unescaped(self, escape: str) -> str:
        kind, digits = escape[0], escape[1:].strip("{}")
        if kind in "xuU":
            if not digits:
                raise self._error(f"the escape \\{kind} needs hexadecimal digits", self._at)
            return self._character(int(digits, 16))
        if kind.isalnum() and kind not in _ESCAPES:
            raise self._error(f"the escape \\{kind} means nothing", self._at)
        return _ESCAPES.get(kind, kind)

    def _character(self, code: int) -> str:
        if code > 0x10FFFF:
            raise self._error(f"there is no character {code:X}", self._at)
        return chr(code)

    def where(self, at: int) -> str:
        """The line and column of an offset."""
        line_start = self._text.rfind("\n", 0, at) + 1
        return f"line {self._text.count(chr(10), 0, at) + 1}, column {at - line_start + 1}"

    def _error(self, message: str, at: int) -> GrammarError:
        shown = self._text[at : at + 40].split("\n")[0]
        return GrammarError(f"{message}: {shown!r}" if shown else message, self.where(at))
