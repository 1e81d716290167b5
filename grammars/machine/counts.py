"""Counts that no token can run through are left out of a state, so one mask serves a long string to near its end."""

from __future__ import annotations

from .lexemes import Lexemes
from .nodes import ALT, CAT, EMPTY, ENDLESS, REP, Node


class Reach:
    """States that tokens of up to `reach` bytes cannot tell from a given one, the same for as many as possible.

    x{n,m} stands for any x{n',m'} whose bounds are further away than the token's bytes: each time round takes at least
    one. Within intersections and complements counts stay as they are, for there a bound decides what is alive.
    """

    def __init__(self, lexemes: Lexemes, reach: int) -> None:
        self._lexemes = lexemes
        self.reach = reach
        self._found: dict[Node, Node] = {}

    def of(self, state: Node) -> Node:
        """The state that stands for `state`; alive and ending exactly as it does for the next `reach` bytes."""
        found = self._found.get(state)
        if found is None:
            key = self._lexemes.keys[state]
            if key[0] == CAT and state != EMPTY:
                found = self._of_chain(state)
            elif key[0] == REP:
                _, inner, least, most = key
                most = ENDLESS if most >= self.reach else most
                found = self._lexemes.repeat(self.of(inner), min(least, self.reach + 1), most)
            elif key[0] == ALT:
                parts = {part: self.of(part) for part in key[1]}
                same = all(part == other for part, other in parts.items())
                found = state if same else self._lexemes.either(set(parts.values()))
            else:
                found = state
            self._found[state] = found
        return found

    def _of_chain(self, state: Node) -> Node:
        """Of a CAT: as far along it as a token can come; what lies beyond only has to be there."""
        lexemes, heads, shortest, node = self._lexemes, list[Node](), 0, state
        while shortest <= self.reach and lexemes.keys[node][0] == CAT and node != EMPTY:
            _, head, node = lexemes.keys[node]
            shortest += lexemes.shortest[head]
            heads.append(head)
        rest = node if shortest > self.reach else self.of(node)
        others = [self.of(head) for head in heads]
        if others == heads and rest == node:
            return state
        for head in reversed(others):
            rest = lexemes.concat(head, rest)
        return rest
