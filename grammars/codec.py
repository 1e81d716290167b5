"""Programs as bytes and back: a versioned form that is checked when it is read, so a broken one is refused.

msgpack [VERSION, expressions, definitions, start]     an expression refers to earlier ones by their place
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgpack  # type: ignore[import-untyped]

from ..errors import GrammarError
from .expression import ByteSet, Concat, Either, Expression, Not, Repeat, both, complement, concat, either, repeat
from .program import Array, Counted, Definition, Kind, Lexeme, Member, Object, Others, Place, Program, Rules

VERSION = 1
MAX_NODES = 10_000_000

_BYTES, _CONCAT, _EITHER, _BOTH, _NOT, _REPEAT = range(6)
_LEXEME, _RULES, _COUNTED, _OBJECT, _ARRAY = range(5)


def encode(program: Program) -> bytes:
    """The program as bytes; definitions that are not made yet are made."""
    program.complete()
    table = _Table()
    definitions = [_written(definition, table) for definition in program.definitions if definition is not None]
    packed: bytes = msgpack.packb([VERSION, table.rows, definitions, program.start])
    return packed


def decode(data: bytes) -> Program:
    """The program that `encode` wrote. Raises GrammarError for bytes of another version or of no program."""
    try:
        version, rows, definitions, start = msgpack.unpackb(data, max_array_len=MAX_NODES, max_bin_len=64)
        if version != VERSION:
            raise GrammarError(f"a compiled grammar of version {version!r}; this is version {VERSION}: compile it anew")
        reader = _Reader(_expressions(rows), len(definitions))
        return Program([reader.definition(row) for row in definitions], reader.symbol(start))
    except (ValueError, TypeError, IndexError, KeyError, msgpack.UnpackException) as error:
        if isinstance(error, GrammarError):
            raise
        raise GrammarError(f"these bytes are no compiled grammar: {error}") from None


class _Table:
    """Expressions as rows, each once, each after its parts; without recursion, for they may be deep."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._places: dict[Expression, int] = {}

    def place(self, expression: Expression) -> int:
        places, waiting = self._places, [expression]
        while waiting:
            current = waiting[-1]
            if current not in places:
                missing = [part for part in _parts(current) if part not in places]
                if missing:
                    waiting += missing
                    continue
                places[current] = len(self.rows)
                self.rows.append(self._row(current))
            waiting.pop()
        return places[expression]

    def _row(self, one: Expression) -> Any:
        if isinstance(one, ByteSet):
            return [_BYTES, one.bits.to_bytes(32, "little")]
        if isinstance(one, Not):
            return [_NOT, self._places[one.inner]]
        if isinstance(one, Repeat):
            return [_REPEAT, self._places[one.inner], _number(one.least), _number(one.most)]
        places = [self._places[part] for part in one.parts]
        if isinstance(one, Concat):
            return [_CONCAT, places]
        return [_EITHER if isinstance(one, Either) else _BOTH, sorted(places)]


def _parts(one: Expression) -> Iterable[Expression]:
    if isinstance(one, ByteSet):
        return ()
    return (one.inner,) if isinstance(one, Not | Repeat) else one.parts


def _expressions(rows: Any) -> list[Expression]:
    found: list[Expression] = []
    several: dict[int, Callable[[Iterable[Expression]], Expression]] = {_CONCAT: concat, _EITHER: either, _BOTH: both}
    for kind, value, *counts in rows:
        if kind == _BYTES:
            if len(value) != 32:
                raise ValueError("a set of bytes that is not 32 bytes long")
            found.append(ByteSet(int.from_bytes(value, "little")))
        elif kind in several:
            found.append(several[kind]([found[_index(place, len(found))] for place in value]))
        elif kind == _NOT:
            found.append(complement(found[_index(value, len(found))]))
        elif kind == _REPEAT:
            least, most = counts
            found.append(repeat(found[_index(value, len(found))], _count(least), _limit(most)))
        else:
            raise ValueError(f"an expression of kind {kind!r}")
    return found


