"""The bodies of grammar rules as a tree: what every grammar notation is read into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..expression import EMPTY, Expression, concat, either, repeat

MAX_DEPTH = 60  # of groups within groups, and of expressions within expressions


@dataclass(frozen=True, slots=True, eq=False)
class Regular:
    """A regular language. `weight` is about how many nodes it has, `depth` how deep they nest."""

    expression: Expression
    weight: int = 1
    depth: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A use of another rule, `at` this offset in the grammar's text."""

    name: str
    at: int = 0
    depth: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class InOrder:
    """These, one after another."""

    parts: tuple[Body, ...]
    depth: int = field(default=0)


@dataclass(frozen=True, slots=True, eq=False)
class OneOf:
    """Any one of these."""

    options: tuple[Body, ...]
    depth: int = field(default=0)


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """`inner` from `least` to `most` times; most None: without end."""

    inner: Body
    least: int
    most: int | None
    depth: int = field(default=0)


Body = Regular | Reference | InOrder | OneOf | Times

NOTHING_MORE = Regular(EMPTY)


def in_order(parts: Iterable[Body]) -> Body:
    """These, one after another; neighbours that are regular become one."""
    found: list[Body] = []
    for part in parts:
        for one in part.parts if isinstance(part, InOrder) else (part,):
            if found and isinstance(one, Regular) and isinstance(found[-1], Regular):
                found[-1] = joined([found[-1], one])
            else:
                found.append(one)
    found = [one for one in found if not (isinstance(one, Regular) and one.expression == EMPTY)]
    if not found:
        return NOTHING_MORE
    return found[0] if len(found) == 1 else InOrder(tuple(found), _depth(found))


def one_of(options: Iterable[Body]) -> Body:
    """Any one of these; those that are regular become one."""
    flat = [one for option in options for one in (option.options if isinstance(option, OneOf) else (option,))]
    regular = [one for one in flat if isinstance(one, Regular)]
    found: list[Body] = [one for one in flat if not isinstance(one, Regular)]
    if regular:
        found.insert(0, united(regular))
    if len(found) > 1:
        return OneOf(tuple(found), _depth(found))
    return NOTHING_MORE if isinstance(found[0], Regular) and found[0].expression == EMPTY else found[0]


def times(inner: Body, least: int, most: int | None) -> Body:
    """`inner` from `least` to `most` times, without end when most is None."""
    if isinstance(inner, Regular):
        return Regular(repeat(inner.expression, least, most), inner.weight + 1, inner.depth + 1)
    if most == 0:
        return NOTHING_MORE
    return inner if (least, most) == (1, 1) else Times(inner, least, most, inner.depth + 1)


def joined(parts: list[Regular]) -> Regular:
    """Regular languages one after another, as one."""
    return Regular(concat(one.expression for one in parts), *_measure(parts))


def united(options: list[Regular]) -> Regular:
    """The union of regular languages."""
    return options[0] if len(options) == 1 else Regular(either(one.expression for one in options), *_measure(options))


def references(body: Body) -> Iterator[Reference]:
    """Every use of a rule in this body."""
    waiting = [body]
    while waiting:
        current = waiting.pop()
        if isinstance(current, Reference):
            yield current
        elif isinstance(current, InOrder):
            waiting += current.parts
        elif isinstance(current, OneOf):
            waiting += current.options
        elif isinstance(current, Times):
            waiting.append(current.inner)


def _measure(parts: list[Regular]) -> tuple[int, int]:
    return sum(one.weight for one in parts) + 1, _depth(parts)


def _depth(parts: Iterable[Body]) -> int:
    return 1 + max((one.depth for one in parts), default=0)
