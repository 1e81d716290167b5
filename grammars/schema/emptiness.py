"""Whether anything satisfies a term or a shape: never "no" when something does, and "yes" when it cannot be told."""

from __future__ import annotations

from collections.abc import Callable, Container

from .algebra import Algebra, element
from .decisions import Decisions
from .glance import plainly_possible
from .keys import KeySets
from .members import Members, Variant
from .numbers import number_text
from .shapes import Arrays, Keys, Normal, Numbers, Objects, Strings
from .strings import content
from .terms import FALSE, TRUE, Node, Term, Terms

_DEEPEST = 60


class Emptiness:
    """Answers once for each term.

    `normal` gives their normal forms, `target` where references lead; `busy` holds the terms whose normal form is being
    made: nothing is known of them yet.
    """

    def __init__(
        self,
        terms: Terms,
        normal: Callable[[Term], Normal],
        target: Callable[[Term], Term],
        algebra: Algebra,
        busy: Container[Term],
    ) -> None:
        self._target = target
        self.terms = terms
        self._decisions = Decisions()
        self.members = Members(terms, KeySets(normal), self._decisions)
        self.normal = normal
        self._algebra = algebra
        self._busy = busy
        self._known: dict[Term, bool] = {TRUE: True, FALSE: False}
        self._asked: set[Term] = set()
        self._guessed = 0  # how often an answer was not worked out but assumed

    def possible(self, term: Term) -> bool:
        """Whether something satisfies the term."""
        term = self._target(term)
        known = self._known.get(term)
        if known is not None:
            return known
        meaning = self.terms.meanings[term]
        if isinstance(meaning, Node) and plainly_possible(meaning.raw):
            self._known[term] = True
            return True
        if term in self._asked:
            self._guessed += 1  # a value that must contain itself never ends: this way leads to none
            return False
        if term in self._busy or len(self._asked) > _DEEPEST:
            self._guessed += 1
            return True
        before = self._guessed
        self._asked.add(term)
        try:
            answer = not self.normal_is_empty(self.normal(term))
        finally:
            self._asked.discard(term)
        if self._guessed == before or not self._asked:
            self._known[term] = answer
        return answer

    def possible_part(self, normal: Normal) -> Normal:
        """The same values, without the shapes that have none."""
        return Normal(
            normal.null,
            normal.booleans,
            tuple(shape for shape in normal.numbers if self.numbers(shape)),
            tuple(shape for shape in normal.strings if self.strings(shape)),
            tuple(shape for shape in normal.arrays if self.arrays(shape)),
            tuple(shape for shape in normal.objects if self.objects(shape)),
        )

    def normal_is_empty(self, normal: Normal) -> bool:
        """Whether no shape has a value."""
        return not (
            normal.null
            or normal.booleans
            or any(self.numbers(shape) for shape in normal.numbers)
            or any(self.strings(shape) for shape in normal.strings)
            or any(self.arrays(shape) for shape in normal.arrays)
            or any(self.objects(shape) for shape in normal.objects)
        )

    def numbers(self, shape: Numbers) -> bool:
        """Whether there is such a number."""
        if shape.values is not None:
            return bool(shape.values)
        if not shape.integer and not shape.steps and not shape.not_steps and (shape.low is None or shape.high is None):
            return True
        return self._decisions.possible(number_text(shape))

    def strings(self, shape: Strings) -> bool:
        """Whether there is such a string."""
        if not shape.inside and not shape.outside and not shape.without:
            return shape.values is None or bool(shape.values)
        return self._decisions.possible(content(shape, "utf8"))

    def arrays(self, shape: Arrays) -> bool:
        """Whether there is such an array."""
        if shape.most is not None and shape.least > shape.most:
            return False
        if shape.unique and shape.least > 1:
            longest = self.most_different(shape, shape.most)
            if longest is not None and longest < shape.least:
                return False
        needed = max([shape.least, *(one.start + one.least for one in shape.contains if one.least)])
        for place in range(min(needed, len(shape.prefix) + 1)):
            if not self.possible(element(shape, place)):
                return False
        if shape.most is not None and needed > shape.most:
            return False
        for one in shape.contains:
            if one.least and not self._can_contain(shape, one.term, one.start):
                return False
            if one.most is not None and one.most < shape.least:
                return self._can_avoid(shape, one.term, one.start, one.most)
        return True

    def most_different(self, shape: Arrays, most: int | None) -> int | None:
        """How long an array of different elements can be."""
        total: int | None = 0
        for place in range(len(shape.prefix) + 1):
            if most is not None and place >= most:
                break
            normal = self.normal(element(shape, place))
            size = None if normal.arrays or normal.objects else _size(normal)
            last = place == len(shape.prefix)
            if total is not None:
                total = None if size is None and last else total + (size if last and size is not None else 1)
        if total is None:
            return most
        return total if most is None else min(most, total)

    def _can_contain(self, shape: Arrays, term: Term, start: int) -> bool:
        for place in range(start, max(start, len(shape.prefix)) + 1):
            if place and not self.possible(element(shape, place - 1)):
                return False
            if shape.most is not None and place >= shape.most:
                return False
            if self.possible(self.terms.all_of((element(shape, place), term))):
                return True
        return False

    def _can_avoid(self, shape: Arrays, term: Term, start: int, most: int) -> bool:
        """Whether enough elements can be such that they do not count."""
        opposite = self.terms.negation(term)
        counted = 0
        for place in range(start, min(shape.least, len(shape.prefix))):
            counted += not self.possible(self.terms.all_of((element(shape, place), opposite)))
        rest = shape.least - max(len(shape.prefix), start)
        if rest > 0 and not self.possible(self.terms.all_of((shape.rest, opposite))):
            counted += rest
        return counted <= most

    def objects(self, shape: Objects) -> bool:
        """Whether there is such an object."""
        if not shape.required and not shape.least and not shape.exists:
            return True
        return any(self._object(one) for one in self.members.variants(shape))

    def _object(self, variant: Variant) -> bool:
        shape = variant.shape
        required = set(shape.required)
        changed = bool(shape.needs)
        while changed:
            more = {needed for key, needed in shape.needs if key in required} - required
            required |= more
            changed = bool(more)
        fewest = len(required) + len(variant.pinned)
        if shape.most is not None and max(shape.least, fewest) > shape.most:
            return False
        named = self.members.named(shape)
        if not all(self.possible(term) for key, term, _ in named if key in required):
            return False
        if not all(self._class(variant, within, term) for within, term in variant.pinned):
            return False
        if fewest >= shape.least:
            return True
        optional = sum(self.possible(term) for key, term, _ in named if key not in required)
        lacking = shape.least - fewest - optional
        for one in variant.classes:
            if lacking > 0 and self._class(variant, one.within, one.term):
                many = self.members.most(variant, one)
                lacking -= lacking if many is None else many
        return lacking <= 0

    def _class(self, variant: Variant, within: tuple[tuple[Keys, bool], ...], term: Term) -> bool:
        return self.possible(term) and self.members.is_possible(within, variant.names)


def _size(normal: Normal) -> int | None:
    """How many values there are, where that is plain to see."""
    total = normal.null + len(normal.booleans)
    listed = [shape.values for shape in normal.numbers] + [shape.values for shape in normal.strings]
    for values in listed:
        if values is None:
            return None
        total += len(values)
    return total
