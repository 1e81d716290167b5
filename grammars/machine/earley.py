"""Earley's algorithm, a byte at a time, over sets that are kept once: a lazy automaton whose states are item sets.

An item is a position in a definition, what completes when that definition does, and the set where it began (SELF: the
set itself, which is only named when a byte is read). So equal items make equal sets, and `[1,2,3` is in one and the
same set after every element: its transitions and its mask are found once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import GrammarTooLarge
from ..program import Symbol
from .nodes import Node
from .positions_table import Position, PositionTable

Words = npt.NDArray[np.uint32]
Int32 = npt.NDArray[np.int32]
ROOT = -1  # what completes when the whole text does
WORK_LIMIT = 60_000  # items that may lead to one set, however often each
SETS_LIMIT = 30_000  # kept by one machine


class Scan(NamedTuple):
    """A lexeme being read: its automaton's state, and the item that goes on where it ends.

    `content` is what it has spelled, for lexemes whose values are recorded.
    """

    lexeme: Node
    target: Position
    completes: int
    origin: EarleySet | None
    content: bytes | None


class Item(NamedTuple):
    """A definition at `position`; when it is complete, so is `completes`, begun at `origin` (None: in this set)."""

    position: Position
    completes: int
    origin: EarleySet | None


class EarleySet:
    """A state of the machine. Its identity is its value: equal sets of one machine are one object.

    `scans`: the lexemes that the next byte may be in. `waiting`: by definition begun here, the items that go on when
    it completes. `accepting`: the text may end here. What was learnt of it is kept with it: transitions, masks.
    """

    __slots__ = ("accepting", "after", "forced", "ids", "mask", "next", "scans", "waiting")

    def __init__(self, scans: frozenset[Scan], waiting: dict[int, frozenset[Item]], accepting: bool) -> None:
        self.scans = scans
        self.waiting = waiting
        self.accepting = accepting
        self.forget()

    def forget(self) -> None:
        """Drop what can be found again."""
        self.next: dict[int, EarleySet | None] = {}
        self.after: dict[Item, EarleySet] = {}
        self.mask: Words | None = None
        self.ids: Int32 | None = None
        self.forced: bytes | None = None


class Earley:
    """The sets of one program. Not safe from several threads: hold the lexemes' lock."""

    def __init__(self, positions: PositionTable, start: Symbol) -> None:
        self._positions = positions
        self._lexemes = positions.lexemes
        self._sets: dict[object, EarleySet] = {}
        self.begin = EarleySet(frozenset(), {}, False)  # where ROOT began: nothing waits there
        self.initial = self._closed(set(), [Item(positions.at(start), ROOT, self.begin)])

    def step(self, state: EarleySet, byte: int) -> EarleySet | None:
        """The set after one more byte; None where no text of the language goes on like that."""
        try:
            return state.next[byte]
        except KeyError:
            found = state.next[byte] = self._stepped(state, byte)
            return found

    def after(self, state: EarleySet, scan: Scan, content: bytes | None) -> EarleySet:
        """The set when a lexeme of `state` has ended with at least one byte more, and nothing else went on."""
        target = scan.target if content is None else self._positions.with_value(scan.target, content)
        item = Item(target, scan.completes, state if scan.origin is None else scan.origin)
        found = state.after.get(item)
        if found is None:
            found = state.after[item] = self._closed(set(), [item])
        return found

    def onward(self, state: EarleySet) -> int:
        """The bytes that may come next, as bits."""
        bits = 0
        for scan in state.scans:
            bits |= self._lexemes.onward(scan.lexeme)
        return bits

    def _stepped(self, state: EarleySet, byte: int) -> EarleySet | None:
        lexemes, scans, agenda = self._lexemes, set[Scan](), list[Item]()
        for lexeme, target, completes, origin, content in state.scans:
            following = lexemes.step(lexeme, byte)
            if not following:
                continue
            origin = state if origin is None else origin
            if content is not None:
                content += bytes((byte,))
            if lexemes.first[following]:
                scans.add(Scan(following, target, completes, origin, content))
            if lexemes.nullable[following]:
                ended = target if content is None else self._positions.with_value(target, content)
                agenda.append(Item(ended, completes, origin))
        return self._closed(scans, agenda) if scans or agenda else None

    def _closed(self, scans: set[Scan], agenda: list[Item]) -> EarleySet:
        """The set of these and of all that follows from them without reading a byte."""
        positions, nullable = self._positions, self._lexemes.nullable
        seen = set[Item]()
        waiting: dict[int, set[Item]] = {}
        empty = set[int]()  # definitions that are complete where they began: later waiters go on at once
        accepting, work = False, 0
        while agenda:
            item = agenda.pop()
            work += 1
            if item in seen:
                continue
            seen.add(item)
            if work > WORK_LIMIT:
                raise GrammarTooLarge(
                    f"more than {WORK_LIMIT} ways to read the same text so far; make the grammar less ambiguous"
                )
            position, completes, origin = item
            steps = positions.steps(position)
            if position.complete:
                if completes == ROOT:
                    accepting = True
                elif origin is not None:
                    agenda += [
                        waiter if waiter.origin is not None else waiter._replace(origin=origin)
                        for waiter in origin.waiting.get(completes, ())
                    ]
                elif completes not in empty:
                    empty.add(completes)
                    agenda += [other for other in waiting.get(completes, ()) if not other.position.solid]
            for way in steps:
                if way.lexeme:
                    content = b"" if way.recorded else None
                    scans.add(Scan(way.lexeme, way.target, completes, origin, content))
                    if nullable[way.lexeme] and not way.target.solid:
                        ended = way.target if content is None else positions.with_value(way.target, content)
                        agenda.append(Item(ended, completes, origin))
                elif origin is not None and positions.is_end(way.target):
                    # nothing comes after it: it completes what this would, so that no chain grows with the text
                    agenda.append(Item(positions.at(way.symbol), completes, origin))
                else:
                    there = waiting.get(way.symbol)
                    if there is None:
                        there = waiting[way.symbol] = set()
                        agenda.append(Item(positions.at(way.symbol), way.symbol, None))
                    waiter = Item(way.target, completes, origin)
                    there.add(waiter)
                    if way.symbol in empty and not way.target.solid:
                        agenda.append(waiter)
        return self._kept(frozenset(scans), {symbol: frozenset(items) for symbol, items in waiting.items()}, accepting)

    def _kept(self, scans: frozenset[Scan], waiting: dict[int, frozenset[Item]], accepting: bool) -> EarleySet:
        key = (scans, frozenset(waiting.items()), accepting)
        found = self._sets.get(key)
        if found is None:
            if len(self._sets) >= SETS_LIMIT:
                self.forget()
            found = self._sets[key] = EarleySet(scans, waiting, accepting)
        return found

    def forget(self) -> None:
        """Drop what can be found again; sets that matchers hold stay right, though no longer one with equal ones."""
        for state in self._sets.values():
            state.forget()
        self._sets.clear()
