"""Decides whether sets of strings have any string in common, by running their automata side by side."""

from __future__ import annotations

import heapq
from collections import deque

from ...errors import GrammarTooLarge
from ..expression import Both, Expression, Not
from ..machine.lexemes import Lexemes, shared_lexemes
from ..machine.nodes import ANYTHING, NOTHING

_MANY = 2000  # strings, or beginnings of strings, beyond which none are counted
_STEPS_OF_A_NODE = 20  # making one takes that much longer than going where somebody went
MOST_STEPS = 150_000  # for all the decisions of one schema together


class Decisions:
    """Answers within one budget, so that a schema with many overlapping patterns is refused rather than waited for."""

    def __init__(self) -> None:
        self._steps = 0

    def possible(self, expression: Expression) -> bool:
        """Whether it has any string. GrammarTooLarge when that takes too long to find out."""
        if not isinstance(expression, Both):
            lexemes = shared_lexemes()
            with lexemes.lock:
                return lexemes.add(expression) != NOTHING
        return self.example(expression) is not None

    def example(self, expression: Expression) -> bytes | None:
        """One of its strings; None when it has none. GrammarTooLarge when that takes too long to find out."""
        lexemes = shared_lexemes()
        with lexemes.lock:
            whole = expression.parts if isinstance(expression, Both) else (expression,)
            parts = [(one.inner, True) if isinstance(one, Not) else (one, False) for one in whole]
            parts.sort(key=lambda part: part[1])  # what must match comes first: it leads out soonest
            states = tuple(lexemes.add(inner) for inner, _ in parts)
            return self._meet(lexemes, states, tuple(outside for _, outside in parts))

    def fewer(self, expression: Expression, limit: int) -> int | None:
        """How many strings it has, when they are fewer than `limit`; None when they are not, or are some thousands."""
        lexemes = shared_lexemes()
        limit = min(limit, _MANY)
        with lexemes.lock:
            queue, found = deque((lexemes.add(expression),)), 0
            while queue and len(queue) < _MANY:
                state = queue.popleft()
                found += lexemes.nullable[state]
                if found >= limit:
                    return None
                onward = lexemes.onward(state) if state != NOTHING else 0
                while onward:
                    low = onward & -onward
                    queue.append(lexemes.step(state, low.bit_length() - 1))
                    onward ^= low
            return None if queue else found

    def _meet(self, lexemes: Lexemes, start: tuple[int, ...], outside: tuple[bool, ...]) -> bytes | None:
        """Some string in the language of every state, or outside it where `outside` says so."""
        nullable, classes, step = lexemes.nullable, lexemes.classes, lexemes.step
        # First the way that promises the shortest string and, of those, the one furthest along.
        queue, seen, order, nodes = [(0, 0, 0, start, b"")], {start}, 0, len(lexemes)
        while queue:
            _, depth, _, states, text = heapq.heappop(queue)
            if all(bool(nullable[state]) is not out for state, out in zip(states, outside, strict=True)):
                return text
            partition = 0
            for state in states:
                partition = classes.refine(partition, lexemes.partition(state))
            for sample in classes.samples[partition]:
                following: list[int] = []
                for state, out in zip(states, outside, strict=True):
                    target = step(state, sample)
                    if target == (ANYTHING if out else NOTHING):
                        break
                    following.append(target)
                else:
                    reached = tuple(following)
                    if reached not in seen:
                        seen.add(reached)
                        order += 1
                        ahead = max(
                            (lexemes.shortest[state] for state, out in zip(reached, outside, strict=True) if not out),
                            default=0,
                        )
                        one = (ahead - depth + 1, depth - 1, order, reached, text + bytes((sample,)))
                        heapq.heappush(queue, one)
                self._steps += 1
            self._steps += _STEPS_OF_A_NODE * (len(lexemes) - nodes)
            nodes = len(lexemes)
            if self._steps > MOST_STEPS:
                raise GrammarTooLarge(
                    "patterns, formats and lengths overlap in too many ways to tell which can be true at once"
                )
        return None
