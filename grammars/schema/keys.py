"""Sets of property names: which names are in them, and the expressions they are written by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..expression import Expression, both, complement, either
from ..patterns import Encoding, universe
from .shapes import ALL_KEYS, Keys, Normal
from .strings import contains_text, content, matching, words
from .terms import Term


class KeySets:
    """Works out sets of names; `normal` gives the normal form of the terms in them (of `propertyNames`)."""

    def __init__(self, normal: Callable[[Term], Normal]) -> None:
        self._normal = normal

    def has(self, keys: Keys, name: str) -> bool:
        """Whether the set has this name."""
        if name in keys.names:
            return not keys.inverted
        if not keys.patterns and not keys.parts and not keys.terms:
            return keys.inverted
        found = (
            any(self.has(part, name) for part in keys.parts)
            or any(contains_text(matching(pattern, "utf8"), name) for pattern in keys.patterns)
            or any(contains_text(self._of_term(term, "utf8"), name) for term in keys.terms)
        )
        return found != keys.inverted

    def expression(self, keys: Keys, encoding: Encoding) -> Expression:
        """The contents of the strings in the set (of a complement: in every spelling)."""
        every: Encoding = "utf8" if encoding == "utf8" else "json"
        if keys == ALL_KEYS:
            return universe(every)
        if keys.inverted:
            return both([universe(every), complement(self._union(keys, every))])
        return self._union(keys, encoding)

    def _union(self, keys: Keys, encoding: Encoding) -> Expression:
        parts = [words(tuple(sorted(keys.names)), encoding)] if keys.names else []
        parts += [matching(pattern, encoding) for pattern in keys.patterns]
        parts += [self._of_term(term, encoding) for term in keys.terms]
        parts += [self.expression(part, encoding) for part in keys.parts]
        return either(parts)

    def _of_term(self, term: Term, encoding: Encoding) -> Expression:
        return either(content(shape, encoding) for shape in self._normal(term).strings)


def only(keys: Iterable[Keys]) -> Keys:
    """The union of these sets."""
    return Keys(parts=tuple(dict.fromkeys(keys)))
