"""Shapes: what a schema says about values of one JSON type, as a conjunction; a schema is a few shapes for each type.

Every shape is a conjunction of independent statements, so "and" puts two lists of statements together, and "not" is
the disjunction of the statements' opposites (`algebra.py`). Values inside are terms, and stay unexpanded.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from .terms import FALSE, TRUE, Term


class Bound(NamedTuple):
    """One end of a range of numbers."""

    value: Fraction
    exclusive: bool


class Numbers(NamedTuple):
    """Numbers. `values`: only these (as the schema writes them); `without`: not these."""

    integer: bool = False
    fractional: bool = False  # not an integer
    low: Bound | None = None
    high: Bound | None = None
    steps: tuple[Fraction, ...] = ()
    not_steps: tuple[Fraction, ...] = ()
    values: tuple[int | float, ...] | None = None
    without: frozenset[int | float] = frozenset()


class Atom(NamedTuple):
    """A named set of strings: a pattern (searched, not anchored) or a format."""

    kind: str  # "pattern" or "format"
    text: str


class Strings(NamedTuple):
    """Strings; lengths count code points."""

    values: tuple[str, ...] | None = None
    without: frozenset[str] = frozenset()
    inside: tuple[Atom, ...] = ()
    outside: tuple[Atom, ...] = ()
    least: int = 0
    most: int | None = None


class Keys(NamedTuple):
    """A set of keys: those named, those that match a pattern, those whose name is in a term; or all but those."""

    names: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()
    parts: tuple[Keys, ...] = ()
    inverted: bool = False


ALL_KEYS = Keys(inverted=True)
NO_KEYS = Keys()


class Objects(NamedTuple):
    """Objects: every member that is called `named[i][0]` satisfies `named[i][1]`; every member whose key is in
    `classes[i][0]` satisfies `classes[i][1]`; for each of `exists`, some member whose key is in the first satisfies the
    second. `needs`: where the first key is, so is the second. `seen`: keys that were evaluated (for unevaluated*)."""

    named: tuple[tuple[str, Term], ...] = ()
    classes: tuple[tuple[Keys, Term], ...] = ()
    required: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    needs: tuple[tuple[str, str], ...] = ()
    exists: tuple[tuple[Keys, Term], ...] = ()
    seen: tuple[Keys, ...] = ()


class Contains(NamedTuple):
    """From `least` to `most` of the elements from index `start` on satisfy `term`."""

    term: Term
    least: int = 1
    most: int | None = None
    start: int = 0


class Arrays(NamedTuple):
    """Arrays: element i satisfies prefix[i], later ones `rest`. `seen`: how many first elements were evaluated (None:
    all); `seen_if`: an element that satisfies one of these was."""

    prefix: tuple[Term, ...] = ()
    rest: Term = TRUE
    least: int = 0
    most: int | None = None
    contains: tuple[Contains, ...] = ()
    unique: bool = False
    seen: int | None = 0
    seen_if: tuple[Term, ...] = ()


class Normal(NamedTuple):
    """A schema in normal form: for each JSON type, the values that satisfy it, as a union of shapes."""

    null: bool = False
    booleans: frozenset[bool] = frozenset()
    numbers: tuple[Numbers, ...] = ()
    strings: tuple[Strings, ...] = ()
    arrays: tuple[Arrays, ...] = ()
    objects: tuple[Objects, ...] = ()


BOTH_BOOLEANS = frozenset((False, True))
ANY_NUMBER = Numbers()
ANY_STRING = Strings()
ANY_ARRAY = Arrays()
ANY_OBJECT = Objects()
EVERYTHING = Normal(True, BOTH_BOOLEANS, (ANY_NUMBER,), (ANY_STRING,), (ANY_ARRAY,), (ANY_OBJECT,))
NOTHING_AT_ALL = Normal()
EMPTY_ARRAY = Arrays(rest=FALSE, most=0)
