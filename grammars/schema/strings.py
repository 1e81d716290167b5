"""Sets of strings as expressions over the contents of a JSON string: patterns, formats, lengths, constants.

Two spellings. "written" is what a value is written with: printable ASCII raw, everything else raw or escaped. "json" is
every spelling that JSON allows; what is excluded is excluded in all of them. Questions (is there any such string, is
this one of them) are put in plain UTF-8, where the automata are small.
"""

from __future__ import annotations

from functools import lru_cache

from ...errors import GrammarError, GrammarTooLarge
from ..expression import ANYTHING, EMPTY, Expression, both, complement, concat, either, literal, repeat
from ..machine.lexemes import shared_lexemes
from ..patterns import Encoding, lower, parse, searched, universe
from ..patterns.characters import ANY_CHARACTER, one
from ..patterns.encoding import characters
from .formats import format_expression
from .shapes import Atom, Strings

_FEW = 100  # words
_DEEPEST = 100  # levels of a tree of words
QUOTE = literal(b'"')


def quoted(content: Expression) -> Expression:
    """A JSON string with that content."""
    return concat([QUOTE, content, QUOTE])


ANY_STRING_TEXT = quoted(universe("json"))


@lru_cache(4096)
def spelled(text: str, encoding: Encoding) -> Expression:
    """This text and no other; lone surrogates cannot be written."""
    if encoding == "written" and text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return literal(text.encode())
    return concat([_letter(character, encoding) for character in text])


@lru_cache(8192)
def _letter(character: str, encoding: Encoding) -> Expression:
    return characters(one(ord(character)), encoding)


def name_text(name: str) -> Expression:
    """A property's name as a JSON string."""
    if name.isascii() and name.isprintable() and '"' not in name and "\\" not in name:
        return literal(f'"{name}"'.encode())
    return quoted(spelled(name, "written"))


class PatternRefused(Exception):  # never seen by a user: see `Builder`
    """A pattern that cannot be followed; where it is written is known to who knows the schema."""

    def __init__(self, pattern: str, error: GrammarError) -> None:
        super().__init__(pattern)
        self.pattern = pattern
        self.error = error


@lru_cache(1024)
def matching(pattern: str, encoding: Encoding) -> Expression:
    """The texts in which `pattern` is found, in the dialect of JSON Schema. PatternRefused for what is not regular."""
    try:
        return lower(searched(_parsed(pattern)), encoding)
    except GrammarError as error:
        raise PatternRefused(pattern, error) from None


@lru_cache(1024)
def _parsed(pattern: str):  # type: ignore[no-untyped-def]
    try:
        return parse(pattern, "ecma")
    except GrammarTooLarge:
        raise
    except GrammarError:
        return parse(pattern, "python")


def atom_content(atom: Atom, encoding: Encoding) -> Expression:
    """The texts of a pattern or a format."""
    return matching(atom.text, encoding) if atom.kind == "pattern" else format_expression(atom.text, encoding)


def content(shape: Strings, encoding: Encoding) -> Expression:
    """The contents of strings of this shape. With `encoding` "written", free text still comes in every spelling."""
    # Lists of words may be long, and are seldom met again: they are not kept.
    return _content(shape, encoding) if shape.values is None and not shape.without else _made(shape, encoding)


@lru_cache(1024)
def _content(shape: Strings, encoding: Encoding) -> Expression:
    return _made(shape, encoding)


def _made(shape: Strings, encoding: Encoding) -> Expression:
    every: Encoding = "utf8" if encoding == "utf8" else "json"
    outside = [complement(atom_content(atom, every)) for atom in shape.outside]
    if shape.without:
        outside.append(complement(words(tuple(sorted(shape.without)), every)))
    if shape.values is not None:
        found = [words(shape.values, encoding)]
        found += [atom_content(atom, encoding) for atom in shape.inside]
        return both(found + outside)
    found = [atom_content(atom, encoding) for atom in shape.inside]
    if shape.least or shape.most is not None or not found:
        found.append(repeat(characters(ANY_CHARACTER, every), shape.least, shape.most))
    return both(found + outside)


def words(texts: tuple[str, ...], encoding: Encoding) -> Expression:
    """Any of these texts, as a tree by what they begin with."""
    # Long lists are seldom met again: they are not kept.
    return (_words if len(texts) <= _FEW else _words.__wrapped__)(texts, encoding)


@lru_cache(256)
def _words(texts: tuple[str, ...], encoding: Encoding) -> Expression:
    return _tree(sorted(set(texts)), 0, encoding, 0)


def _tree(texts: list[str], start: int, encoding: Encoding, depth: int) -> Expression:
    """What may follow `start` letters that all of these texts, which are in order, have in common."""
    if len(texts) == 1 or depth > _DEEPEST:
        return either(spelled(text[start:], encoding) for text in texts)
    first, last = texts[0], texts[-1]
    shared = start
    while shared < len(first) and shared < len(last) and first[shared] == last[shared]:
        shared += 1
    head = spelled(first[start:shared], encoding)
    ways: list[Expression] = []
    place = 0
    if len(first) == shared:
        ways.append(EMPTY)
        place = 1
    while place < len(texts):
        letter, begin = texts[place][shared], place
        while place < len(texts) and texts[place][shared] == letter:
            place += 1
        one = place - begin == 1
        ways.append(
            spelled(texts[begin][shared:], encoding) if one else _tree(texts[begin:place], shared, encoding, depth + 1)
        )
    return concat([head, either(ways)])


def accepts(expression: Expression, data: bytes) -> bool:
    """Whether `data` is in the language."""
    lexemes = shared_lexemes()
    with lexemes.lock:
        state = lexemes.add(expression)
        for byte in data:
            state = lexemes.step(state, byte)
        return bool(lexemes.nullable[state])


def contains_text(expression: Expression, text: str) -> bool:
    """Whether `text` is in a language of plain UTF-8; a text with a lone surrogate is in none but ANYTHING."""
    return expression == ANYTHING or accepts(expression, text.encode("utf-8", "surrogatepass"))
