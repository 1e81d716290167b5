"""Where a definition stands and what may come next in it: small automata over definitions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from ..program import Counted, Rules, Symbol


@dataclass(frozen=True, slots=True)
class Way:
    """One way on from a position: `symbol` comes, and then the definition stands at `state`.

    `used` are values (see scalars.py) that this lexeme may not spell; when `recorded`, the state after it is
    `state.with_value(value)` of what it did spell.
    """

    symbol: Symbol
    state: Hashable
    used: frozenset[bytes] = frozenset()
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class Ways:
    """All ways on from a position, and whether the definition may end here."""

    ways: tuple[Way, ...]
    complete: bool = False


START: Hashable = None  # every definition's first state


def rules_ways(rules: Rules, state: Hashable) -> Ways:
    """A state is what is left of an alternative: alternatives with the same rest go on together."""
    if state is START:
        rests = dict.fromkeys(rules.alternatives)
    else:
        assert isinstance(state, tuple)
        rests = {state: None}
    return Ways(tuple(Way(rest[0], rest[1:]) for rest in rests if rest), () in rests)


@dataclass(frozen=True, slots=True)
class Repeated:
    """`done` items are written (not counted further than it matters); `between`: the separator comes next, or the end.

    `solid`: an item that was the empty string does not lead here.
    """

    done: int
    between: bool = False
    solid: bool = False


def counted_ways(counted: Counted, state: Hashable, nullable: bool) -> Ways:
    """`nullable`: whether items (and the separator) may be empty: then any count up to `most` will do, and only items
    that are not empty are counted, so that no count is run through without a byte being written."""
    place = state if isinstance(state, Repeated) else Repeated(0)
    least = 0 if nullable else counted.least
    complete = place.done >= least and (place.between or place.done == 0 or counted.separator is None)
    if counted.most is not None and place.done >= counted.most:
        return Ways((), complete)
    if place.between and counted.separator is not None:
        return Ways((Way(counted.separator, Repeated(place.done)),), complete)
    # x{n,} needs no count beyond n
    done = place.done + 1 if counted.most is not None else min(place.done + 1, max(least, 1))
    solid = nullable and counted.separator is None
    return Ways((Way(counted.item, Repeated(done, True, solid)),), complete)
