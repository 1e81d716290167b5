"""And, or and not of shapes and of normal forms: exact, and bounded in how many shapes they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import TypeVar

from ...errors import GrammarError, GrammarTooLarge
from .scalars import both_numbers, both_strings, not_numbers, not_strings, smaller
from .shapes import (
    ANY_ARRAY,
    ANY_NUMBER,
    ANY_OBJECT,
    ANY_STRING,
    BOTH_BOOLEANS,
    Arrays,
    Contains,
    Normal,
    Numbers,
    Objects,
    Strings,
)
from .terms import FALSE, TRUE, Term, Terms

MOST_SHAPES = 512
_BUDGET = 50_000

Shape = TypeVar("Shape", Numbers, Strings, Arrays, Objects)


class Algebra:
    """The operations; `terms` makes the terms inside, and what is done is counted: GrammarTooLarge beyond a budget."""

    def __init__(self, terms: Terms, absorbing: bool = True) -> None:
        self.terms = terms
        self._absorbing = absorbing  # "anything or X" is "anything": not so when X says what was evaluated
        self._done = 0

    def conjunction(self, left: Normal, right: Normal) -> Normal:
        """The values in both."""
        return Normal(
            left.null and right.null,
            left.booleans & right.booleans,
            self._pairs(left.numbers, right.numbers, both_numbers, ANY_NUMBER),
            self._pairs(left.strings, right.strings, both_strings, ANY_STRING),
            self._pairs(left.arrays, right.arrays, self._both_arrays, ANY_ARRAY),
            self._pairs(left.objects, right.objects, self._both_objects, ANY_OBJECT),
        )

    def disjunction(self, parts: Iterable[Normal]) -> Normal:
        """The values in any of these."""
        parts = list(parts)
        return Normal(
            any(part.null for part in parts),
            frozenset().union(*(part.booleans for part in parts)),
            self._union([shape for part in parts for shape in part.numbers], ANY_NUMBER),
            self._union([shape for part in parts for shape in part.strings], ANY_STRING),
            self._union([shape for part in parts for shape in part.arrays], ANY_ARRAY),
            self._union([shape for part in parts for shape in part.objects], ANY_OBJECT),
        )

    def complement(self, normal: Normal, path: str) -> Normal:
        """All other values. GrammarError, at `path`, where the opposite of a statement cannot be said in shapes."""
        return Normal(
            not normal.null,
            BOTH_BOOLEANS - normal.booleans,
            self._opposite(normal.numbers, not_numbers, both_numbers, ANY_NUMBER),
            self._opposite(normal.strings, not_strings, both_strings, ANY_STRING),
            self._opposite(normal.arrays, lambda shape: self._not_arrays(shape, path), self._both_arrays, ANY_ARRAY),
            self._opposite(
                normal.objects, lambda shape: self._not_objects(shape, path), self._both_objects, ANY_OBJECT
            ),
        )

    def _pairs(
        self,
        left: tuple[Shape, ...],
        right: tuple[Shape, ...],
        both: Callable[[Shape, Shape], Shape | None],
        top: Shape,
    ) -> tuple[Shape, ...]:
        if not left or not right:
            return ()
        if left == (top,):
            return right
        if right == (top,):
            return left
        self._done += len(left) * len(right)
        if self._done > _BUDGET:
            raise GrammarTooLarge(f"combining the alternatives takes more than {_BUDGET} steps")
        found = (both(one, other) for one, other in product(left, right))
        return self._union([shape for shape in found if shape is not None], top)

    def _union(self, shapes: list[Shape], top: Shape) -> tuple[Shape, ...]:
        if self._absorbing and top in shapes:
            return (top,)
        found = tuple(dict.fromkeys(shapes))
        if len(found) > MOST_SHAPES:
            raise GrammarTooLarge(f"a schema that splits into more than {MOST_SHAPES} alternatives")
        return found

    def _opposite(
        self,
        shapes: tuple[Shape, ...],
        opposite: Callable[[Shape], list[Shape]],
        both: Callable[[Shape, Shape], Shape | None],
        top: Shape,
    ) -> tuple[Shape, ...]:
        found: tuple[Shape, ...] = (top,)
        for shape in shapes:
            found = self._pairs(found, self._union(opposite(shape), top), both, top)
        return found

    def _both_arrays(self, left: Arrays, right: Arrays) -> Arrays | None:
        length = max(len(left.prefix), len(right.prefix))
        most = smaller(left.most, right.most)
        least = max(left.least, right.least)
        if most is not None and least > most:
            return None
        both = self.terms.all_of
        return Arrays(
            tuple(both((element(left, place), element(right, place))) for place in range(length)),
            both((left.rest, right.rest)),
            least,
            most,
            tuple(dict.fromkeys(left.contains + right.contains)),
            left.unique or right.unique,
            None if left.seen is None or right.seen is None else max(left.seen, right.seen),
            tuple(dict.fromkeys(left.seen_if + right.seen_if)),
        )

    def _both_objects(self, left: Objects, right: Objects) -> Objects | None:
        named = dict(left.named)
        for key, term in right.named:
            named[key] = self.terms.all_of((named[key], term)) if key in named else term
        required = tuple(dict.fromkeys(left.required + right.required))
        if any(named.get(key) == FALSE for key in required):
            return None
        least, most = max(left.least, right.least), smaller(left.most, right.most)
        if most is not None and max(least, len(required)) > most:
            return None
        return Objects(
            tuple(named.items()),
            tuple(dict.fromkeys(left.classes + right.classes)),
            required,
            least,
            most,
            tuple(dict.fromkeys(left.needs + right.needs)),
            tuple(dict.fromkeys(left.exists + right.exists)),
            tuple(dict.fromkeys(left.seen + right.seen)),
        )

    def _not_arrays(self, shape: Arrays, path: str) -> list[Arrays]:
        if shape.unique:
            raise GrammarError("the opposite of uniqueItems cannot be enforced token by token", path)
        opposite = self.terms.negation
        found = [
            Arrays(prefix=(TRUE,) * place + (opposite(term),), least=place + 1)
            for place, term in enumerate(shape.prefix)
            if term != TRUE
        ]
        if shape.rest != TRUE:
            start = len(shape.prefix)
            if shape.rest == FALSE:
                found.append(Arrays(least=start + 1))
            else:
                found.append(Arrays(contains=(Contains(opposite(shape.rest), start=start),)))
        if shape.least:
            found.append(Arrays(most=shape.least - 1))
        if shape.most is not None:
            found.append(Arrays(least=shape.most + 1))
        for one in shape.contains:
            if one.least == 1 and one.start == 0:
                found.append(Arrays(rest=opposite(one.term)))
            elif one.least:
                found.append(Arrays(contains=(one._replace(least=0, most=one.least - 1),)))
            if one.most is not None:
                found.append(Arrays(contains=(one._replace(least=one.most + 1, most=None),)))
        return found

    def _not_objects(self, shape: Objects, path: str) -> list[Objects]:
        opposite = self.terms.negation
        found = [Objects(named=((key, opposite(term)),), required=(key,)) for key, term in shape.named if term != TRUE]
        found += [Objects(exists=((keys, opposite(term)),)) for keys, term in shape.classes if term != TRUE]
        found += [Objects(named=((key, FALSE),)) for key in shape.required]
        if shape.least:
            found.append(Objects(most=shape.least - 1))
        if shape.most is not None:
            found.append(Objects(least=shape.most + 1))
        found += [Objects(named=((needed, FALSE),), required=(key,)) for key, needed in shape.needs]
        found += [Objects(classes=((keys, opposite(term)),)) for keys, term in shape.exists]
        return found


def element(shape: Arrays, place: int) -> Term:
    """What the element at that index has to satisfy (contains aside)."""
    return shape.prefix[place] if place < len(shape.prefix) else shape.rest
