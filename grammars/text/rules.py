"""Makes a program of a grammar's rules: regular ones become automata, dead ends are cut, the rest stays recursive."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...errors import GrammarError, GrammarTooLarge
from ..expression import EMPTY, NOTHING
from ..program import Counted, Definition, Lexeme, Program, Rules, Symbol
from .bodies import (
    MAX_DEPTH,
    Body,
    InOrder,
    OneOf,
    Reference,
    Regular,
    Times,
    in_order,
    one_of,
    references,
    times,
)

MAX_RULES = 100_000
MAX_WEIGHT = 4_000  # of an expression that rules are inlined into: beyond it, they stay rules


def program(rules: Mapping[str, Body], start: str, where: Callable[[int], str] = lambda at: "") -> Program:
    """The texts of the rule `start`. What cannot be reached from it is left out, and so is what can never end.

    `where` says for people what stands at an offset of the grammar's text.
    Raises GrammarError for a rule that is used but not defined, and when no text is in the language;
    GrammarTooLarge beyond `MAX_RULES`, and for groups that nest too deep.
    """
    if start not in rules:
        raise GrammarError(f"there is no rule {start!r} to start from; rules: {', '.join(list(rules)[:10])}")
    if len(rules) > MAX_RULES:
        raise GrammarTooLarge(f"a grammar of {len(rules):,} rules; at most {MAX_RULES:,} are read")
    reached = _reached(rules, start, where)
    simplified = _inlined(reached)
    living = _living(simplified)
    if start not in living:
        raise GrammarError(f"no text matches this grammar: every way through the rule {start!r} comes back to itself")
    return _Writer(simplified, living).program(start)


def _reached(rules: Mapping[str, Body], start: str, where: Callable[[int], str]) -> dict[str, Body]:
    found = {start: rules[start]}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        body = rules[name]
        if body.depth > MAX_DEPTH and not isinstance(body, Regular):
            raise GrammarTooLarge(f"groups that nest deeper than {MAX_DEPTH}; make rules of them", f"rule {name}")
        for use in references(body):
            if use.name not in rules:
                raise GrammarError(f"the rule {use.name!r} is used in {name!r} but not defined", where(use.at))
            if use.name not in found:
                found[use.name] = rules[use.name]
                waiting.append(use.name)
    return found


def _inlined(rules: dict[str, Body]) -> dict[str, Body]:
    """Rules with the small regular ones put in their place: bottom up, so that recursion stops it by itself."""
    open_uses = {name: {use.name for use in references(body)} for name, body in rules.items()}
    used_in: dict[str, list[str]] = {name: [] for name in rules}
    for name, uses in open_uses.items():
        for use in uses:
            used_in[use].append(name)
    found = dict(rules)
    ready = [name for name, uses in open_uses.items() if not uses]
    while ready:
        name = ready.pop()
        body = found[name] = _with_regular(found[name], found)
        if isinstance(body, Regular) and body.weight <= MAX_WEIGHT and body.depth < MAX_DEPTH:
            for user in used_in[name]:
                open_uses[user].discard(name)
                if not open_uses[user]:
                    ready.append(user)
    return {name: _with_regular(body, found) for name, body in found.items()}


def _with_regular(body: Body, rules: Mapping[str, Body]) -> Body:
    """The body with references to regular rules replaced by what they say, while that stays small."""
    if isinstance(body, Reference):
        target = rules[body.name]
        small = isinstance(target, Regular) and target.weight <= MAX_WEIGHT and target.depth < MAX_DEPTH
        return target if small else body
    if isinstance(body, InOrder):
        return in_order(_with_regular(part, rules) for part in body.parts)
    if isinstance(body, OneOf):
        return one_of(_with_regular(option, rules) for option in body.options)
    if isinstance(body, Times):
        return times(_with_regular(body.inner, rules), body.least, body.most)
    return body


def _living(rules: Mapping[str, Body]) -> set[str]:
    """The rules that have any text at all."""
    living: set[str] = set()
    used_in: dict[str, list[str]] = {}
    for name, body in rules.items():
        for use in references(body):
            used_in.setdefault(use.name, []).append(name)
    waiting = list(rules)
    while waiting:
        name = waiting.pop()
        if name not in living and _lives(rules[name], living):
            living.add(name)
            waiting += used_in.get(name, ())
    return living


def _lives(body: Body, living: set[str]) -> bool:
    if isinstance(body, Regular):
        return body.expression != NOTHING
    if isinstance(body, Reference):
        return body.name in living
    if isinstance(body, InOrder):
        return all(_lives(part, living) for part in body.parts)
    if isinstance(body, OneOf):
        return any(_lives(option, living) for option in body.options)
    return body.least == 0 or _lives(body.inner, living)


class _Writer:
    """Writes definitions, each rule's once."""

    def __init__(self, rules: Mapping[str, Body], living: set[str]) -> None:
        self._rules = rules
        self._living = living
        self._definitions: list[Definition | None] = []
        self._symbols: dict[str, Symbol] = {}
        self._lexemes: dict[object, Symbol] = {}
        self._waiting: list[str] = []

    def program(self, start: str) -> Program:
        first = self._rule(start)
        while self._waiting:
            name = self._waiting.pop()
            self._definitions[self._symbols[name]] = self._definition(self._rules[name])
        return Program(self._definitions, first)

    def _rule(self, name: str) -> Symbol:
        found = self._symbols.get(name)
        if found is None:
            found = self._symbols[name] = self._place(None)
            self._waiting.append(name)
        return found

    def _place(self, definition: Definition | None) -> Symbol:
        self._definitions.append(definition)
        return len(self._definitions) - 1

    def _definition(self, body: Body) -> Definition:
        if isinstance(body, Regular):
            return Lexeme(body.expression)
        if isinstance(body, Times):
            if not _lives(body.inner, self._living):
                return Lexeme(EMPTY)
            return Counted(self._symbol(body.inner), body.least, body.most)
        options = body.options if isinstance(body, OneOf) else (body,)
        return Rules(tuple(self._sequence(option) for option in options if _lives(option, self._living)))

    def _sequence(self, body: Body) -> tuple[Symbol, ...]:
        parts = body.parts if isinstance(body, InOrder) else (body,)
        return tuple(
            self._symbol(part) for part in parts if not (isinstance(part, Regular) and part.expression == EMPTY)
        )

    def _symbol(self, body: Body) -> Symbol:
        if isinstance(body, Reference):
            return self._rule(body.name)
        if isinstance(body, Regular):
            found = self._lexemes.get(body.expression)
            if found is None:
                found = self._lexemes[body.expression] = self._place(Lexeme(body.expression))
            return found
        return self._place(self._definition(body))
