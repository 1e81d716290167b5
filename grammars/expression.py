"""Byte-level regular expressions as immutable values: what every regular part of a grammar is lowered to.

Built only through the functions below, which keep them in one normal form, so that equal languages written in similar
ways are often the same object and everything behind them (automata, masks) is shared. Counted repeats are never
unrolled: `repeat(x, 0, 10**9)` is one node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter


class _Hashed:
    """Keeps its hash, equal in every process: trees are hashed over and over as parts of others, and may be deep."""

    __slots__ = ("_hash",)
    _hash: int

    def _keep_hash(self, value: int) -> None:
        object.__setattr__(self, "_hash", value)

    def __hash__(self) -> int:
        return self._hash


_hash_of = attrgetter("_hash")  # quicker than hash() of a long tuple of expressions, which asks each one in Python


@dataclass(frozen=True, slots=True)
class ByteSet(_Hashed):
    """One byte out of a set; bit b of `bits` says whether byte b is in it. The empty set is NOTHING."""

    bits: int
    __hash__ = _Hashed.__hash__

    def __post_init__(self) -> None:
        self._keep_hash(hash(self.bits))


@dataclass(frozen=True, slots=True)
class Concat(_Hashed):
    """These, one after another; no part is itself a Concat. The empty one is EMPTY, the empty string. `text`: the only
    string in it, where it was made from that."""

    parts: tuple[Expression, ...]
    text: bytes | None = field(default=None, compare=False, repr=False)
    __hash__ = _Hashed.__hash__

    def __post_init__(self) -> None:
        self._keep_hash(hash(tuple(map(_hash_of, self.parts))))


@dataclass(frozen=True, slots=True)
class Either(_Hashed):
    """The union; no part is an Either, none stands twice."""

    parts: frozenset[Expression]
    __hash__ = _Hashed.__hash__

    def __post_init__(self) -> None:
        self._keep_hash(hash((1, self.parts)))


@dataclass(frozen=True, slots=True)
class Both(_Hashed):
    """The intersection; no part is a Both. The empty one is everything."""

    parts: frozenset[Expression]
    __hash__ = _Hashed.__hash__

    def __post_init__(self) -> None:
        self._keep_hash(hash((2, self.parts)))


@dataclass(frozen=True, slots=True)
class Not(_Hashed):
    """Every byte string, valid UTF-8 or not, that is not in `inner`."""

    inner: Expression
    __hash__ = _Hashed.__hash__

    def __post_init__(self) -> None:
        self._keep_hash(hash((3, self.inner)))


@dataclass(frozen=True, slots=True)
class Repeat(_Hashed):
    """`inner` from `least` to `most` times; most None: without end."""

    inner: Expression
    least: int
    most: int | None
    __hash__ = _Hashed.__hash__

    def __post_init__(self) -> None:
        self._keep_hash(hash((self.inner, self.least, -1 if self.most is None else self.most)))


Expression = ByteSet | Concat | Either | Both | Not | Repeat

NOTHING: Expression = ByteSet(0)
EMPTY: Expression = Concat(())
ANY_BYTE: Expression = ByteSet((1 << 256) - 1)
ANYTHING: Expression = Repeat(ANY_BYTE, 0, None)


_BYTES = tuple(ByteSet(1 << byte) for byte in range(256))


def bytes_in(values: Iterable[int]) -> Expression:
    """One byte out of `values`."""
    bits = 0
    for value in values:
        bits |= 1 << value
    return ByteSet(bits)


def byte_range(first: int, last: int) -> Expression:
    """One byte from `first` to `last`, both included."""
    return ByteSet((1 << (last + 1)) - (1 << first))


@lru_cache(4096)
def literal(text: bytes) -> Expression:
    """Exactly these bytes."""
    return _BYTES[text[0]] if len(text) == 1 else Concat(tuple([_BYTES[byte] for byte in text]), text)


def concat(parts: Iterable[Expression]) -> Expression:
    """These, one after another."""
    flat: list[Expression] = []
    for part in parts:
        if type(part) is Concat:
            flat += part.parts
        elif type(part) is ByteSet and not part.bits:
            return NOTHING
        else:
            flat.append(part)
    return flat[0] if len(flat) == 1 else Concat(tuple(flat))


def either(parts: Iterable[Expression]) -> Expression:
    """Any of these."""
    found: set[Expression] = set()
    bits = 0
    for part in parts:
        for one in part.parts if isinstance(part, Either) else (part,):
            if isinstance(one, ByteSet):
                bits |= one.bits
            else:
                found.add(one)
    if ANYTHING in found:
        return ANYTHING
    if bits:
        found.add(ByteSet(bits))
    if not found:
        return NOTHING
    return next(iter(found)) if len(found) == 1 else Either(frozenset(found))


def both(parts: Iterable[Expression]) -> Expression:
    """What is in all of these."""
    found: set[Expression] = set()
    for part in parts:
        found |= part.parts if isinstance(part, Both) else {part}
    found.discard(ANYTHING)
    sets = [part for part in found if isinstance(part, ByteSet)]
    if sets:
        bits = (1 << 256) - 1
        for one in sets:
            bits &= one.bits
        found = {part for part in found if not isinstance(part, ByteSet)} | {ByteSet(bits)}
    if NOTHING in found or any(isinstance(part, Not) and part.inner in found for part in found):
        return NOTHING
    if not found:
        return ANYTHING
    return next(iter(found)) if len(found) == 1 else Both(frozenset(found))


def complement(inner: Expression) -> Expression:
    """Everything else, over all byte strings: intersect it with what strings are valid."""
    if isinstance(inner, Not):
        return inner.inner
    if inner == NOTHING:
        return ANYTHING
    return NOTHING if inner == ANYTHING else Not(inner)


def repeat(inner: Expression, least: int = 0, most: int | None = None) -> Expression:
    """`inner` from `least` to `most` times (None: without end)."""
    if most is not None and most < least:
        return NOTHING
    if most == 0 or inner == EMPTY:
        return EMPTY
    if inner == NOTHING:
        return EMPTY if least == 0 else NOTHING
    if (least, most) == (1, 1):
        return inner
    if isinstance(inner, Repeat) and inner.most is None and inner.least <= 1 and least <= 1:
        return Repeat(inner.inner, min(inner.least, least), None) if most is None or most >= 1 else inner
    return Repeat(inner, least, most)
