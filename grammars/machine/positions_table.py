"""The positions of one program, each kept once, with the ways on from it that lead to a complete text."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from ..program import Array, Counted, Definition, Lexeme, Object, Program, Rules, Symbol
from .amounts import Definitions
from .arrays import ArrayFrame, ArrayState
from .arrays import Phase as ArrayPhase
from .lexemes import Lexemes
from .nodes import NOTHING, Node
from .objects import ObjectFrame, ObjectState
from .objects import Phase as ObjectPhase
from .positions import START, Repeated, Ways, counted_ways, rules_ways
from .possible import nullable_in, possible_in
from .scalars import spellings, value_of


class Position:
    """A definition at a state of its own. One object each, so compared by identity."""

    __slots__ = ("complete", "solid", "state", "steps", "symbol")

    def __init__(self, symbol: Symbol, state: Hashable) -> None:
        self.symbol = symbol
        self.state = state
        self.solid = isinstance(state, Repeated) and state.solid
        self.steps: tuple[Step, ...] | None = None  # until PositionTable.opened
        self.complete = False


class Step(NamedTuple):
    """A way on that leads somewhere: through a lexeme's automaton (from state `lexeme`), or through a definition."""

    lexeme: Node  # NOTHING when it is a definition
    symbol: Symbol
    target: Position
    recorded: bool


class PositionTable:
    """Every position of a program, and the steps from it.

    Only steps that lead to a complete text are given: through definitions that have strings, and, of objects and
    arrays, to states that can be completed. So a text that was accepted so far can always be finished. A lexeme whose
    values must differ from earlier ones is intersected with the complement of all their spellings.
    """

    def __init__(self, program: Program, lexemes: Lexemes) -> None:
        self.lexemes = lexemes
        self._definitions = Definitions(program, lexemes)
        self.possible = possible_in(self._definitions)
        self._nullable = nullable_in(self._definitions)
        self._positions: dict[tuple[Symbol, Hashable], Position] = {}
        self._frames: dict[Symbol, ObjectFrame | ArrayFrame] = {}
        self._distinct: dict[tuple[Symbol, frozenset[bytes]], Node] = {}

    def at(self, symbol: Symbol, state: Hashable = START) -> Position:
        """The one position there is for these."""
        key = (symbol, state)
        found = self._positions.get(key)
        if found is None:
            found = self._positions[key] = Position(symbol, state)
        return found

    def with_value(self, position: Position, content: bytes) -> Position:
        """The position behind a recorded lexeme that spelled `content`."""
        state = position.state
        assert isinstance(state, (ObjectState, ArrayState))
        return self.at(position.symbol, state.with_value(value_of(content)))

    def steps(self, position: Position) -> tuple[Step, ...]:
        """The steps from it; afterwards `position.complete` is known, too."""
        if position.steps is None:
            ways = self._ways(position)
            position.complete = ways.complete
            found = []
            for way in ways.ways:
                lexeme = self._lexeme(way.symbol, way.used)
                if self.possible(way.symbol) if lexeme is None else lexeme != NOTHING:
                    target = self.at(position.symbol, way.state)
                    if not self._used_up(target):
                        found.append(Step(lexeme or NOTHING, way.symbol, target, way.recorded))
            position.steps = tuple(found)
        return position.steps

    def _used_up(self, position: Position) -> bool:
        """Whether a comma would lead here and all values that may follow it have been written already."""
        state = position.state
        if not isinstance(state, (ObjectState, ArrayState)) or not state.used:
            return False
        return state.phase in (ObjectPhase.KEY, ArrayPhase.ELEMENT) and not self.steps(position)

    def is_end(self, position: Position) -> bool:
        """Whether nothing comes after it but its definition's completion (False: not known without more work)."""
        if isinstance(position.state, Repeated):
            return not self.steps(position) and position.complete
        return position.state == ()

    def _ways(self, position: Position) -> Ways:
        symbol, state = position.symbol, position.state
        definition = self._definitions.at(symbol)
        if isinstance(definition, Rules):
            if state is START:
                kept = (way for way in definition.alternatives if all(self.possible(part) for part in way))
                return rules_ways(Rules(tuple(kept)), state)
            return rules_ways(definition, state)
        if isinstance(definition, Counted):
            return counted_ways(definition, state, self._items_may_be_empty(definition))
        if isinstance(definition, Lexeme):
            return rules_ways(Rules(((symbol,),)), state)
        return self._frame(symbol, definition).ways(state)

    def _items_may_be_empty(self, counted: Counted) -> bool:
        return self._nullable(counted.item) and (counted.separator is None or self._nullable(counted.separator))

    def _frame(self, symbol: Symbol, definition: Object | Array) -> ObjectFrame | ArrayFrame:
        found = self._frames.get(symbol)
        if found is None:
            kind = ObjectFrame if isinstance(definition, Object) else ArrayFrame
            found = self._frames[symbol] = kind(definition, self.possible)  # type: ignore[arg-type]
        return found

    def _lexeme(self, symbol: Symbol, used: frozenset[bytes]) -> Node | None:
        """A lexeme's first state, without the values used; None for a definition of another kind."""
        definition: Definition = self._definitions.at(symbol)
        if not isinstance(definition, Lexeme):
            return None
        node = self.lexemes.add(definition.expression)
        if not used:
            return node
        found = self._distinct.get((symbol, used))
        if found is None:
            lexemes = self.lexemes
            spelled = (lexemes.add(spellings(value)) for value in used)
            others = {lexemes.complement(one) for one in spelled if lexemes.first[one] & lexemes.first[node]}
            found = lexemes.both({node, *others})
            found = self._distinct[symbol, used] = found if lexemes.alive(found) else NOTHING
        return found
