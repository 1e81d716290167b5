"""Finds a regular expression in a stream of text in time linear in the text, whatever the pattern.

Python's parser reads the pattern; the search walks a nondeterministic automaton, all of whose states are followed at
once, so no pattern backtracks. It can only be large, and a large one is refused. A drawing for `ab*c`:

    start --a--> (1) --c--> found          each thread remembers where it started: the earliest start that is still
                 | ^                       alive is how much text may yet turn out to be the beginning of a match
                 +b+
"""

from __future__ import annotations

import functools
import re
from re import _constants as op  # type: ignore[attr-defined]  # Python's own parser: exact, and nothing to keep in step
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from ...errors import InvalidRequest
from .stop_strings import Found

MAX_STATES = 500
_REMEMBERED_CHARACTERS = 4_096

_CATEGORIES = {
    op.CATEGORY_DIGIT: r"\d",
    op.CATEGORY_NOT_DIGIT: r"\D",
    op.CATEGORY_SPACE: r"\s",
    op.CATEGORY_NOT_SPACE: r"\S",
    op.CATEGORY_WORD: r"\w",
    op.CATEGORY_NOT_WORD: r"\W",
}


class StopRegex:
    """An automaton: state i reads a character of class `reads[i]` (None: reads nothing) and goes to `goes[i]`."""

    def __init__(self, pattern: str) -> None:
        self.reads: list[int | None] = []
        self.goes: list[list[int]] = []
        self._classes: dict[tuple[str, int], int] = {}
        self._tests: list[re.Pattern[str]] = []
        self._memory: dict[str, frozenset[int]] = {}
        tree = parser.parse(pattern)
        self.found = self._state(None, [])
        self.start = self._sequence(tree, self.found, tree.state.flags)

    def matching(self, character: str) -> frozenset[int]:
        """The classes that this character belongs to."""
        known = self._memory.get(character)
        if known is None:
            if len(self._memory) >= _REMEMBERED_CHARACTERS:
                self._memory.clear()
            known = frozenset(i for i, test in enumerate(self._tests) if test.fullmatch(character))
            self._memory[character] = known
        return known

    # Each of these builds a part that goes on to state `then`, and returns the state where the part begins.

    def _state(self, reads: int | None, goes: list[int]) -> int:
        if len(self.reads) >= MAX_STATES:
            raise InvalidRequest(
                f"stop_regex is too large: more than {MAX_STATES:,} states; make it or its counts smaller."
            )
        self.reads.append(reads)
        self.goes.append(goes)
        return len(self.reads) - 1

    def _character(self, source: str, flags: int, then: int) -> int:
        key = (source, flags & (re.IGNORECASE | re.ASCII | re.DOTALL))
        if key not in self._classes:
            self._classes[key] = len(self._tests)
            self._tests.append(re.compile(*key))
        return self._state(self._classes[key], [then])

    def _sequence(self, items: Any, then: int, flags: int) -> int:
        for kind, argument in reversed(list(items)):
            then = self._item(kind, argument, then, flags)
        return then

    def _item(self, kind: Any, argument: Any, then: int, flags: int) -> int:
        if kind is op.LITERAL:
            return self._character(re.escape(chr(argument)), flags, then)
        if kind is op.NOT_LITERAL:
            return self._character(f"[^{re.escape(chr(argument))}]", flags, then)
        if kind is op.ANY:
            return self._character(".", flags, then)
        if kind is op.IN:
            return self._character(f"[{''.join(_member(*member) for member in argument)}]", flags, then)
        if kind is op.BRANCH:
            return self._state(None, [self._sequence(one, then, flags) for one in argument[1]])
        if kind is op.SUBPATTERN:
            _, added, removed, inner = argument
            return self._sequence(inner, then, (flags | added) & ~removed)
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, inner = argument
            return self._repeat(least, most, inner, then, flags)
        raise InvalidRequest(
            f"stop_regex uses {str(kind).lower()}, which a stream cannot be searched for: "
            "anchors, look-around, back-references and atomic groups are not allowed."
        )

    def _repeat(self, least: int, most: int, inner: Any, then: int, flags: int) -> int:
        if most is op.MAXREPEAT:
            then = self._state(None, [then])
            loop = self._sequence(inner, then, flags)
            self.goes[then].insert(0, loop)
        else:
            for _ in range(most - least):
                then = self._state(None, [self._sequence(inner, then, flags), then])
        for _ in range(least):
            then = self._state(None, [self._sequence(inner, then, flags)])
        return then


class RegexSearch:
    """The search of one stream: feed it the text piece by piece; it reports the match that ends first."""

    def __init__(self, regex: StopRegex) -> None:
        self._regex = regex
        self._position = 0
        self._threads: dict[int, int] = {}  # state that reads a character -> earliest start; in order of starts
        self._fresh = list(self._follow([(regex.start, 0)]))
        self._begins = frozenset(regex.reads[state] for state in self._fresh)  # classes of a match's first character

    @property
    def held(self) -> int:
        """How many characters at the end of the text may be the beginning of a match."""
        return self._position - next(iter(self._threads.values())) if self._threads else 0

    def feed(self, text: str, *, reports: bool = True) -> Found | None:
        """Go through the text; the first match to end, the longest of those, or None. After a match, feed no more.

        reports=False passes over matches that end in this text.
        """
        regex = self._regex
        for character in text:
            classes = regex.matching(character)
            start = self._position
            self._position += 1
            if not self._threads and self._begins.isdisjoint(classes):
                continue  # the common case
            targets = [
                (regex.goes[state][0], begun) for state, begun in self._threads.items() if regex.reads[state] in classes
            ]
            targets += [(regex.goes[state][0], start) for state in self._fresh if regex.reads[state] in classes]
            if not targets:
                self._threads = {}
                continue
            self._threads = self._follow(targets)
            begun = self._threads.pop(regex.found, None)
            if begun is not None and reports:
                return Found(begun, self._position)
        return None

    def _follow(self, targets: list[tuple[int, int]]) -> dict[int, int]:
        """The states that read something, or are the end, reached from these without reading; earlier starts win."""
        reads, goes, found = self._regex.reads, self._regex.goes, self._regex.found
        seen: set[int] = set()
        reached: dict[int, int] = {}
        for target, begun in targets:
            waiting = [target]
            while waiting:
                state = waiting.pop()
                if state in seen:
                    continue
                seen.add(state)
                if reads[state] is not None or state == found:
                    reached[state] = begun
                else:
                    waiting += goes[state]
        return reached

    @property
    def found_at_once(self) -> bool:
        """Whether the pattern matches the empty text."""
        return self._regex.found in self._fresh


def _member(kind: Any, argument: Any) -> str:
    """One member of a character class, as source again."""
    if kind is op.NEGATE:
        return "^"
    if kind is op.LITERAL:
        return re.escape(chr(argument))
    if kind is op.RANGE:
        return f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
    return _CATEGORIES[argument]


@functools.lru_cache(maxsize=128)
def compile_stop_regex(pattern: str) -> StopRegex:
    """The automaton of a pattern. Raises InvalidRequest for what is no regular expression, too large or empty."""
    try:
        regex = StopRegex(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"stop_regex={pattern[:80]!r} is not a valid regular expression: {error}") from None
    if RegexSearch(regex).found_at_once:
        raise InvalidRequest(f"stop_regex={pattern[:80]!r} matches the empty text, so it would stop at once.")
    return regex
