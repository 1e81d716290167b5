"""What a regular expression says, as a tree over characters: the same for every dialect.

    a(b|c)*(?=d)    Sequence(Characters(a), Counted(Alternatives(Characters(b), Characters(c)), 0, None), Look(...))

Build the nodes through `sequence`, `alternatives` and `counted`: they drop what says nothing, so that a thousand
parentheses around a letter are that letter. Every node knows how deep it is, whether it is `plain` (no look in it), and
whether a quantifier in it is `lazy`: that changes no language, but it changes where a lexer would end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .characters import ANY_CHARACTER, CharacterSet


@dataclass(frozen=True, slots=True)
class Characters:
    """One character out of a set; out of the empty set: no match at all."""

    allowed: CharacterSet
    depth: int = field(default=0, compare=False)
    plain: bool = field(default=True, compare=False)
    lazy: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Sequence:
    """These, one after another; none of them: the empty string."""

    parts: tuple[Node, ...]
    depth: int = field(default=0, compare=False)
    plain: bool = field(default=True, compare=False)
    lazy: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Any one of these: their union, whatever their order."""

    options: tuple[Node, ...]
    depth: int = field(default=0, compare=False)
    plain: bool = field(default=True, compare=False)
    lazy: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Counted:
    """`inner` from `least` to `most` times; most None: without end."""

    inner: Node
    least: int
    most: int | None
    depth: int = field(default=0, compare=False)
    plain: bool = field(default=True, compare=False)
    lazy: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Look:
    """A place whose surroundings match `inner`: what follows it, or (when `behind`) what stands before it."""

    inner: Node
    behind: bool
    negative: bool
    depth: int = field(default=0, compare=False)
    plain: bool = field(default=False, compare=False)
    lazy: bool = field(default=False, compare=False)


Node = Characters | Sequence | Alternatives | Counted | Look

EMPTY_STRING = Sequence(())
ANY_TEXT = Counted(Characters(ANY_CHARACTER), 0, None)


def sequence(parts: Iterable[Node]) -> Node:
    """These, one after another."""
    flat: list[Node] = []
    depth, plain, lazy = 0, True, False
    for part in parts:
        inner = part.parts if isinstance(part, Sequence) else (part,)
        repeated = flat and inner and flat[-1] == inner[0] == ANY_TEXT  # any text, twice, is any text
        flat += inner[1:] if repeated else inner
        depth = max(depth, part.depth - isinstance(part, Sequence))
        plain, lazy = plain and part.plain, lazy or part.lazy
    return flat[0] if len(flat) == 1 else Sequence(tuple(flat), depth + 1, plain, lazy)


def alternatives(options: Iterable[Node]) -> Node:
    """Any one of these; single characters among them become one set."""
    flat: dict[Node, None] = {}
    allowed = None
    for option in options:
        for one in option.options if isinstance(option, Alternatives) else (option,):
            if isinstance(one, Characters):
                allowed = one.allowed if allowed is None else allowed | one.allowed
            else:
                flat[one] = None
    found = [*flat, Characters(allowed)] if allowed is not None else [*flat]
    if len(found) == 1:
        return found[0]
    return Alternatives(tuple(found), *_measure(found))


def counted(inner: Node, least: int, most: int | None, *, lazy: bool = False) -> Node:
    """`inner` from `least` to `most` times, without end when most is None; nested counts are merged where they can."""
    if isinstance(inner, Look):  # it takes nothing: once is as good as often
        return inner if least else EMPTY_STRING
    if (least, most) == (1, 1) or inner == EMPTY_STRING:
        return inner
    if most == 0:
        return EMPTY_STRING
    lazy = lazy or inner.lazy
    if isinstance(inner, Counted):
        low, high = inner.least, inner.most
        # i times from low to high is low*i to high*i; for i = least, least + 1, ... these must leave no gap
        gapless = low <= 1 if least == 0 else high is None or least * high + 1 >= (least + 1) * low
        if gapless or least == most:
            total = None if high is None or most is None else high * most
            return counted(inner.inner, low * least, total, lazy=lazy)
    return Counted(inner, least, most, inner.depth + 1, inner.plain, lazy)


def look(inner: Node, *, behind: bool = False, negative: bool = False) -> Node:
    """A place where `inner` does (or, when negative, does not) follow, or stand before."""
    return Look(inner, behind, negative, inner.depth + 1)


def searched(tree: Node) -> Node:
    """The texts in which `tree` matches somewhere, as `pattern` of JSON Schema means it."""
    return sequence([ANY_TEXT, tree, ANY_TEXT])


def _measure(parts: Iterable[Node]) -> tuple[int, bool, bool]:
    depth, plain, lazy = 0, True, False
    for part in parts:
        depth = max(depth, part.depth)
        plain, lazy = plain and part.plain, lazy or part.lazy
    return depth + 1, plain, lazy
