"""A JSON array while it is written: which elements may come next so that it can still be completed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from ...errors import GrammarTooLarge
from ..program import Array, Place, Symbol
from .positions import START, Way, Ways

Possible = Callable[[Symbol], bool]
COUNTS_BUDGET = 10_000  # different counts of kinds looked at to decide whether an array can be completed


class Phase(IntEnum):
    """What comes next in an array."""

    FIRST = 0  # the first element, or the end
    ELEMENT = 1  # an element, after a comma
    AFTER = 2  # a comma, or the end
    DONE = 3


@dataclass(frozen=True, slots=True)
class ArrayState:
    """What an array has, no more of it than decides what may follow.

    `index`: elements so far, up to the length of the prefix; `total` and `kinds` stop where more makes no difference.
    """

    phase: Phase = Phase.FIRST
    index: int = 0
    total: int = 0
    kinds: tuple[int, ...] = ()
    used: frozenset[bytes] = frozenset()

    def with_value(self, value: bytes) -> ArrayState:
        """The state when a recorded element has spelled `value`."""
        return replace(self, used=self.used | {value})


class ArrayFrame:
    """The automaton of one Array definition.

    An element is offered, in each way that its place allows, exactly when with it counted the array can still be
    completed: the places up to `least` have possible values, every kind can still reach its `least` without passing
    its `most`, and all within `most` elements. The comma is offered when some element is; the end, when enough of
    everything is there.
    """

    def __init__(self, definition: Array, possible: Possible) -> None:
        self.definition = definition
        self.possible = possible
        self._verdicts: dict[tuple[int, int, tuple[int, ...]], bool] = {}

    @property
    def start(self) -> ArrayState:
        """Nothing is written."""
        return ArrayState(kinds=(0,) * len(self.definition.kinds))

    def completable(self) -> bool:
        """Whether there is any such array (its signs aside)."""
        return self._feasible(self.start)

    def ways(self, state: Hashable) -> Ways:
        """What may come next; see the class."""
        definition = self.definition
        if state is START:
            return Ways((Way(definition.opening, self.start),) if self.completable() else ())
        assert isinstance(state, ArrayState)
        if state.phase == Phase.DONE:
            return Ways((), True)
        ways = []
        if state.phase != Phase.ELEMENT and self._closable(state):
            ways.append(Way(definition.closing, ArrayState(Phase.DONE)))
        elements = self._elements(replace(state, phase=Phase.AFTER))
        if state.phase != Phase.AFTER:
            ways += elements
        elif next(elements, None) is not None:
            ways.append(Way(definition.comma, replace(state, phase=Phase.ELEMENT)))
        return Ways(tuple(ways))

    def _elements(self, state: ArrayState) -> Iterator[Way]:
        definition = self.definition
        for place in self._places(state.index):
            taken = self._with(state, place)
            if taken is not None and self.possible(place.value) and self._feasible(taken):
                yield Way(place.value, taken, state.used, definition.unique)

    def _places(self, index: int) -> tuple[Place, ...]:
        prefix = self.definition.prefix
        return prefix[index] if index < len(prefix) else self.definition.rest

    def _with(self, state: ArrayState, place: Place) -> ArrayState | None:
        """The state with one more element; None when that is one too many."""
        definition = self.definition
        if definition.most is not None and state.total >= definition.most:
            return None
        kinds = state.kinds
        if place.kind is not None:
            kind = definition.kinds[place.kind]
            if kind.most is not None and kinds[place.kind] >= kind.most:
                return None
            count = kinds[place.kind] + 1
            count = min(count, kind.least) if kind.most is None else count
            kinds = (*kinds[: place.kind], count, *kinds[place.kind + 1 :])
        total = state.total + 1
        total = min(total, definition.least) if definition.most is None else total
        return replace(state, index=min(state.index + 1, len(definition.prefix)), total=total, kinds=kinds)

    def _closable(self, state: ArrayState) -> bool:
        enough = all(count >= kind.least for count, kind in zip(state.kinds, self.definition.kinds, strict=True))
        return enough and state.total >= self.definition.least

    def _feasible(self, state: ArrayState) -> bool:
        key = (state.index, state.total, state.kinds)
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = self._decided(state)
        return found

    def _decided(self, state: ArrayState) -> bool:
        """Through the prefix, all counts that can be reached; in the rest, arithmetic."""
        definition = self.definition
        reached = {replace(state, phase=Phase.AFTER, used=frozenset())}
        for index in range(state.index, len(definition.prefix) + 1):
            if any(self._closable(one) for one in reached):
                return True
            if index == len(definition.prefix):
                return any(self._rest_suffices(one) for one in reached)
            places = [place for place in self._places(index) if self.possible(place.value)]
            following = (self._with(one, place) for one in reached for place in places)
            reached = {one for one in following if one is not None}
            if len(reached) > COUNTS_BUDGET:
                raise GrammarTooLarge("an array with too many kinds of elements to count; use fewer `contains`")
        return False

    def _rest_suffices(self, state: ArrayState) -> bool:
        definition = self.definition
        places = [place for place in definition.rest if self.possible(place.value)]
        kinds = {place.kind for place in places}
        must = 0  # elements that some kind still needs
        room = 0  # for more elements, of kinds that are not full then
        for index, (count, kind) in enumerate(zip(state.kinds, definition.kinds, strict=True)):
            lacking = max(kind.least - count, 0)
            must += lacking
            if lacking and index not in kinds:
                return False
            if kind.most is not None and count + lacking > kind.most:
                return False
            if index in kinds:
                room += definition.least if kind.most is None else kind.most - count - lacking
        wanted = max(definition.least - state.total, must)
        if definition.most is not None and state.total + wanted > definition.most:
            return False
        return wanted == must or (None in kinds) or wanted - must <= room
