"""Finds a regular expression in a stream of text in time linear in the text, whatever the pattern.

The grammars' parser reads the pattern; the search walks a nondeterministic automaton, all of whose states are followed
at once, so no pattern backtracks. It can only be large, and a large one is refused. A drawing for `ab*c`:

    start --a--> (1) --c--> found          each thread remembers where it started: the earliest start that is still
                 | ^                       alive is how much text may yet turn out to be the beginning of a match
                 +b+
"""

from __future__ import annotations

import functools

from ...errors import GrammarError, InvalidRequest
from ...grammars.patterns import parse
from ...grammars.patterns.characters import CharacterSet
from ...grammars.patterns.tree import Alternatives, Characters, Counted, Node, Sequence
from .stop_strings import Found

MAX_STATES = 500
_REMEMBERED_CHARACTERS = 4_096


class StopRegex:
    """An automaton: state i reads a character of class `reads[i]` (None: reads nothing) and goes to `goes[i]`."""

    def __init__(self, pattern: str) -> None:
        self.reads: list[int | None] = []
        self.goes: list[list[int]] = []
        self._classes: dict[CharacterSet, int] = {}
        self._memory: dict[str, frozenset[int]] = {}
        self.found = self._state(None, [])
        self.start = self._part(parse(pattern), self.found)

    def matching(self, character: str) -> frozenset[int]:
        """The classes that this character belongs to."""
        known = self._memory.get(character)
        if known is None:
            if len(self._memory) >= _REMEMBERED_CHARACTERS:
                self._memory.clear()
            code = ord(character)
            known = frozenset(number for allowed, number in self._classes.items() if code in allowed)
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

    def _part(self, node: Node, then: int) -> int:
        match node:
            case Characters(allowed):
                return self._state(self._classes.setdefault(allowed, len(self._classes)), [then])
            case Sequence(parts):
                for part in reversed(parts):
                    then = self._part(part, then)
                return then
            case Alternatives(options):
                return self._state(None, [self._part(option, then) for option in options])
            case Counted():
                return self._repeat(node, then)
        raise InvalidRequest(
            "stop_regex looks around itself, which a stream cannot be searched for: "
            "anchors, word boundaries and look-arounds are not allowed."
        )

    def _repeat(self, node: Counted, then: int) -> int:
        if node.most is None:
            then = self._state(None, [then])
            loop = self._part(node.inner, then)
            self.goes[then].insert(0, loop)
        else:
            for _ in range(node.most - node.least):
                then = self._state(None, [self._part(node.inner, then), then])
        for _ in range(node.least):
            then = self._state(None, [self._part(node.inner, then)])
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


@functools.lru_cache(maxsize=128)
def compile_stop_regex(pattern: str) -> StopRegex:
    """The automaton of a pattern. Raises InvalidRequest for what is no regular expression, too large or empty."""
    try:
        regex = StopRegex(pattern)
    except GrammarError as error:
        raise InvalidRequest(f"stop_regex={pattern[:80]!r} cannot be searched for: {error}") from None
    if RegexSearch(regex).found_at_once:
        raise InvalidRequest(f"stop_regex={pattern[:80]!r} matches the empty text, so it would stop at once.")
    return regex
