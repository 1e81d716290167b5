"""Regular languages run byte by byte: Brzozowski derivatives of numbered nodes, found when first needed."""

from __future__ import annotations

import heapq
import threading
from itertools import count

from ...errors import GrammarTooLarge
from ..expression import Both, ByteSet, Concat, Either, Expression, Not
from .nodes import AND, CAT, EMPTY, ENDLESS, NOT, NOTHING, REP, SET, Node, Nodes

LIVENESS_BUDGET = 20_000  # states looked at to decide whether an intersection or complement is empty
NODE_BUDGET = 200_000  # nodes after which the shared lexemes are begun anew
ALIVE, DEAD = 1, 2


class Lexemes(Nodes):
    """A deterministic automaton over the nodes: a state is the node of what may still come, 0 (NOTHING) is dead.

    States of equal languages written alike are one, for every grammar in the process. Hold `lock` around calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self._rows: dict[Node, list[Node]] = {}  # by class of byte; -1 where nobody went
        self._derivatives: dict[tuple[Node, int], Node] = {}  # by class of byte, not yet known to be alive
        self._partitions: dict[Node, int] = {}
        self._verdicts: dict[Node, int] = {}  # of nodes that are not plain
        self._onward: dict[Node, int] = {}
        self._roots: dict[int, tuple[Expression, Node]] = {}  # by id(); the expression is held, so the id is its own

    def add(self, expression: Expression) -> Node:
        """The state in which all of `expression` may still come; NOTHING when it has no strings."""
        held = self._roots.get(id(expression))
        if held is None:
            if len(self._roots) > 50_000:
                self._roots.clear()
            node = self._lowered(expression)
            held = self._roots[id(expression)] = (expression, node if self.alive(node) else NOTHING)
        return held[1]

    def step(self, state: Node, byte: int) -> Node:
        """The state after one more byte; NOTHING when no string goes on like that."""
        row = self._rows.get(state)
        partition = self.partition(state)
        if row is None:
            row = self._rows[state] = [-1] * len(self.classes.samples[partition])
        group = self.classes.maps[partition][byte]
        target = row[group]
        if target < 0:
            target = self._derivative(state, byte)
            target = row[group] = target if self.alive(target) else NOTHING
        return target

    def onward(self, state: Node) -> int:
        """The bytes that may come next, as bits: exactly those."""
        found = self._onward.get(state)
        if found is None:
            found, partition = 0, self.partition(state)
            classes = self.classes.maps[partition]
            ways = [self.step(state, sample) != NOTHING for sample in self.classes.samples[partition]]
            for byte in range(256):
                found |= ways[classes[byte]] << byte
            self._onward[state] = found
        return found

    def alive(self, state: Node) -> bool:
        """Whether the language has a string at all. Raises GrammarTooLarge when that takes too long to find out."""
        if self.plain[state] or self.nullable[state]:
            return state != NOTHING
        verdict = self._verdicts.get(state)
        if verdict is None:
            key = self.keys[state]
            if key[0] == CAT:
                verdict = self._chain_verdict(state)
            elif key[0] == REP:
                verdict = ALIVE if self.alive(key[1]) else DEAD
            elif key[0] in (AND, NOT):
                return self._search(state)
            else:
                verdict = ALIVE if any(self.alive(one) for one in key[1]) else DEAD
            self._verdicts[state] = verdict
        return verdict == ALIVE

    def _chain_verdict(self, state: Node) -> int:
        while not self.plain[state] and self.keys[state][0] == CAT:
            _, head, state = self.keys[state]
            if not self.alive(head):
                return DEAD
        return ALIVE if self.alive(state) else DEAD

    def _search(self, start: Node) -> bool:
        """Looks for a string, the way that promises the shortest first and, of those, the one furthest along."""
        order = count()
        came: dict[Node, Node] = {start: start}
        queue = [(self.shortest[start], 0, next(order), start)]
        while queue:
            _, depth, _, state = heapq.heappop(queue)
            for sample in self.classes.samples[self.partition(state)]:
                target = self._derivative(state, sample)
                if target in came or target == NOTHING or self._verdicts.get(target) == DEAD:
                    continue
                simple = self.keys[target][0] not in (AND, NOT)
                if self.nullable[target] or self._verdicts.get(target) == ALIVE or (simple and self.alive(target)):
                    self._verdicts[target] = ALIVE
                    while self._verdicts.get(state) != ALIVE:
                        self._verdicts[state] = ALIVE
                        state = came[state]
                    return True
                if simple:  # and not alive
                    continue
                came[target] = state
                estimate = self.shortest[target] - depth + 1  # depth counts down, so that further along comes first
                heapq.heappush(queue, (estimate, depth - 1, next(order), target))
            if len(came) > LIVENESS_BUDGET:
                raise GrammarTooLarge(
                    f"whether anything matches an intersection or complement was not decided in {LIVENESS_BUDGET} "
                    "states; make its parts simpler or their counts smaller"
                )
        self._verdicts.update(dict.fromkeys(came, DEAD))
        return False

    def _derivative(self, state: Node, byte: int) -> Node:
        """What may follow `byte`, before it is known whether that is anything at all."""
        if not self.first[state] >> byte & 1:
            return NOTHING
        if self.keys[state][0] == SET:
            return EMPTY
        place = (state, self.classes.maps[self.partition(state)][byte])
        found = self._derivatives.get(place)
        if found is None:
            found = self._derivatives[place] = self._derived(state, byte)
        return found

    def _derived(self, state: Node, byte: int) -> Node:
        key = self.keys[state]
        kind = key[0]
        if kind == CAT:
            return self._derivative_of_chain(state, byte)
        if kind == REP:
            _, inner, least, most = key
            rest = self.repeat(inner, max(least - 1, 0), most if most == ENDLESS else most - 1)
            return self.concat(self._derivative(inner, byte), rest)
        if kind == NOT:
            return self.complement(self._derivative(key[1], byte))
        parts = {self._derivative(one, byte) for one in key[1]}
        return self.both(parts) if kind == AND else self.either(parts)

    def _derivative_of_chain(self, state: Node, byte: int) -> Node:
        """Of a CAT: through its heads as far as they may be empty."""
        ways = set[Node]()
        while True:
            key = self.keys[state]
            if key[0] != CAT or state == EMPTY:
                ways.add(self._derivative(state, byte) if state != EMPTY else NOTHING)
                break
            _, head, tail = key
            if self.first[head] >> byte & 1:
                ways.add(self.concat(self._derivative(head, byte), tail))
            if not self.nullable[head]:
                break
            state = tail
        return self.either(ways)

    def partition(self, state: Node) -> int:
        """Bytes that no derivative of a state tells apart, as a number of `classes`."""
        found = self._partitions.get(state)
        if found is None:
            found, node = 0, state
            while True:  # along a chain, through the heads that may be empty
                key = self.keys[node]
                head = key[1] if key[0] == CAT and node != EMPTY else node
                found = self.classes.refine(found, self._partition_of(head))
                if head == node or not self.nullable[head]:
                    break
                node = key[2]
            self._partitions[state] = found
        return found

    def _partition_of(self, head: Node) -> int:
        key = self.keys[head]
        if key[0] == SET:
            return self.classes.of_set(key[1])
        if key[0] in (NOT, REP):
            return self.partition(key[1])
        found = 0
        for number in {self.partition(one) for one in key[1]} if head != EMPTY else ():
            found = self.classes.refine(found, number)
        return found

    def _lowered(self, expression: Expression) -> Node:
        """The node of an expression; neither its depth nor its hash is recursed into."""
        done: dict[int, Node] = {}
        stack = [expression]
        while stack:
            one = stack[-1]
            if id(one) in done:
                stack.pop()
                continue
            inner = _parts(one)
            missing = [part for part in inner if id(part) not in done]
            if missing:
                stack += missing
                continue
            stack.pop()
            done[id(one)] = self._built(one, [done[id(part)] for part in inner])
        return done[id(expression)]

    def _built(self, expression: Expression, parts: list[Node]) -> Node:
        if isinstance(expression, ByteSet):
            return self.byte_set(expression.bits)
        if isinstance(expression, Concat):
            node = EMPTY
            for part in reversed(parts):
                node = self.concat(part, node)
            return node
        if isinstance(expression, Either):
            return self.either(set(parts))
        if isinstance(expression, Both):
            return self.both(set(parts))
        if isinstance(expression, Not):
            return self.complement(parts[0])
        return self.repeat(parts[0], expression.least, ENDLESS if expression.most is None else expression.most)


def _parts(expression: Expression) -> tuple[Expression, ...]:
    if isinstance(expression, ByteSet):
        return ()
    if isinstance(expression, Concat):
        return expression.parts
    if isinstance(expression, (Either, Both)):
        return tuple(expression.parts)
    return (expression.inner,)


_shared = Lexemes()
_changing = threading.Lock()


def shared_lexemes() -> Lexemes:
    """The process's lexemes; begun anew when they have grown past NODE_BUDGET (older machines keep the old ones)."""
    global _shared
    with _changing:
        if len(_shared) > NODE_BUDGET:
            _shared = Lexemes()
        return _shared
