"""Gives the compiled core a grammar's definitions: those that it asks for, and what it will ask for next, together."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ...errors import GrammarError
from ..expression import Expression
from ..joining import symbols as symbols_in
from ..program import Definition, Lexeme, Program, Symbol
from .amounts import Definitions
from .lexemes import shared_lexemes
from .native_program import LEXEME, ExpressionBatch, definition_code

MOST_LEXEMES = 512  # that are given before they are asked for, each time
FIRST = 160  # what may be given with the first ones that are asked for, a lexeme counting for one
LATER = 48  # and with others
USUAL, COSTLY = 4, 32  # what other definitions count for, and those that take long to make


class DefinitionGiver:
    """What the core has of one grammar, and more of it. For one thread at a time.

    `tell` calls a function of the core's about this grammar; `known` has the numbers of expressions. Whatever comes
    ahead of a need saves the core a beginning: each need ends its call, which is made anew.
    """

    def __init__(self, program: Program, tell: Callable[..., None], functions: Any) -> None:
        self._program = program
        self._definitions = Definitions(program, shared_lexemes())
        self._tell = tell
        self._expressions = functions.ramify_expressions
        self._define = functions.ramify_define
        self._made: set[Symbol] = set()
        self._certain: set[Symbol] = set()  # those of which the core was told so
        self._refused: set[Symbol] = set()  # those that cannot be made, should nobody need them
        self._frontier: deque[Definition] = deque()  # made; their own parts may not be
        self._ahead = FIRST

    def give(self, needed: Iterable[Symbol], known: dict[Expression, int]) -> None:
        """Make what is needed, and some of what that refers to. What is certain to have a text is said to have one, and
        made when that was not what was needed."""
        found: dict[Symbol, Definition] = {}
        said: list[Symbol] = []
        for symbol in needed:
            if symbol in self._program.certain and symbol not in self._certain and symbol != self._program.start:
                said.append(symbol)
                self._certain.add(symbol)
            elif symbol not in self._made:
                found[symbol] = self._definitions.at(symbol)
        self._add_ahead(found, said)
        self._send(found, said, known)

    def _add_ahead(self, found: dict[Symbol, Definition], said: list[Symbol]) -> None:
        """More definitions, breadth first from those found, and then from earlier ones; lexemes, which are there
        already, of those that are needed in any case."""
        definitions, certain, made = self._program.definitions, self._program.certain, self._made
        left = self._ahead
        # Doubled, 20,000 rules are not quadratic.
        self._ahead = LATER if self._program.define is not None else self._ahead * 2
        queue, needed, lexemes = deque(found.values()), len(found), MOST_LEXEMES
        while queue or (left > 0 and self._frontier):
            definition = queue.popleft() if queue else self._frontier.popleft()
            needed -= 1
            complete = True
            for part in symbols_in(definition):
                if part in made or part in found:
                    continue
                there = definitions[part]
                if type(there) is Lexeme and (left > 0 or needed >= 0) and lexemes > 0:
                    lexemes -= 1
                    left -= needed < 0
                    found[part] = there
                elif left > 0 and part not in self._refused:
                    left -= COSTLY if part in self._program.costly else USUAL
                    try:
                        found[part] = self._definitions.at(part)
                    except GrammarError:
                        if self._program.define is None:  # made as a whole: nothing is gained by refusing it later
                            raise
                        self._refused.add(part)  # raised again should the core come there
                        continue
                    queue.append(found[part])
                else:
                    complete = False
                    if part in certain and part not in self._certain:
                        said.append(part)
                        self._certain.add(part)
            if not complete:
                self._frontier.append(definition)

    def _send(self, found: dict[Symbol, Definition], said: list[Symbol], known: dict[Expression, int]) -> None:
        batch = ExpressionBatch(known)
        for definition in found.values():
            if type(definition) is Lexeme and definition.expression not in known:
                batch.add(definition.expression)
        self.make(batch, known)
        numbers: list[int] = []
        for symbol, definition in found.items():
            if isinstance(definition, Lexeme):
                numbers += (symbol, 2, LEXEME, known[definition.expression])
            else:
                one = definition_code(definition)
                numbers += (symbol, len(one))
                numbers += one
        for symbol in said:
            numbers += (symbol, 0)
        if numbers:
            code = array("I", numbers)
            self._tell(self._define, code.buffer_info()[0], len(code))
        self._made.update(found)

    def make(self, batch: ExpressionBatch, known: dict[Expression, int]) -> None:
        """Have the core make expressions; afterwards `known` has their numbers."""
        if batch.made:
            numbers = array("I", bytes(4 * len(batch.made)))
            self._tell(self._expressions, batch.code.buffer_info()[0], len(batch.code), numbers.buffer_info()[0])
            known.update(zip(batch.made, numbers, strict=True))
