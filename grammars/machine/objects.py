"""A JSON object while it is written: which members may come next so that it can still be completed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

from ...errors import GrammarTooLarge
from ..program import Member, Object, Symbol
from .positions import START, Way, Ways

Possible = Callable[[Symbol], bool]
CLOSED_SETS = 4096  # sets of members that need each other in circles, looked at for a size that fits


class Phase(IntEnum):
    """What comes next in an object."""

    FIRST = 0  # the first key, or the end
    KEY = 1  # a key, after a comma
    COLON = 2
    VALUE = 3
    AFTER = 4  # a comma, or the end
    DONE = 5


@dataclass(frozen=True, slots=True)
class ObjectState:
    """What an object has, no more of it than decides what may follow.

    `next`: members before it can come no more (ordered). `taken`: those written, as bits; of an ordered object, only
    those that a later one may need. `pending`: those needed by what is written, and not there yet. `total` and
    `counts` (of each class of others) stop where more makes no difference. `value`: what comes after the colon.
    """

    phase: Phase = Phase.FIRST
    next: int = 0
    taken: int = 0
    pending: int = 0
    total: int = 0
    counts: tuple[int, ...] = ()
    used: frozenset[bytes] = frozenset()
    value: Symbol = -1

    def with_value(self, value: bytes) -> ObjectState:
        """The state when a recorded key has spelled `value`."""
        return replace(self, used=self.used | {value})


class ObjectFrame:
    """The automaton of one Object definition.

    A member or another key is offered exactly when, with it taken, the object can still be completed: everything
    required or needed (through others, too) can still come in its order and has possible values, what it itself needs
    is there or can come, and some number of members from `least` to `most`, with the classes' own numbers, can be
    reached. The comma is offered when some key is; the end, when nothing is missing. An object that can never be
    completed has no ways at all.
    """

    def __init__(self, definition: Object, possible: Possible) -> None:
        self.definition = definition
        self.possible = possible
        members = definition.members
        self.all = (1 << len(members)) - 1
        self.needs = _closed([_bits(member.needs) for member in members])
        self.must = _bits(i for i, member in enumerate(members) if member.required)
        for index, needs in enumerate(self.needs):
            if self.must >> index & 1:
                self.must |= needs
        self.needed_later = [0] * (len(members) + 1)  # by members from here on
        for index in reversed(range(len(members))):
            self.needed_later[index] = self.needed_later[index + 1] | self.needs[index]
        self.circular = any(needs >> index & 1 for index, needs in enumerate(self._strict_needs))
        most = definition.most
        self.most = None if most is None or (not definition.others and most >= len(members)) else most

    @property
    def start(self) -> ObjectState:
        """Nothing is written."""
        return ObjectState(counts=(0,) * len(self.definition.others))

    def completable(self) -> bool:
        """Whether there is any such object (its signs aside)."""
        return self._feasible(self.start)

    def ways(self, state: Hashable) -> Ways:
        """What may come next; see the class."""
        definition = self.definition
        if state is START:
            return Ways((Way(definition.opening, self.start),) if self.completable() else ())
        assert isinstance(state, ObjectState)
        if state.phase == Phase.DONE:
            return Ways((), True)
        if state.phase == Phase.COLON:
            return Ways((Way(definition.colon, replace(state, phase=Phase.VALUE)),))
        if state.phase == Phase.VALUE:
            return Ways((Way(state.value, replace(state, phase=Phase.AFTER, value=-1)),))
        ways = []
        if state.phase != Phase.KEY and self._closable(state):
            ways.append(Way(definition.closing, ObjectState(Phase.DONE)))
        keys = self._keys(replace(state, phase=Phase.COLON))
        if state.phase != Phase.AFTER:
            ways += keys
        elif next(keys, None) is not None:
            ways.append(Way(definition.comma, replace(state, phase=Phase.KEY)))
        return Ways(tuple(ways))

    def _keys(self, state: ObjectState) -> Iterator[Way]:
        definition = self.definition
        if self.most is not None and state.total >= self.most:
            return
        missing = (self.must | state.pending) & ~state.taken & self._ahead(state)
        for index in range(state.next, len(definition.members)):
            member = definition.members[index]
            if not state.taken >> index & 1:
                taken = self._with_member(state, index, member)
                if taken is not None and self._possible_member(member) and self._feasible(taken):
                    yield Way(member.key, taken)
            if definition.ordered and missing >> index & 1:
                return
        for index, others in enumerate(definition.others):
            if others.most is not None and state.counts[index] >= others.most:
                continue
            taken = self._with_other(state, index)
            if self.possible(others.key) and self.possible(others.value) and self._feasible(taken):
                yield Way(others.key, taken, state.used if others.distinct else frozenset(), others.distinct)

    def _with_member(self, state: ObjectState, index: int, member: Member) -> ObjectState | None:
        """The state with this member taken; None when what it needs can come no more."""
        ordered = self.definition.ordered
        if ordered and self.needs[index] & ~state.taken & ((1 << index) - 1):
            return None
        taken = state.taken | 1 << index
        pending = (state.pending | self.needs[index]) & ~taken
        return replace(
            state,
            next=index + 1 if ordered else 0,
            taken=taken & self.needed_later[index + 1] if ordered else taken,
            pending=pending & ~((1 << index) - 1) if ordered else pending,
            total=self._capped(state.total + 1, self.definition.least, self.most),
            value=member.value,
        )

    def _with_other(self, state: ObjectState, index: int) -> ObjectState:
        others = self.definition.others[index]
        counts = list(state.counts)
        counts[index] = self._capped(counts[index] + 1, others.least, others.most)
        return replace(
            state,
            next=len(self.definition.members) if self.definition.ordered else 0,
            taken=0 if self.definition.ordered else state.taken,
            total=self._capped(state.total + 1, self.definition.least, self.most),
            counts=tuple(counts),
            value=others.value,
        )

    @staticmethod
    def _capped(count: int, least: int, most: int | None) -> int:
        return min(count, least) if most is None else count

    def _ahead(self, state: ObjectState) -> int:
        """The members that can still come, by their place alone."""
        return self.all & ~((1 << state.next) - 1) & ~state.taken

    def _possible_member(self, member: Member) -> bool:
        return self.possible(member.key) and self.possible(member.value)

    def _closable(self, state: ObjectState) -> bool:
        missing = (self.must | state.pending) & ~state.taken & self._ahead(state)
        enough = all(count >= other.least for count, other in zip(state.counts, self.definition.others, strict=True))
        return not missing and enough and state.total >= self.definition.least

    def _feasible(self, state: ObjectState) -> bool:
        """Whether some continuation completes the object: a member that must come is ahead of every state there is,
        because none is ever passed over."""
        definition = self.definition
        missing = (self.must | state.pending) & self._ahead(state)
        if not all(self._possible_member(definition.members[index]) for index in _indices(missing)):
            return False
        low = state.total + missing.bit_count()
        room = 0  # for others beyond what they must be
        for count, others in zip(state.counts, definition.others, strict=True):
            lacking = max(others.least - count, 0)
            low += lacking
            if others.most is not None and count + lacking > others.most:
                return False
            free = definition.least if others.most is None else others.most - count - lacking
            if lacking or free:
                if self.possible(others.key) and self.possible(others.value):
                    room += free
                elif lacking:
                    return False
        if self.most is not None and max(low, definition.least) > self.most:
            return False
        gap = definition.least - low
        return gap <= room or self._optional_fill(state, missing, gap - room, gap)

    def _optional_fill(self, state: ObjectState, missing: int, least: int, gap: int) -> bool:
        """Whether members that may come number `least` at least, and no more than fit, with what each needs."""
        members = self.definition.members
        takeable = self._ahead(state)
        takeable &= _bits(i for i in _indices(takeable) if missing >> i & 1 or self._possible_member(members[i]))
        while True:
            short = [i for i in _indices(takeable) if self.needs[i] & ~takeable & ~state.taken]
            if not short:
                break
            takeable &= ~_bits(short)
        optional = takeable & ~missing
        if optional.bit_count() < least:
            return False
        if self.most is None or not self.circular:
            return True  # one at a time, what is needed first, reaches every number
        fits = gap + self.most - self.definition.least
        return any(least <= size <= fits for size in self._sizes(optional, state.taken | missing))

    def _sizes(self, optional: int, there: int) -> set[int]:
        """How many members a set can have that holds what its members need."""
        seen, queue = {0}, [0]
        while queue:
            chosen = queue.pop()
            for index in _indices(optional & ~chosen):
                larger = chosen | ((self.needs[index] | 1 << index) & ~there)
                if larger not in seen:
                    seen.add(larger)
                    queue.append(larger)
            if len(seen) > CLOSED_SETS:
                raise GrammarTooLarge("too many properties that need each other, with a bound on their number")
        return {chosen.bit_count() for chosen in seen}

    @cached_property
    def _strict_needs(self) -> list[int]:
        """What a member needs through others that need it in turn: itself, only when it is in a circle."""
        found = []
        for index, needs in enumerate(self.needs):
            others = needs & ~(1 << index)
            through = 0
            for other in _indices(others):
                through |= self.needs[other]
            found.append(through)
        return found


def _bits(indices: Iterator[int] | frozenset[int] | list[int]) -> int:
    bits = 0
    for index in indices:
        bits |= 1 << index
    return bits


def _indices(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _closed(needs: list[int]) -> list[int]:
    """Needs of needs are needs."""
    for middle in [index for index, bits in enumerate(needs) if bits]:
        for index, bits in enumerate(needs):
            if bits >> middle & 1:
                needs[index] = bits | needs[middle]
    return needs
