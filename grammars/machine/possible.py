"""Which definitions have any string at all, and which the empty one: least fixed points over what they refer to."""

from __future__ import annotations

from collections.abc import Callable

from ..program import Counted, Definition, Lexeme, Object, Rules, Symbol
from .amounts import Definitions
from .arrays import ArrayFrame
from .nodes import NOTHING
from .objects import ObjectFrame

Ask = Callable[[Symbol], bool]


class Decider:
    """Answers one question about definitions that is answered from the same question about their parts.

    The parts asked for are made; a part that the answer does not hang on is not. No recursion, so
    definitions may refer to each other as deeply as they like.
    """

    def __init__(self, definitions: Definitions, decide: Callable[[Definition, Ask], bool]) -> None:
        self._definitions = definitions
        self._decide = decide
        self._true: set[Symbol] = set()
        self._false: set[Symbol] = set()

    def __call__(self, root: Symbol) -> bool:
        if root in self._true or root in self._false:
            return root in self._true
        waiting: dict[Symbol, set[Symbol]] = {}
        seen, stack = {root}, [root]
        while stack and root not in self._true:
            symbol = stack.pop()
            if symbol in self._true:
                continue

            def ask(part: Symbol, symbol: Symbol = symbol, stack: list[Symbol] = stack) -> bool:
                if part in self._true or part in self._false:
                    return part in self._true
                waiting.setdefault(part, set()).add(symbol)
                if part not in seen:
                    seen.add(part)
                    stack.append(part)
                return False

            if self._decide(self._definitions.at(symbol), ask):
                self._true.add(symbol)
                stack += waiting.pop(symbol, ())
        if root not in self._true:
            self._false |= seen - self._true  # nothing is left that could make them true
        return root in self._true


def possible_in(definitions: Definitions) -> Decider:
    """Whether a definition has any string."""
    lexemes = definitions.lexemes

    def decide(definition: Definition, ask: Ask) -> bool:
        if isinstance(definition, Lexeme):
            return lexemes.add(definition.expression) != NOTHING
        if isinstance(definition, Rules):
            return any(all(ask(symbol) for symbol in alternative) for alternative in definition.alternatives)
        if isinstance(definition, Counted):
            return definition.least == 0 or (ask(definition.item) and _joined(definition, ask))
        frame = ObjectFrame(definition, ask) if isinstance(definition, Object) else ArrayFrame(definition, ask)
        return ask(definition.opening) and ask(definition.closing) and frame.completable()

    return Decider(definitions, decide)


def nullable_in(definitions: Definitions) -> Decider:
    """Whether a definition has the empty string. Objects and arrays have signs, and have not."""
    lexemes = definitions.lexemes

    def decide(definition: Definition, ask: Ask) -> bool:
        if isinstance(definition, Lexeme):
            return bool(lexemes.nullable[lexemes.add(definition.expression)])
        if isinstance(definition, Rules):
            return any(all(ask(symbol) for symbol in alternative) for alternative in definition.alternatives)
        if isinstance(definition, Counted):
            return definition.least == 0 or (ask(definition.item) and _joined(definition, ask))
        return False

    return Decider(definitions, decide)


def _joined(counted: Counted, ask: Ask) -> bool:
    return counted.separator is None or counted.least < 2 or ask(counted.separator)
