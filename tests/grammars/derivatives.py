"""A judge of expressions that shares no code with the product: derivatives, written down as in the book."""

from __future__ import annotations

from functools import lru_cache

from ramify.grammars.expression import (
    EMPTY,
    NOTHING,
    Both,
    ByteSet,
    Concat,
    Either,
    Expression,
    Not,
    both,
    complement,
    concat,
    either,
    repeat,
)


def matches(expression: Expression, data: bytes) -> bool:
    """Whether the bytes are in the language."""
    for byte in data:
        expression = derivative(expression, byte)
    return takes_nothing(expression)


def takes_nothing(one: Expression) -> bool:
    if isinstance(one, ByteSet):
        return False
    if isinstance(one, Concat | Both):
        return all(map(takes_nothing, one.parts))
    if isinstance(one, Either):
        return any(map(takes_nothing, one.parts))
    if isinstance(one, Not):
        return not takes_nothing(one.inner)
    return one.least == 0 or takes_nothing(one.inner)


@lru_cache(100_000)
def derivative(one: Expression, byte: int) -> Expression:
    if isinstance(one, ByteSet):
        return EMPTY if one.bits >> byte & 1 else NOTHING
    if isinstance(one, Concat):
        ways = []
        for at, part in enumerate(one.parts):
            ways.append(concat([derivative(part, byte), *one.parts[at + 1 :]]))
            if not takes_nothing(part):
                break
        return either(ways)
    if isinstance(one, Either):
        return either([derivative(part, byte) for part in one.parts])
    if isinstance(one, Both):
        return both([derivative(part, byte) for part in one.parts])
    if isinstance(one, Not):
        return complement(derivative(one.inner, byte))
    least = 0 if takes_nothing(one.inner) else max(one.least - 1, 0)
    return concat([derivative(one.inner, byte), repeat(one.inner, least, None if one.most is None else one.most - 1)])
