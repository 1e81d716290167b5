"""The terms of the algebra: places in a schema, exact values, and what "all of", "any of" and "not" make of them.

A term is a small number. Equal terms have equal numbers, so that everything derived from a term (its normal form,
whether anything satisfies it, its definition in the program) is made once, and recursion through `$ref`, `allOf` and
`not` comes back to a number that was seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...errors import GrammarError

Term = int
TRUE: Term = 0
FALSE: Term = 1


@dataclass(frozen=True, slots=True)
class Node:
    """A subschema: an object of the document, the JSON pointer to it, and the resource (a base URI) it belongs to."""

    raw: dict[str, Any]
    pointer: str
    resource: int


@dataclass(frozen=True, slots=True)
class Value:
    """Exactly this JSON value."""

    value: Any
    pointer: str


@dataclass(frozen=True, slots=True)
class AllOf:
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class NotOf:
    term: Term


Meaning = Node | Value | AllOf | AnyOf | NotOf


class Terms:
    """All terms of one compilation. `limit` bounds their number: GrammarTooLarge beyond it."""

    def __init__(self) -> None:
        self.meanings: list[Meaning] = [AllOf(()), AnyOf(())]  # TRUE and FALSE
        self._numbers: dict[object, Term] = {("all", frozenset()): TRUE, ("any", frozenset()): FALSE}

    def node(self, raw: object, pointer: str, resource: int) -> Term:
        """The term of a subschema. GrammarError when it is neither an object nor a boolean."""
        if type(raw) is dict:
            if not raw:
                return TRUE
            key = id(raw)  # the document keeps `raw` alive, so its identity is its own
            found = self._numbers.get(key)
            if found is None:
                found = self._numbers[key] = len(self.meanings)
                self.meanings.append(Node(raw, pointer, resource))
            return found
        if raw is True or raw is False:
            return TRUE if raw else FALSE
        raise GrammarError(f"a schema is an object or a boolean, not {_shown(raw)}", pointer or "/")

    def value(self, value: Any, pointer: str) -> Term:
        """The term that only `value` satisfies."""
        return self._number(("value", _canonical(value)), Value(value, pointer))

    def all_of(self, terms: Iterable[Term]) -> Term:
        found: dict[Term, None] = {}
        for term in terms:
            meaning = self.meanings[term]
            if isinstance(meaning, AllOf):
                found.update(dict.fromkeys(meaning.terms))
            else:
                found[term] = None
        if FALSE in found or any(self._negated(term) in found for term in found):
            return FALSE
        if len(found) == 1:
            return next(iter(found))
        return self._number(("all", frozenset(found)), AllOf(tuple(found)))

    def any_of(self, terms: Iterable[Term]) -> Term:
        found: dict[Term, None] = {}
        for term in terms:
            meaning = self.meanings[term]
            if isinstance(meaning, AnyOf):
                found.update(dict.fromkeys(meaning.terms))
            else:
                found[term] = None
        if TRUE in found:
            return TRUE
        if len(found) == 1:
            return next(iter(found))
        return self._number(("any", frozenset(found)), AnyOf(tuple(found)))

    def negation(self, term: Term) -> Term:
        if term == TRUE:
            return FALSE
        if term == FALSE:
            return TRUE
        meaning = self.meanings[term]
        return meaning.term if isinstance(meaning, NotOf) else self._number(("not", term), NotOf(term))

    def _negated(self, term: Term) -> Term | None:
        meaning = self.meanings[term]
        return meaning.term if isinstance(meaning, NotOf) else None

    def _number(self, key: object, meaning: Meaning) -> Term:
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.meanings)
            self.meanings.append(meaning)
        return found


def _canonical(value: Any) -> object:
    """A hashable key that tells JSON values apart as JSON does: 1 is 1.0 and is not true."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return ("number", value)
    if isinstance(value, str):
        return ("string", value)
    if isinstance(value, list):
        return ("array", tuple(_canonical(item) for item in value))
    return ("object", frozenset((key, _canonical(item)) for key, item in value.items()))


canonical = _canonical


def _shown(raw: object) -> str:
    shown = repr(raw)
    return shown if len(shown) <= 60 else shown[:57] + "..."


shown = _shown
