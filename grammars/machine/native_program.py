"""Expressions and definitions as the numbers that the compiled core reads."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import lru_cache
from sys import byteorder

from ..expression import Both, ByteSet, Concat, Either, Expression, Not
from ..program import Array, Counted, Definition, Lexeme, Object, Place, Rules

NONE = 0xFFFFFFFF
HIGHEST = 0xFFFFFFF0  # counts beyond it are never reached by any text
ADD_SET, ADD_CONCAT, ADD_EITHER, ADD_BOTH, ADD_NOT, ADD_REPEAT, ADD_KNOWN = range(1, 8)
LEXEME, RULES, COUNTED, OBJECT, ARRAY = range(1, 6)


@lru_cache(4096)
def _set_code(bits: int) -> bytes:
    return ADD_SET.to_bytes(4, byteorder) + bits.to_bytes(32, "little")


def expression_code(
    expression: Expression, known: Callable[[Expression], int | None]
) -> tuple[array[int], list[Expression]]:
    """The expression in postfix order; parts that the core has already (`known` gives their number) by number.

    Also the parts that the core makes for it, in the order in which it does, without sets of bytes.
    """
    code = array("I")
    made: list[Expression] = []
    stack: list[Expression | None] = [expression]  # None: the parts of the one below are there
    while stack:
        one = stack.pop()
        if isinstance(one, ByteSet):
            code.frombytes(_set_code(one.bits))
            continue
        if one is not None:
            number = known(one)
            if number is not None:
                code.extend((ADD_KNOWN, number))
                continue
            stack += (one, None)
            if isinstance(one, Concat):
                stack += reversed(one.parts)
            elif isinstance(one, (Either, Both)):
                stack += one.parts
            else:
                stack.append(one.inner)
            continue
        one = stack.pop()
        assert one is not None and not isinstance(one, ByteSet)
        made.append(one)
        if isinstance(one, Concat):
            code.extend((ADD_CONCAT, len(one.parts)))
        elif isinstance(one, Either):
            code.extend((ADD_EITHER, len(one.parts)))
        elif isinstance(one, Both):
            code.extend((ADD_BOTH, len(one.parts)))
        elif isinstance(one, Not):
            code.append(ADD_NOT)
        else:
            code.extend((ADD_REPEAT, min(one.least, HIGHEST), _most(one.most)))
    return code, made


def definition_code(definition: Definition, expression: Callable[[Expression], int]) -> array[int]:
    """A definition; `expression` gives the core's number of a lexeme's expression."""
    if isinstance(definition, Lexeme):
        return array("I", (LEXEME, expression(definition.expression)))
    code = array("I")
    if isinstance(definition, Rules):
        code.extend((RULES, len(definition.alternatives)))
        for alternative in definition.alternatives:
            code.append(len(alternative))
            code.extend(alternative)
    elif isinstance(definition, Counted):
        separator = NONE if definition.separator is None else definition.separator
        code.extend((COUNTED, definition.item, _least(definition.least), _most(definition.most), separator))
    elif isinstance(definition, Object):
        _object(code, definition)
    else:
        _array(code, definition)
    return code


def _object(code: array[int], definition: Object) -> None:
    signs = (definition.opening, definition.colon, definition.comma, definition.closing)
    code.extend((OBJECT, *signs, _least(definition.least), _most(definition.most), definition.ordered))
    code.append(len(definition.members))
    for member in definition.members:
        code.extend((member.key, member.value, member.required, len(member.needs), *sorted(member.needs)))
    code.append(len(definition.others))
    for others in definition.others:
        code.extend((others.key, others.value, _least(others.least), _most(others.most), others.distinct))


def _array(code: array[int], definition: Array) -> None:
    signs = (definition.opening, definition.comma, definition.closing)
    code.extend((ARRAY, *signs, _least(definition.least), _most(definition.most), definition.unique))
    code.append(len(definition.kinds))
    for kind in definition.kinds:
        code.extend((_least(kind.least), _most(kind.most)))
    code.append(len(definition.prefix))
    for places in definition.prefix:
        _places(code, places)
    _places(code, definition.rest)


def _places(code: array[int], places: tuple[Place, ...]) -> None:
    code.append(len(places))
    for place in places:
        code.extend((place.value, NONE if place.kind is None else place.kind))


def _least(count: int) -> int:
    return min(count, HIGHEST)


def _most(count: int | None) -> int:
    return NONE if count is None else min(count, HIGHEST)
