"""Expressions and definitions as the numbers that the compiled core reads."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from functools import lru_cache
from sys import byteorder

from ..expression import Both, ByteSet, Concat, Either, Expression, Not, Repeat
from ..program import Array, Counted, Object, Place, Rules

NONE = 0xFFFFFFFF
HIGHEST = 0xFFFFFFF0  # counts beyond it are never reached by any text
ADD_SET, ADD_CONCAT, ADD_EITHER, ADD_BOTH, ADD_NOT, ADD_REPEAT, ADD_KNOWN, ADD_MADE, ADD_TEXT = range(1, 10)
LEXEME, RULES, COUNTED, OBJECT, ARRAY = range(1, 6)


@lru_cache(4096)
def _set_code(bits: int) -> bytes:
    return ADD_SET.to_bytes(4, byteorder) + bits.to_bytes(32, "little")


class ExpressionBatch:
    """Expressions in postfix order, one after another; those that the core has already (`known` gives their numbers)
    by number.

    `code` is for the core. `made` holds what the core makes of it, and the places in its answer: everything but sets of
    bytes, each once.
    """

    def __init__(self, known: Mapping[Expression, int]) -> None:
        self.code = array("I")
        self.made: dict[Expression, int] = {}
        self._known = known

    def add(self, expression: Expression) -> None:
        """One more; afterwards it is in `made` or in `known`."""
        code, made, known = self.code, self.made, self._known.get
        if type(expression) is Concat and expression.text is not None:  # as most are: a property's name
            if known(expression) is None and expression not in made:
                self._add_text(expression, expression.text)
            return
        if isinstance(expression, ByteSet):
            if known(expression) is None and expression not in made:
                code.frombytes(_set_code(expression.bits))
                code.extend((ADD_CONCAT, 1))
                made[expression] = len(made)
            return
        stack: list[Expression | None] = [expression]  # None: the parts of the one below are there
        while stack:
            one = stack.pop()
            if type(one) is ByteSet:
                code.frombytes(_set_code(one.bits))
            elif one is None:
                one = stack.pop()
                assert one is not None
                code.extend(_operation(one))
                made[one] = len(made)
            elif (number := known(one)) is not None:
                code.extend((ADD_KNOWN, number))
            elif (number := made.get(one)) is not None:
                code.extend((ADD_MADE, number))
            elif type(one) is Concat:
                if one.text is not None:
                    self._add_text(one, one.text)
                else:
                    stack += (one, None, *reversed(one.parts))
            elif isinstance(one, (Either, Both)):
                stack += (one, None, *one.parts)
            else:
                assert isinstance(one, (Not, Repeat))
                stack += (one, None, one.inner)

    def _add_text(self, one: Expression, text: bytes) -> None:
        self.code.extend((ADD_TEXT, len(text)))
        self.code.frombytes(text + bytes(-len(text) % 4))
        self.made[one] = len(self.made)


def _operation(one: Expression) -> tuple[int, ...]:
    """What makes an expression of its parts."""
    if isinstance(one, Concat):
        return ADD_CONCAT, len(one.parts)
    if isinstance(one, Either):
        return ADD_EITHER, len(one.parts)
    if isinstance(one, Both):
        return ADD_BOTH, len(one.parts)
    if isinstance(one, Not):
        return (ADD_NOT,)
    assert isinstance(one, Repeat)
    return ADD_REPEAT, min(one.least, HIGHEST), _most(one.most)


def definition_code(definition: Rules | Counted | Object | Array) -> list[int]:
    """A definition, but for lexemes: those are LEXEME and the core's number of their expression."""
    if isinstance(definition, Rules):
        code = [RULES, len(definition.alternatives)]
        for alternative in definition.alternatives:
            code.append(len(alternative))
            code += alternative
    elif isinstance(definition, Counted):
        separator = NONE if definition.separator is None else definition.separator
        code = [COUNTED, definition.item, _least(definition.least), _most(definition.most), separator]
    elif isinstance(definition, Object):
        code = _object(definition)
    else:
        code = _array(definition)
    return code


def _object(definition: Object) -> list[int]:
    signs = (definition.opening, definition.colon, definition.comma, definition.closing)
    code = [OBJECT, *signs, _least(definition.least), _most(definition.most), definition.ordered]
    code.append(len(definition.members))
    for member in definition.members:
        if member.needs:
            code += (member.key, member.value, member.required, len(member.needs), *sorted(member.needs))
        else:
            code += (member.key, member.value, member.required, 0)
    code.append(len(definition.others))
    for others in definition.others:
        code += (others.key, others.value, _least(others.least), _most(others.most), others.distinct)
    return code


def _array(definition: Array) -> list[int]:
    signs = (definition.opening, definition.comma, definition.closing)
    code = [ARRAY, *signs, _least(definition.least), _most(definition.most), definition.unique]
    code.append(len(definition.kinds))
    for kind in definition.kinds:
        code += (_least(kind.least), _most(kind.most))
    code.append(len(definition.prefix))
    for places in definition.prefix:
        code += _places(places)
    return code + _places(definition.rest)


def _places(places: tuple[Place, ...]) -> list[int]:
    code = [len(places)]
    for place in places:
        code += (place.value, NONE if place.kind is None else place.kind)
    return code


def _least(count: int) -> int:
    return min(count, HIGHEST)


def _most(count: int | None) -> int:
    return NONE if count is None else min(count, HIGHEST)
