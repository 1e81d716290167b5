"""Grammars from a regular expression, and from a list of choices."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ...errors import GrammarError
from ..expression import NOTHING, Expression
from ..grammar import Grammar
from ..program import Lexeme, Program
from .lowering import lower, words
from .parser import Dialect, parse

MAX_CHOICES = 200_000
MAX_CHOICES_LENGTH = 1 << 23  # characters, all choices together


def regex(pattern: str, *, flags: int = 0, dialect: Dialect = "python") -> Grammar:
    """The texts that match `pattern` as a whole, as `re.fullmatch` has it; `flags` are those of Python's `re`.

    Alternatives are a union: `(in|int|integer)` gives all three. Raises GrammarError for what is malformed, empty, or
    cannot be followed token by token (back-references, conditions, recursion); its `path` is the offset.
    """
    expression = lower(parse(pattern, dialect, flags), "utf8")
    if expression == NOTHING:
        raise GrammarError(f"no text at all matches the regular expression {pattern[:80]!r}")
    return Grammar(_program(expression), "regex", pattern, {"flags": int(flags), "dialect": dialect})


def choices(options: Iterable[str]) -> Grammar:
    """Exactly one of these texts."""
    texts = (options,) if isinstance(options, str) else tuple(options)
    if not texts:
        raise GrammarError("there must be at least one choice")
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise GrammarError(f"a choice is a str, not {type(text).__name__}", f"choice {at}")
    if len(texts) > MAX_CHOICES or sum(map(len, texts)) > MAX_CHOICES_LENGTH:
        raise GrammarError(f"at most {MAX_CHOICES:,} choices of {MAX_CHOICES_LENGTH:,} characters together are read")
    expression = words(texts)
    if expression == NOTHING:
        raise GrammarError("none of the choices can be written: each holds half of a surrogate pair")
    return Grammar(_program(expression), "choices", json.dumps(texts))


def _program(expression: Expression) -> Program:
    return Program([Lexeme(expression)], 0)
