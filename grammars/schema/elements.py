"""The elements of an array: what fills each place, and which of them count for `contains`."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import GrammarError
from .algebra import element
from .emptiness import Emptiness
from .shapes import Arrays, Contains, Normal
from .terms import FALSE, TRUE, Term, Terms

Way = tuple[Term, int | None]


class Places(NamedTuple):
    """For each place the ways to fill it: a term, and the kind (of `kinds`) that it counts as."""

    prefix: list[list[Way]]
    rest: list[Way]
    kinds: tuple[Contains, ...]
    most: int | None


class Elements:
    """Takes shapes of arrays apart."""

    def __init__(self, terms: Terms, emptiness: Emptiness) -> None:
        self.terms = terms
        self._emptiness = emptiness

    def variants(self, shape: Arrays) -> list[Arrays]:
        """The shape as shapes in which no element counts for two `contains` at once."""
        count = len(shape.contains)
        if count < 2 or self._are_disjoint(shape):
            return [shape]
        if count > 4 or any(one.most is not None or one.least > 1 or one.start for one in shape.contains):
            raise GrammarError("several contains whose elements may be the same, with counts, are not supported")
        found = []
        for groups in _partitions(list(shape.contains)):
            contains = tuple(Contains(self.terms.all_of(one.term for one in group)) for group in groups)
            variant = shape._replace(contains=contains)
            if self._emptiness.arrays(variant):
                found.append(variant)
        return found

    def _are_disjoint(self, shape: Arrays) -> bool:
        both, possible = self.terms.all_of, self._emptiness.possible
        contains = shape.contains
        return not any(
            possible(both((left.term, right.term)))
            for place, left in enumerate(contains)
            for right in contains[place + 1 :]
        )

    def places(self, shape: Arrays) -> Places:
        """The places of a shape; `most` is lowered where a place that nothing fills, or `unique`, ends the array."""
        starts = [one.start for one in shape.contains]
        length = max([len(shape.prefix), *starts])
        prefix: list[list[Way]] = []
        most = shape.most
        for place in range(length):
            if most is not None and place >= most:
                break
            ways = self._ways(shape, place)
            if not ways:
                most = place
                break
            prefix.append(ways)
        rest: list[Way] = []
        if most is None or most > length:
            rest = self._ways(shape, length)
            if not rest:
                most = length
        if shape.unique and (most is None or most > 1):
            most = self._emptiness.most_different(shape, most)
            return self._different(shape, Places(prefix, rest, shape.contains, most))
        return Places(prefix, rest, shape.contains, most)

    def _different(self, shape: Arrays, places: Places) -> Places:
        """The same for different elements. The machine tells scalars apart; of arrays and of objects among them, one
        each is allowed. GrammarError where no element is a scalar, and where `contains` counts them as well."""
        scalar, array, one_object = (self.terms.node(raw, "", 0) for raw in _PARTS)
        kinds = (*places.kinds, Contains(TRUE, 0, 1), Contains(TRUE, 0, 1))

        def parted(ways: list[Way]) -> list[Way]:
            found: list[Way] = []
            for term, kind in ways:
                normal = self._emptiness.normal(term)
                composite = bool(normal.arrays or normal.objects)
                if composite and (kind is not None or shape.contains or not (_has_scalars(normal))):
                    raise GrammarError("uniqueItems of arrays or objects cannot be enforced token by token")
                found.append((self.terms.all_of((term, scalar)) if composite else term, kind))
                if normal.arrays:
                    found.append((self.terms.all_of((term, array)), len(kinds) - 2))
                if normal.objects:
                    found.append((self.terms.all_of((term, one_object)), len(kinds) - 1))
            return found

        return Places([parted(ways) for ways in places.prefix], parted(places.rest), kinds, places.most)

    def _ways(self, shape: Arrays, place: int) -> list[Way]:
        term = element(shape, place)
        ways: list[Way] = []
        uncounted = [term]
        for kind, one in enumerate(shape.contains):
            if place < one.start:
                continue
            ways.append((self.terms.all_of((term, one.term)), kind))
            if one.most is not None or len(shape.contains) == 1:
                uncounted.append(self._opposite(one))
        ways.append((self.terms.all_of(uncounted), None))
        return [way for way in ways if way[0] != FALSE and self._emptiness.possible(way[0])]

    def _opposite(self, one: Contains) -> Term:
        """What does not count; where only a least number is asked for, not counting what could count is right too."""
        opposite = self.terms.negation(one.term)
        if one.most is None:
            try:
                self._emptiness.possible(opposite)
            except GrammarError:
                return TRUE
        return opposite


_PARTS: tuple[dict[str, object], ...] = (
    {"type": ["null", "boolean", "number", "string"]},
    {"type": "array"},
    {"type": "object"},
)


def _has_scalars(normal: Normal) -> bool:
    return bool(normal.null or normal.booleans or normal.numbers or normal.strings)


def _partitions(items: list[Contains]) -> list[list[list[Contains]]]:
    """All ways to put items into groups."""
    if not items:
        return [[]]
    found = []
    for groups in _partitions(items[1:]):
        found.append([[items[0]], *groups])
        for place, group in enumerate(groups):
            found.append([*groups[:place], [items[0], *group], *groups[place + 1 :]])
    return found
