"""How many different values there are for what must differ: array elements and keys that may not come twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from ...errors import GrammarTooLarge
from ..expression import (
    ANYTHING,
    EMPTY,
    Expression,
    both,
    byte_range,
    bytes_in,
    complement,
    concat,
    either,
    literal,
    repeat,
)
from ..program import Array, Definition, Lexeme, Object, Others, Program, Symbol
from .lexemes import Lexemes
from .nodes import NOTHING, Node
from .scalars import spellings, value_of

COUNTED = 1000  # values are counted no further
LEVELS = 2000  # nor through longer spellings

_DIGITS = byte_range(0x30, 0x39)
_WHOLE = either([literal(b"0"), concat([byte_range(0x31, 0x39), repeat(_DIGITS)])])
_FRACTION = concat([literal(b"."), repeat(_DIGITS), byte_range(0x31, 0x39)])
_NUMBER = concat([either([literal(b"-"), EMPTY]), _WHOLE, either([_FRACTION, EMPTY])])
_PLAIN = both(
    [
        complement(concat([ANYTHING, bytes_in(b"\\"), ANYTHING])),  # strings without escapes
        either([both([_NUMBER, complement(literal(b"-0"))]), complement(concat([bytes_in(b"-0123456789"), ANYTHING]))]),
    ]
)  # at most one spelling of any value


def bounded(program: Program, symbol: Symbol, lexemes: Lexemes) -> Definition:
    """The definition, with `most` lowered to what there are different values for.

    Of arrays whose elements must differ and of keys that must: where a least number is asked for, so that one which
    cannot be reached makes the definition impossible instead of a dead end. (A place of a prefix whose values are all
    taken by places before it is not foreseen.)
    """
    definition = program.at(symbol)
    if isinstance(definition, Array) and definition.unique and definition.least > 1:
        places = [place for places in (*definition.prefix, definition.rest) for place in places]
        limit = min(definition.least, COUNTED)
        amount = _amount(program, {place.value for place in places}, limit, lexemes)
        if amount < limit and (definition.most is None or amount < definition.most):
            return replace(definition, most=amount)
    if isinstance(definition, Object) and any(other.distinct for other in definition.others):
        others = tuple(_bounded_others(program, other, definition.least, lexemes) for other in definition.others)
        if others != definition.others:
            return replace(definition, others=others)
    return definition


class Definitions:
    """A program's definitions, bounded, each found once."""

    def __init__(self, program: Program, lexemes: Lexemes) -> None:
        self.lexemes = lexemes
        self._program = program
        self._found: dict[Symbol, Definition] = {}

    def at(self, symbol: Symbol) -> Definition:
        """The definition, made now if it was not yet."""
        found = self._found.get(symbol)
        if found is None:
            found = self._found[symbol] = bounded(self._program, symbol, self.lexemes)
        return found


def _bounded_others(program: Program, others: Others, least: int, lexemes: Lexemes) -> Others:
    limit = min(max(others.least, least), COUNTED)
    if not others.distinct or limit < 2:
        return others
    amount = _amount(program, {others.key}, limit, lexemes)
    enough = amount >= limit or (others.most is not None and others.most <= amount)
    return others if enough else replace(others, most=amount)


def _amount(program: Program, symbols: Iterable[Symbol], limit: int, lexemes: Lexemes) -> int:
    definitions = [program.at(symbol) for symbol in symbols]
    expressions = [one.expression for one in definitions if isinstance(one, Lexeme)]
    if len(expressions) < len(definitions):
        return limit
    try:
        with lexemes.lock:
            return different_values(expressions, limit, lexemes)
    except GrammarTooLarge:  # then it is not known, and not bounded
        return limit


def different_values(expressions: Iterable[Expression], limit: int, lexemes: Lexemes) -> int:
    """How many different JSON scalars these spell together, counted up to `limit`."""
    node = lexemes.either({lexemes.add(one) for one in expressions})
    found = _strings(lexemes, lexemes.both({node, lexemes.add(_PLAIN)}), limit)
    if found is None:
        return limit
    values = {value_of(one) for one in found}
    while len(values) < limit:  # those that have no plain spelling in it
        node = lexemes.both({node, *(lexemes.complement(lexemes.add(spellings(value))) for value in values)})
        another = _shortest(lexemes, node)
        if another is None:
            break
        values.add(value_of(another))
    return len(values)


def _strings(lexemes: Lexemes, node: Node, limit: int) -> list[bytes] | None:
    """All strings; None when there are `limit` of them, or more, or too long ones.

    Beginnings of one length differ, and each of them leads to a string, for no state is dead.
    """
    found: list[bytes] = []
    level: dict[bytes, Node] = {b"": node} if lexemes.alive(node) else {}
    for _ in range(LEVELS):
        found += [text for text, state in level.items() if lexemes.nullable[state]]
        following: dict[bytes, Node] = {}
        for text, state in level.items():
            onward = lexemes.onward(state)
            for byte in range(256):
                if onward >> byte & 1:
                    following[text + bytes((byte,))] = lexemes.step(state, byte)
            if len(found) + len(following) >= limit:
                return None
        if not following:
            return found
        level = following
    return None


def _shortest(lexemes: Lexemes, node: Node) -> bytes | None:
    """A shortest string."""
    came: dict[Node, bytes] = {node: b""} if lexemes.alive(node) else {}
    queue = deque(came)
    while queue:
        state = queue.popleft()
        if lexemes.nullable[state]:
            return came[state]
        for sample in lexemes.classes.samples[lexemes.partition(state)]:
            following = lexemes.step(state, sample)
            if following != NOTHING and following not in came:
                came[following] = came[state] + bytes((sample,))
                queue.append(following)
    return None
