"""Reads a regular expression, in Python's dialect or ECMAScript's, into a tree; no depth of parentheses is too deep."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ...errors import GrammarError, GrammarTooLarge
from . import properties
from .characters import ANY_CHARACTER, ECMA_NEWLINES, NEWLINE, CharacterSet, one
from .escapes import Reader
from .tree import Characters, Counted, Node, Sequence, alternatives, counted, look, sequence

Dialect = Literal["python", "ecma"]

MAX_PATTERN = 1 << 20  # characters
MAX_DEPTH = 100  # of nodes within nodes, after what says nothing is dropped
MAX_COUNT = 2**32 - 2  # as in Python's `re`

# as plain numbers: testing an enumeration's members takes ten times as long
_IGNORECASE, _MULTILINE, _DOTALL = int(re.IGNORECASE), int(re.MULTILINE), int(re.DOTALL)
_VERBOSE, _ASCII, _UNICODE = int(re.VERBOSE), int(re.ASCII), int(re.UNICODE)
_FLAGS = {
    "i": _IGNORECASE,
    "m": _MULTILINE,
    "s": _DOTALL,
    "x": _VERBOSE,
    "a": _ASCII,
    "u": _UNICODE,
}
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}", re.ASCII)
_LITERALS = re.compile(r"[^\\^$.|?*+()\[\]{}]+")
_NAME = re.compile(r"P?<([^\W\d]\w*)>")
_INLINE = re.compile(r"([a-zA-Z]*)(?:-([a-zA-Z]+))?([:)])")


@dataclass(slots=True)
class _Group:
    """An open parenthesis: the alternatives read so far, and what its closing makes of them."""

    start: int
    flags: int
    close: Callable[[Node], Node]
    options: list[Node] = field(default_factory=list)
    parts: list[Node] = field(default_factory=list)

    def tree(self) -> Node:
        return alternatives([*self.options, sequence(self.parts)]) if self.options else sequence(self.parts)


def parse(pattern: str, dialect: Dialect = "python", flags: int = 0) -> Node:
    """The tree of `pattern`. `flags` are those of Python's `re`.

    In both dialects also read, beyond their standards: `(?<name>...)`, `(?P<name>...)`, inline flags anywhere,
    \\p{...}, \\A, \\z, \\Z. Lazy quantifiers are the greedy ones: the language is
    the same. Raises GrammarError, whose
    `path` is the offset, for what is malformed or no regular language; GrammarTooLarge beyond `MAX_PATTERN` and
    `MAX_DEPTH`.
    """
    if not isinstance(pattern, str):
        raise GrammarError(f"a regular expression is a str, not {type(pattern).__name__}")
    if len(pattern) > MAX_PATTERN:
        raise GrammarTooLarge(f"a regular expression of {len(pattern):,} characters; at most {MAX_PATTERN:,} are read")
    if flags & re.LOCALE:
        raise GrammarError("re.LOCALE means something else on every machine: leave it out")
    return _Parser(pattern, dialect == "ecma", int(flags)).run()


class _Parser:
    def __init__(self, pattern: str, ecma: bool, flags: int) -> None:
        self.pattern = pattern
        self.ecma = ecma
        self.reader = Reader(pattern, ecma)
        self.stack = [_Group(0, flags, lambda node: node)]
        self.at = 0
        self.repeatable = False  # whether what was read last may be followed by a quantifier

    def run(self) -> Node:
        pattern = self.pattern
        while self.at < len(pattern):
            character = pattern[self.at]
            group = self.stack[-1]
            if group.flags & _VERBOSE and (character in " \t\n\r\f\v" or character == "#"):
                self._skip(character)
            elif character == "(":
                self._open()
            elif character == ")":
                self._close()
            elif character == "|":
                group.options.append(sequence(group.parts))
                group.parts = []
                self.at += 1
                self.repeatable = False
            elif character in "*+?" or (character == "{" and self._count_here()):
                self._quantifier(character)
            elif group.flags & (_IGNORECASE | _VERBOSE) == 0 and (run := _LITERALS.match(pattern, self.at)):
                group.parts += [Characters(one(ord(letter))) for letter in run[0]]
                self.at = run.end()
                self.repeatable = True
            else:
                self._add(self._atom(character, group.flags))
        if len(self.stack) > 1:
            raise self.reader.error("this ( is never closed", self.stack[-1].start)
        return self._checked(self.stack[0].tree())

    def _add(self, node: Node, *, repeatable: bool = True) -> None:
        self.stack[-1].parts.append(node)
        self.repeatable = repeatable

    def _checked(self, node: Node) -> Node:
        if node.depth > MAX_DEPTH:
            raise GrammarTooLarge(
                f"a regular expression that nests deeper than {MAX_DEPTH}; write it flatter", f"offset {self.at}"
            )
        return node

    def _skip(self, character: str) -> None:
        end = self.pattern.find("\n", self.at) if character == "#" else self.at
        self.at = len(self.pattern) if end < 0 else end + 1

    # ------------------------------------------------------------------ atoms

    def _atom(self, character: str, flags: int) -> Node:
        reader, start = self.reader, self.at
        if character == "\\":
            return self._escape(flags)
        if character == "[":
            found, self.at = reader.character_class(start, flags)
            return Characters(found)
        self.at += 1
        if character == ".":
            newlines = ECMA_NEWLINES if self.ecma else NEWLINE
            return Characters(ANY_CHARACTER if flags & _DOTALL else ~newlines)
        if character == "^":
            return self._line_start(flags)
        if character == "$":
            return self._line_end(flags)
        return self._literal(ord(character), flags)

    def _literal(self, code: int, flags: int) -> Node:
        allowed = one(code)
        if flags & _IGNORECASE:
            allowed = properties.ignoring_case(allowed, bool(flags & _ASCII))
        return Characters(allowed)

    def _line_start(self, flags: int) -> Node:
        newlines = ECMA_NEWLINES if self.ecma else NEWLINE
        return look(Characters(~newlines if flags & _MULTILINE else ANY_CHARACTER), behind=True, negative=True)

    def _line_end(self, flags: int) -> Node:
        newlines = ECMA_NEWLINES if self.ecma else NEWLINE
        if flags & _MULTILINE:
            return look(Characters(~newlines), negative=True)
        return END if self.ecma else BEFORE_LAST_NEWLINE

    def _escape(self, flags: int) -> Node:
        start = self.at
        letter = self.pattern[start + 1 : start + 2]
        if letter and letter in "AZzbB":
            self.at += 2
            if letter == "A":
                return START
            if letter in "Zz":
                return END
            return _boundary(properties.word_characters(self.reader.ascii_classes(flags)), letter == "B")
        if letter == "k" or (letter.isdigit() and letter != "0" and not self.reader.is_octal(start)):
            raise self.reader.error("a back-reference is not regular: it cannot be followed token by token", start)
        found, self.at, single = self.reader.escape(start, flags, in_class=False)
        if flags & _IGNORECASE and (single or letter == "p"):
            found = properties.ignoring_case(found, bool(flags & _ASCII))
        return Characters(found)

    # ------------------------------------------------------------- quantifiers

    def _count_here(self) -> bool:
        """Whether the { here opens a count; elsewhere it is a character."""
        match = _COUNT.match(self.pattern, self.at)
        if match is None:
            return False
        if self.ecma:
            return bool(match[1])
        return match[0] != "{}"

    def _quantifier(self, character: str) -> None:
        start = self.at
        group = self.stack[-1]
        if not self.repeatable or not group.parts:
            raise self.reader.error(f"nothing to repeat before {character}", start)
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(character, (0, 0))
        self.at += 1
        if character == "{":
            match = _COUNT.match(self.pattern, start)
            assert match is not None
            least = self._number(match[1] or "0", start)
            most = least if not match[2] else self._number(match[3], start) if match[3] else None
            self.at = match.end()
        if most is not None and most < least:
            raise self.reader.error(f"{self.pattern[start : self.at]} asks for more than it allows", start)
        lazy = self.pattern.startswith("?", self.at)
        possessive = not self.ecma and self.pattern.startswith("+", self.at)
        self.at += lazy or possessive
        node = counted(group.parts[-1], least, most, lazy=lazy)
        group.parts[-1] = self._checked(self._atomic(node, start) if possessive else node)
        self.repeatable = False

    def _atomic(self, node: Node, start: int) -> Node:
        """The tree when it never gives up a character that it took: only of characters, that is a look-ahead."""
        if isinstance(node, Characters) or (isinstance(node, Sequence) and node.plain and not node.parts):
            return node
        if isinstance(node, Counted) and isinstance(node.inner, Characters):
            least, most, stop = node.least, node.most, look(node.inner, negative=True)
            if most is None:
                return sequence([node, stop])
            if least == most:
                return node
            return alternatives(
                [sequence([counted(node.inner, least, most - 1), stop]), counted(node.inner, most, most)]
            )
        if isinstance(node, Sequence) and all(isinstance(part, Characters) for part in node.parts[:-1]):
            return sequence([*node.parts[:-1], self._atomic(node.parts[-1], start)])
        raise self.reader.error(
            "an atomic group or a possessive quantifier of more than characters is not followed here; write (?:...), "
            "or leave out the +",
            start,
        )

    def _number(self, digits: str, start: int) -> int:
        if len(digits) > 10 or int(digits) > MAX_COUNT:
            raise self.reader.error(f"a count above {MAX_COUNT:,}", start)
        return int(digits)

    # ------------------------------------------------------------------ groups

    def _open(self) -> None:
        start, flags = self.at, self.stack[-1].flags
        self.at += 1
        close: Callable[[Node], Node] = _as_is
        if self.pattern.startswith("?", self.at):
            opened = self._special(start, flags)
            if opened is None:
                return
            flags, close = opened
        self.stack.append(_Group(start, flags, close))
        self.repeatable = False

    def _special(self, start: int, flags: int) -> tuple[int, Callable[[Node], Node]] | None:
        """What follows `(?`: the flags and the closing of a group, or None when it was none."""
        pattern, error = self.pattern, self.reader.error
        self.at += 1
        for text, close in _LOOKS.items():
            if pattern.startswith(text, self.at):
                self.at += len(text)
                return flags, close
        named = _NAME.match(pattern, self.at)
        if named is not None:
            self.at = named.end()
            return flags, _as_is
        if pattern.startswith("#", self.at) and not self.ecma:
            end = pattern.find(")", self.at)
            if end < 0:
                raise error("this comment is never closed", start)
            self.at = end + 1
            return None
        if pattern.startswith(">", self.at):
            self.at += 1
            return flags, lambda node: self._atomic(node, start)
        if pattern.startswith(("P=", "P>", "&", "R", "0", "1", "+", "("), self.at):
            kind = "a back-reference" if pattern.startswith("P=", self.at) else "a conditional or recursive group"
            raise error(f"{kind} is not regular: it cannot be followed token by token", start)
        inline = _INLINE.match(pattern, self.at)
        if inline is None:
            raise error("this kind of group is not known", start)
        self.at = inline.end()
        flags = self._inline_flags(flags, inline[1], inline[2] or "", start)
        if inline[3] == ")":
            self.stack[-1].flags = flags
            self.repeatable = False
            return None
        return flags, _as_is

    def _inline_flags(self, flags: int, added: str, removed: str, start: int) -> int:
        for letter in added + removed:
            if letter not in _FLAGS:
                raise self.reader.error(f"the flag {letter!r} is not known; these are: {' '.join(_FLAGS)}", start)
        for letter in added:
            flags |= _FLAGS[letter]
            if letter == "u":
                flags &= ~_ASCII
        for letter in removed:
            flags &= ~_FLAGS[letter]
        return int(flags)

    def _close(self) -> None:
        if len(self.stack) == 1:
            raise self.reader.error("this ) closes nothing", self.at)
        group = self.stack.pop()
        self.at += 1
        self._add(self._checked(group.close(group.tree())))


def _as_is(node: Node) -> Node:
    return node


_LOOKS: dict[str, Callable[[Node], Node]] = {
    ":": _as_is,
    "=": look,
    "!": lambda node: look(node, negative=True),
    "<=": lambda node: look(node, behind=True),
    "<!": lambda node: look(node, behind=True, negative=True),
}

START = look(Characters(ANY_CHARACTER), behind=True, negative=True)
END = look(Characters(ANY_CHARACTER), negative=True)
BEFORE_LAST_NEWLINE = alternatives([END, look(sequence([Characters(NEWLINE), END]))])


def _boundary(word: CharacterSet, inverted: bool) -> Node:
    r"""\b, or \B when inverted: whether the characters on both sides differ in being word characters."""
    inside = Characters(word)
    before, after = look(inside, behind=True), look(inside)
    no_before, no_after = look(inside, behind=True, negative=True), look(inside, negative=True)
    if inverted:
        return alternatives([sequence([before, after]), sequence([no_before, no_after])])
    return alternatives([sequence([before, no_after]), sequence([no_before, after])])
