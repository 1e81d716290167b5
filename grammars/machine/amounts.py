"""How many different values there are for what must differ: array elements and keys that may not come twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from ...errors import GrammarError, GrammarTooLarge
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
from ..program import Array, Definition, Lexeme, Object, Others, Place, Program, Symbol
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
    cannot be reached makes the definition impossible instead of a dead end. Raises GrammarError for a place that may be
    left without a value by those before it, which only looking ahead could avoid.
    """
    definition = program.at(symbol)
    if isinstance(definition, Array) and definition.unique and definition.least > 1:
        return _bounded_array(program, definition, lexemes)
    if isinstance(definition, Object) and any(other.distinct for other in definition.others):
        others = tuple(_bounded_others(program, other, definition.least, lexemes) for other in definition.others)
        if others != definition.others:
            return replace(definition, others=others)
    return definition


def _bounded_array(program: Program, definition: Array, lexemes: Lexemes) -> Definition:
    limit = min(definition.least, COUNTED)
    everywhere = [place for places in (*definition.prefix, definition.rest) for place in places]
    amount = _amount(program, everywhere, limit, lexemes)
    if amount < limit:
        return definition if _at_most(definition.most, amount) else replace(definition, most=amount)
    prefix = definition.prefix[:limit]
    later = limit - len(prefix)  # places of the rest that must be filled
    for index, places in enumerate((*prefix, definition.rest) if later else prefix):
        rest = index == len(prefix)
        before = limit - 1 if rest else index
        values = _values(program, places, before + 1, lexemes)
        if values is None or len(values) > before:
            continue
        if rest and len(values) < later:
            return replace(definition, most=len(prefix) + len(values))
        sharing = sum(_can_be_one_of(program, other, values, lexemes) for other in prefix[:index])
        if len(values) <= sharing + (later - 1 if rest else 0):
            raise GrammarError(
                f"element {index} must differ from those before it, which may take all {len(values)} values that it "
                "can have; uniqueItems cannot be enforced here: give it more values, or say which goes where"
            )
    return definition


def _at_most(most: int | None, amount: int) -> bool:
    return most is not None and most <= amount


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
    amount = _amount(program, [Place(others.key)], limit, lexemes)
    return others if amount >= limit or _at_most(others.most, amount) else replace(others, most=amount)


def _amount(program: Program, places: Iterable[Place], limit: int, lexemes: Lexemes) -> int:
    values = _values(program, places, limit, lexemes)
    return limit if values is None else len(values)


def _values(program: Program, places: Iterable[Place], limit: int, lexemes: Lexemes) -> frozenset[bytes] | None:
    definitions = [program.at(place.value) for place in places]
    expressions = [one.expression for one in definitions if isinstance(one, Lexeme)]
    if len(expressions) < len(definitions):
        return None
    try:
        with lexemes.lock:
            return different_values(expressions, limit, lexemes)
    except GrammarTooLarge:  # then it is not known, and nothing is bounded
        return None


def _can_be_one_of(program: Program, places: Iterable[Place], values: Iterable[bytes], lexemes: Lexemes) -> bool:
    with lexemes.lock:
        ours = lexemes.either({lexemes.add(spellings(value)) for value in values})
        found = (program.at(place.value) for place in places)
        theirs = {lexemes.add(one.expression) for one in found if isinstance(one, Lexeme)}
        return lexemes.alive(lexemes.both({ours, lexemes.either(theirs)}))


def different_values(expressions: Iterable[Expression], limit: int, lexemes: Lexemes) -> frozenset[bytes] | None:
    """The different JSON scalars that these spell together, by `value_of`; None when there are `limit` or more."""
    node = lexemes.either({lexemes.add(one) for one in expressions})
    found = _strings(lexemes, lexemes.both({node, lexemes.add(_PLAIN)}), limit)
    if found is None:
        return None
    values = {value_of(one) for one in found}
    while len(values) < limit:  # those that have no plain spelling in it
        node = lexemes.both({node, *(lexemes.complement(lexemes.add(spellings(value))) for value in values)})
        another = _shortest(lexemes, node)
        if another is None:
            return frozenset(values)
        values.add(value_of(another))
    return None


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