def _written(definition: Definition, table: _Table) -> list[Any]:
    if isinstance(definition, Lexeme):
        return [_LEXEME, table.place(definition.expression)]
    if isinstance(definition, Rules):
        return [_RULES, definition.alternatives]
    if isinstance(definition, Counted):
        return [_COUNTED, definition.item, _number(definition.least), _number(definition.most), definition.separator]
    if isinstance(definition, Object):
        one = definition
        members = [[each.key, each.value, each.required, sorted(each.needs)] for each in one.members]
        others = [[each.key, each.value, _number(each.least), _number(each.most), each.distinct] for each in one.others]
        around = [one.opening, one.colon, one.comma, one.closing]
        return [_OBJECT, around, members, others, _number(one.least), _number(one.most), one.ordered]
    return [
        _ARRAY,
        [definition.opening, definition.comma, definition.closing],
        [[[place.value, place.kind] for place in places] for places in definition.prefix],
        [[place.value, place.kind] for place in definition.rest],
        [[_number(kind.least), _number(kind.most)] for kind in definition.kinds],
        _number(definition.least),
        _number(definition.most),
        definition.unique,
    ]


class _Reader:
    """Definitions out of rows, every reference checked."""

    def __init__(self, expressions: list[Expression], definitions: int) -> None:
        self._expressions = expressions
        self._definitions = definitions

    def symbol(self, value: Any) -> int:
        return _index(value, self._definitions)

    def definition(self, row: Any) -> Definition:
        kind, *fields = row
        make = (self._lexeme, self._rules, self._counted, self._object, self._array)[_index(kind, 5)]
        return make(*fields)

    def _lexeme(self, place: Any) -> Definition:
        return Lexeme(self._expressions[_index(place, len(self._expressions))])

    def _rules(self, alternatives: Any) -> Definition:
        return Rules(tuple(tuple(self.symbol(one) for one in sequence) for sequence in alternatives))

    def _counted(self, item: Any, least: Any, most: Any, separator: Any) -> Definition:
        between = None if separator is None else self.symbol(separator)
        return Counted(self.symbol(item), _count(least), _limit(most), between)

    def _object(self, around: Any, members: Any, others: Any, least: Any, most: Any, ordered: Any) -> Definition:
        opening, colon, comma, closing = map(self.symbol, around)
        return Object(
            opening,
            colon,
            comma,
            closing,
            tuple(
                Member(
                    self.symbol(key),
                    self.symbol(value),
                    _flag(required),
                    frozenset(_index(need, len(members)) for need in needs),
                )
                for key, value, required, needs in members
            ),
            tuple(
                Others(self.symbol(key), self.symbol(value), _count(low), _limit(high), _flag(distinct))
                for key, value, low, high, distinct in others
            ),
            _count(least),
            _limit(most),
            _flag(ordered),
        )

    def _array(self, around: Any, prefix: Any, rest: Any, kinds: Any, least: Any, most: Any, unique: Any) -> Definition:
        opening, comma, closing = map(self.symbol, around)

        def places(row: Any) -> tuple[Place, ...]:
            return tuple(
                Place(self.symbol(value), None if kind is None else _index(kind, len(kinds))) for value, kind in row
            )

        return Array(
            opening,
            comma,
            closing,
            tuple(places(row) for row in prefix),
            places(rest),
            tuple(Kind(_count(low), _limit(high)) for low, high in kinds),
            _count(least),
            _limit(most),
            _flag(unique),
        )


def _number(value: int | None) -> int | str | None:
    """A count; one beyond msgpack's numbers as its digits."""
    return value if value is None or value < 2**63 else str(value)


def _count(value: Any) -> int:
    number = int(value) if isinstance(value, str) and len(value) < 1000 else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"{value!r} is not a count")
    return number


def _limit(value: Any) -> int | None:
    return None if value is None else _count(value)


def _index(value: Any, size: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < size:
        raise ValueError(f"{value!r} refers to nothing")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value
