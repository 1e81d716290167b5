"""Options as a tree of tokens: what they begin with in common is asked of the model once.

    options   a b c | a b d | a e        the tree's places and what is asked there
    (start) - a - b - c                  start: who follows?  a
                   \\ d                   a: who follows?      b, e
               \\ e                       a b: who follows?    c, d      3 requests for 8 tokens

One request runs the tokens down to a place and learns the log-probabilities of all that may follow there, and those of
the tokens on a stretch without a fork above it. So options of one own token behind a fork cost nothing themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Place:
    """A place in the tree: after these tokens."""

    token: int
    depth: int
    above: Place | None
    below: dict[int, Place] = field(default_factory=dict)
    logprob: float | None = None  # of its token, once known

    @property
    def asked(self) -> bool:
        """Whether a request ends here: where options part, and before an option's last token."""
        if not self.below or self.above is None or len(self.below) > 1:
            return bool(self.below)
        (only,) = self.below.values()
        return not only.below

    def path(self) -> list[Place]:
        """The places from the first token down to this one."""
        found: list[Place] = []
        place: Place | None = self
        while place is not None and place.above is not None:
            found.append(place)
            place = place.above
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Question:
    """One request: run these tokens after the prompt, and tell what is wanted."""

    place: Place
    tokens: tuple[int, ...]
    stretch: tuple[Place, ...]  # the last of the tokens: their log-probabilities are wanted too

    def answer(self, stretch: Sequence[float], following: dict[int, float]) -> None:
        """Note what came of it: the stretch's numbers, and those of the tokens that may follow."""
        for place, logprob in zip(self.stretch, stretch, strict=True):
            place.logprob = logprob
        for token, below in self.place.below.items():
            below.logprob = following[token]


class OptionTrie:
    """The tree of some options' tokens, each at least one."""

    def __init__(self, options: Sequence[Sequence[int]]) -> None:
        self._root = Place(-1, 0, None)
        self._ends = [self._grow(tokens) for tokens in options]

    def questions(self) -> list[Question]:
        """What to ask, those nearer to the start first."""
        return sorted(self._questions(), key=lambda question: len(question.tokens))

    def rows(self) -> list[tuple[float, ...]]:
        """Each option's log-probabilities, once all questions are answered."""
        return [tuple(_known(place) for place in end.path()) for end in self._ends]

    def _grow(self, tokens: Sequence[int]) -> Place:
        place = self._root
        for token in tokens:
            below = place.below.get(token)
            if below is None:
                below = place.below[token] = Place(token, place.depth + 1, place)
            place = below
        return place

    def _questions(self) -> Iterator[Question]:
        waiting = [self._root]
        while waiting:
            place = waiting.pop()
            waiting += place.below.values()
            if not place.asked:
                continue
            path = place.path()
            start = next((at for at in range(len(path) - 1, 0, -1) if path[at - 1].asked), 0)
            yield Question(place, tuple(one.token for one in path), tuple(path[start + 1 :]))


def _known(place: Place) -> float:
    assert place.logprob is not None, "every place is behind a question"
    return place.logprob
