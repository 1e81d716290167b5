"""Grammars from texts in three notations, told apart when need be."""

from __future__ import annotations

import re
from typing import Literal

from ...errors import GrammarError
from ..grammar import Grammar
from .bnf import read_bnf
from .lark import read_lark

Notation = Literal["lark", "gbnf"]

_BNF_RULE = re.compile(r"^\s*[A-Za-z_][\w.-]*\s*::=", re.MULTILINE | re.ASCII)
_LARK_RULE = re.compile(r"^\s*(%\w+|[!?]*[A-Za-z_]\w*(\s*\{[^}\n]*\})?(\.-?\d+)?\s*:(?!:))", re.MULTILINE | re.ASCII)


def notation(text: str) -> Notation:
    """Which notation this is: rules of `name ::= ...`, or Lark's `name: ...`. Raises GrammarError for neither."""
    if not isinstance(text, str):
        raise GrammarError(f"a grammar is a str, not {type(text).__name__}")
    if _BNF_RULE.search(text):
        return "gbnf"
    if _LARK_RULE.search(text):
        return "lark"
    raise GrammarError("neither rules of `name ::= ...` nor Lark's `name: ...` are in this grammar", "line 1, column 1")


def ebnf(text: str, *, start: str | None = None) -> Grammar:
    """The texts of a context-free grammar: GBNF or other EBNF (`root ::= ...`), or Lark's (`start: ...`).

    `start`: the rule to start from, "root" or "start" unless said. Raises GrammarError, with line and column, for what
    is malformed, refers to what is not there, or has no texts.
    """
    return lark(text, start=start or "start") if notation(text) == "lark" else gbnf(text, start=start or "root")


def gbnf(text: str, *, start: str = "root") -> Grammar:
    """The texts of a grammar of `name ::= ...` rules; see `read_bnf`."""
    return Grammar(read_bnf(text, start), "gbnf", text, {"start": start})


def lark(text: str, *, start: str = "start") -> Grammar:
    """The texts of a grammar in Lark's notation; see `read_lark`."""
    return Grammar(read_lark(text, start), "lark", text, {"start": start})
