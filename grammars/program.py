"""A compiled grammar as plain data: what the front ends write, and what the machine runs token by token.

A program is a list of definitions that refer to each other by number. Nothing in it is unrolled: repeats, objects and
arrays keep their counts and sets as numbers, and the machine carries them along.

    Lexeme     a regular language over bytes                      "id": [0-9]+
    Rules      alternatives of sequences, recursive as they like  value -> object | array | ...
    Counted    a definition repeated, with a separator            item ("," item){2,1000}
    Object     a JSON object: properties, and their conditions
    Array      a JSON array: its places, and how many of which kind

Every definition is a language of byte strings; the program's language is `start`'s. Definitions may be nullable,
left recursive and ambiguous. A definition may be left out (None) and made when it is first reached: see `Program`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .expression import Expression

Symbol = int  # an index into Program.definitions


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A regular language. Ambiguity is kept: it may end wherever `expression` may (no longest match)."""

    expression: Expression


@dataclass(frozen=True, slots=True)
class Rules:
    """Any one of the alternatives, each a sequence of definitions; an empty sequence is the empty string."""

    alternatives: tuple[tuple[Symbol, ...], ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """`item` from `least` to `most` times (None: without end), `separator` between two of them when there is one."""

    item: Symbol
    least: int
    most: int | None
    separator: Symbol | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A property that the schema names. `key` is its whole quoted spelling(s), `value` what may follow the colon."""

    key: Symbol
    value: Symbol
    required: bool = False
    needs: frozenset[int] = frozenset()  # members that must be there if this one is (by index, transitive or not)


@dataclass(frozen=True, slots=True)
class Others:
    """A class of keys that are not named: `key` excludes every member's key and every other class's keys.

    At least `least` and at most `most` members of this class. The machine does not stop a key from coming twice
    unless `distinct`, which costs a memory of the keys used.
    """

    key: Symbol
    value: Symbol
    least: int = 0
    most: int | None = None
    distinct: bool = True


@dataclass(frozen=True, slots=True)
class Object:
    """opening (key colon value (comma key colon value)*)? closing, under conditions.

    Members come in the order listed when `ordered`, others after (or, when not, in any order and others anywhere);
    each at most once. From `least` to `most` members in all. The machine never enters a path that cannot end: a member
    is offered only while what is required, needed and counted can still be had.
    """

    opening: Symbol
    colon: Symbol
    comma: Symbol
    closing: Symbol
    members: tuple[Member, ...] = ()
    others: tuple[Others, ...] = ()
    least: int = 0
    most: int | None = None
    ordered: bool = True


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of array element that is counted: from `least` to `most` of them (`contains`)."""

    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One way to fill a place of an array: with `value`, counting as `kind` (an index into Array.kinds) or as none."""

    value: Symbol
    kind: int | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """opening (element (comma element)*)? closing: element i by one of `prefix[i]`, later ones by one of `rest`.

    From `least` to `most` elements. When `unique`, no element may equal an earlier one as a JSON value; every value
    must then be a Lexeme (scalars): the machine remembers what was written, in all its spellings.
    """

    opening: Symbol
    comma: Symbol
    closing: Symbol
    prefix: tuple[tuple[Place, ...], ...] = ()
    rest: tuple[Place, ...] = ()
    kinds: tuple[Kind, ...] = ()
    least: int = 0
    most: int | None = None
    unique: bool = False


Definition = Lexeme | Rules | Counted | Object | Array


@dataclass(slots=True)
class Program:
    """Definitions and where to start. `define`, when given, makes a missing (None) definition at first use: it may
    append new ones, and it raises GrammarError for what it cannot compile. `complete()` makes them all.
    `certain`: those that have a text for sure and can be compiled, so that they need not be made to find that out.
    `costly`: those that take longer to make than most."""

    definitions: list[Definition | None]
    start: Symbol
    define: Callable[[Symbol], Definition] | None = field(default=None, repr=False)
    certain: set[Symbol] = field(default_factory=set, repr=False, compare=False)
    costly: set[Symbol] = field(default_factory=set, repr=False, compare=False)

    def at(self, symbol: Symbol) -> Definition:
        """The definition, made now if it was not yet."""
        found = self.definitions[symbol]
        if found is None:
            if self.define is None:
                raise LookupError(f"definition {symbol} is missing and nobody makes it")
            found = self.definitions[symbol] = self.define(symbol)
        return found

    def complete(self, limit: int = 100_000) -> Program:
        """Make every definition now; afterwards the program is plain data. OverflowError when there are more than
        `limit`."""
        symbol = 0
        while symbol < len(self.definitions):
            if symbol >= limit:
                raise OverflowError(f"a grammar of more than {limit} definitions")
            self.at(symbol)
            symbol += 1
        self.define = None
        return self
