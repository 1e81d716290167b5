"""The members of an object: which keys are named, and into which classes the others fall."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ...errors import GrammarTooLarge
from ..expression import Expression, both, complement
from ..patterns import Encoding
from .decisions import Decisions
from .keys import KeySets
from .shapes import ALL_KEYS, NOTHING_AT_ALL, Keys, Objects
from .strings import words
from .terms import FALSE, TRUE, Term, Terms

_MOST_CLASSES = 64
Within = tuple[tuple[Keys, bool], ...]


class Named(NamedTuple):
    """A member that the schema names."""

    key: str
    term: Term
    required: bool


class Class(NamedTuple):
    """Keys that are not named and the term that their values satisfy. `within`: which sets they are in, and not in."""

    term: Term
    within: Within


_EVERY_KEY = Class(TRUE, ())


class Variant(NamedTuple):
    """A shape whose obligations are settled: what named members must meet is in `shape`; for each of `pinned`, some
    other member whose key is in that class (by its `within`) satisfies that term."""

    shape: Objects
    names: frozenset[str]
    classes: tuple[Class, ...]
    pinned: tuple[tuple[Within, Term], ...]


class Members:
    """Takes shapes of objects apart."""

    def __init__(self, terms: Terms, keys: KeySets, decisions: Decisions) -> None:
        self._decisions = decisions
        self.terms = terms
        self.keys = keys
        self._examples: dict[Within, bytes | None] = {}
        self._variants: dict[Objects, list[Variant]] = {}

    def named(self, shape: Objects) -> list[Named]:
        """Every key that the shape speaks of by name, as the schema orders them, with all that its value satisfies."""
        terms = dict(shape.named)
        spoken = [key for pair in shape.needs for key in pair]
        spoken += [key for keys, _ in shape.exists for key in sorted(_names(keys))]
        for key in (*shape.required, *spoken):
            terms.setdefault(key, TRUE)
        required = set(shape.required)
        found = []
        for key, term in terms.items():
            for keys, also in shape.classes:
                if self.keys.has(keys, key):
                    term = self.terms.all_of((term, also))
            found.append(Named(key, term, key in required))
        return found

    def classes(self, shape: Objects, names: frozenset[str]) -> list[Class]:
        """The classes of all other keys, leaving out those that are empty or that may not occur."""
        if not shape.classes and not shape.exists:
            return [_EVERY_KEY]
        cells: list[tuple[Within, Term]] = [((), TRUE)]
        ordered = sorted(shape.classes, key=lambda one: one[0].inverted)
        for keys, term in ordered:
            cells = [cell for old in cells for cell in self._split(old, keys, term, names)]
            if len(cells) > _MOST_CLASSES:
                raise GrammarTooLarge(f"patternProperties that overlap in more than {_MOST_CLASSES} ways")
        for keys, _ in shape.exists:
            cells = [cell for old in cells for cell in self._split(old, keys, TRUE, names)]
        return [Class(term, within) for within, term in cells if term != FALSE]

    def _split(
        self, cell: tuple[Within, Term], keys: Keys, term: Term, names: frozenset[str]
    ) -> Iterator[tuple[Within, Term]]:
        """The part of the class that is in `keys`, whose values satisfy `term` too, and the part that is not."""
        within, before = cell
        inside = self.inside(within, keys, names)
        for choice, after in ((True, self.terms.all_of((before, term))), (False, before)):
            if inside is None:
                parted = (*within, (keys, choice))
                if self._has_others(parted, names):
                    yield parted, after
            elif inside is choice:
                yield within, after

    def _has_others(self, within: Within, names: frozenset[str]) -> bool:
        """Whether some key of the class is not among the names: mostly the first that comes to mind is not."""
        if within not in self._examples:
            own = any(_speaks_of_terms(keys) for keys, _ in within)
            found = self._decisions.example(self.content(within, frozenset(), "utf8")) if own else _example(within)
            self._examples[within] = found
        example = self._examples[within]
        if example is None or example.decode() not in names:
            return example is not None
        return self._decisions.possible(self.content(within, names, "utf8"))

    def inside(self, within: Within, keys: Keys, names: frozenset[str]) -> bool | None:
        """Whether a class lies in a set of keys (False: outside it); None when that is not plain to see."""
        for other, chosen in within:
            if other._replace(inverted=keys.inverted) == keys:
                return chosen == (other.inverted == keys.inverted)
        if keys.inverted:
            found = self.inside(within, keys._replace(inverted=False), names)
            return None if found is None else not found
        if len(keys.names) + len(keys.patterns) + len(keys.terms) + len(keys.parts) == 1 and not keys.parts:
            return False if keys.names <= names and keys.names else None
        answers: list[bool | None] = [] if keys.names <= names else [None]
        answers += [self.inside(within, Keys(patterns=(pattern,)), names) for pattern in keys.patterns]
        answers += [self.inside(within, Keys(terms=(term,)), names) for term in keys.terms]
        answers += [self.inside(within, part, names) for part in keys.parts]
        if True in answers:
            return True
        return None if None in answers else False

    def content(self, within: Within, names: frozenset[str], encoding: Encoding) -> Expression:
        """The contents of the strings of a class of keys."""
        return _content(self.keys, within, names, encoding)

    def is_possible(self, within: Within, names: frozenset[str]) -> bool:
        """Whether the class has any key. (All keys but finitely many are always some.)"""
        return not within or self._decisions.possible(self.content(within, names, "utf8"))

    def most(self, variant: Variant, cell: Class) -> int | None:
        """How many keys of the class there are, when that matters for the number of members."""
        least = variant.shape.least
        if least <= len(variant.shape.required) or not cell.within:
            return None
        return self._decisions.fewer(self.content(cell.within, variant.names, "utf8"), least)

    def variants(self, shape: Objects) -> list[Variant]:
        """The shape as alternatives in which it is settled which members meet its obligations (`exists`)."""
        known = self._variants.get(shape)
        if known is None:
            known = self._variants[shape] = self._worked_out(shape)
        return known

    def _worked_out(self, shape: Objects) -> list[Variant]:
        names = frozenset(one.key for one in self.named(shape))
        classes = tuple(self.classes(shape, names))
        added = tuple((key, TRUE) for key in sorted(names - dict(shape.named).keys())) if shape.exists else ()
        found = [Variant(shape._replace(exists=(), named=shape.named + added), names, classes, ())]
        for keys, term in shape.exists:
            split: dict[Variant, None] = {}
            for one in found:
                split.update(dict.fromkeys(self._met(one, keys, term)))
            found = list(split)
            if len(found) > _MOST_CLASSES:
                raise GrammarTooLarge("obligations that can be met in too many ways")
        return found

    def _met(self, one: Variant, keys: Keys, term: Term) -> Iterator[Variant]:
        """The ways in which some member whose key is in `keys` satisfies `term`."""
        named = dict(one.shape.named)
        inside = [key for key in sorted(one.names) if self.keys.has(keys, key)]
        classes = [cell for cell in one.classes if self.inside(cell.within, keys, one.names)]
        if term == TRUE and any(key in one.shape.required for key in inside):
            yield one
            return
        for key in inside:
            also = self.terms.all_of((named.get(key, TRUE), term))
            if also != FALSE:
                changed = tuple((named | {key: also}).items())
                required = tuple(dict.fromkeys((*one.shape.required, key)))
                yield one._replace(shape=one.shape._replace(named=changed, required=required))
        for cell in classes:
            new = (cell.within, self.terms.all_of((cell.term, term)))
            if new in one.pinned:
                yield one
            elif new[1] != FALSE:
                yield one._replace(pinned=(*one.pinned, new))
                for place, (within, before) in enumerate(one.pinned):
                    if within == cell.within:
                        both_terms = (within, self.terms.all_of((before, term)))
                        yield one._replace(pinned=(*one.pinned[:place], both_terms, *one.pinned[place + 1 :]))


def _names(keys: Keys) -> frozenset[str]:
    """Every name that the set is made with."""
    return keys.names.union(*(_names(part) for part in keys.parts))


def _speaks_of_terms(keys: Keys) -> bool:
    return bool(keys.terms) or any(_speaks_of_terms(part) for part in keys.parts)


def _content(keys: KeySets, within: Within, names: frozenset[str], encoding: Encoding) -> Expression:
    every: Encoding = "utf8" if encoding == "utf8" else "json"
    inside = [keys.expression(one, encoding) for one, chosen in within if chosen]
    outside = [complement(keys.expression(one, every)) for one, chosen in within if not chosen]
    if names:
        outside.append(complement(words(tuple(names), every)))
    return both((inside or [keys.expression(ALL_KEYS, every)]) + outside)


@lru_cache(512)
def _example(within: Within) -> bytes | None:
    """A key of a class that no schema's terms are needed for, the same in every schema."""
    return Decisions().example(_content(KeySets(lambda term: NOTHING_AT_ALL), within, frozenset(), "utf8"))
