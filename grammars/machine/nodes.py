"""Regular expressions as numbered nodes in one normal form: equal nodes have equal numbers, whoever made them."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import Any

from ...errors import GrammarTooLarge
from .byte_classes import ByteClasses

Node = int
Key = tuple[Any, ...]
NOTHING: Node = 0
EMPTY: Node = 1
ANYTHING: Node = 3  # 2 is any byte

SET, CAT, ALT, AND, NOT, REP = range(6)
ENDLESS = 1 << 62  # a length or a count without a bound
DEEPEST = 250  # levels of nesting; derivatives recurse once for each
ALL_BYTES = (1 << 256) - 1


class Nodes:
    """The nodes made so far. Only grows; whoever holds it replaces it when it has grown too much.

    A key says what a node is: (SET, bits), (CAT, head, tail), (ALT, nodes), (AND, nodes), (NOT, node),
    (REP, node, least, most). A CAT's head is never a CAT, so a literal is a chain whose derivative is its tail.
    """

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.nullable = bytearray()
        self.shortest: list[int] = []  # bounds on the lengths of its strings, perhaps not tight
        self.longest: list[int] = []
        self.first: list[int] = []  # the bytes that its strings begin with, perhaps some more
        self.plain = bytearray()  # neither AND nor NOT in it: then it has strings, unless it is NOTHING
        self.depth: list[int] = []
        self.classes = ByteClasses()
        self.work = 0  # nodes made and parts looked at
        self.ceiling = ENDLESS  # of work; see Machine
        self._numbers: dict[object, Node] = {}
        self.byte_set(0)
        self._new((CAT,), True, 0, 0, 0, True, 0)
        anything = self.repeat(self.byte_set(ALL_BYTES), 0, ENDLESS)
        assert anything == ANYTHING

    def __len__(self) -> int:
        return len(self.keys)

    def byte_set(self, bits: int) -> Node:
        """One byte out of the set."""
        found = self._numbers.get((SET, bits))
        if found is not None:
            return found
        least, most = (1, 1) if bits else (ENDLESS, 0)
        return self._new((SET, bits), False, least, most, bits, True, 0)

    def concat(self, head: Node, tail: Node) -> Node:
        """The one, then the other."""
        if head == NOTHING or tail == NOTHING:
            return NOTHING
        if head == EMPTY:
            return tail
        if tail == EMPTY:
            return head
        heads = []
        while self.keys[head][0] == CAT:
            _, first, head = self.keys[head]
            heads.append(first)
        tail = self._joined(head, tail)
        for one in reversed(heads):
            tail = self._joined(one, tail)
        return tail

    def _joined(self, head: Node, tail: Node) -> Node:
        """Two counts of one thing are one count: x{2,5}x{1,3} is x{3,8}, and x?x?x? is x{0,3}."""
        _, following, rest = self.keys[tail] if self.keys[tail][0] == CAT and tail != EMPTY else (CAT, tail, EMPTY)
        one, other = self._counted(head), self._counted(following)
        if one[0] == other[0] and (one[0] != head or other[0] != following):
            most = ENDLESS if ENDLESS in (one[2], other[2]) else one[2] + other[2]
            head, tail = self.repeat(one[0], one[1] + other[1], most), rest
        return head if tail == EMPTY else self._pair(head, tail)

    def _counted(self, node: Node) -> tuple[Node, int, int]:
        key = self.keys[node]
        return key[1:] if key[0] == REP else (node, 1, 1)

    def _pair(self, head: Node, tail: Node) -> Node:
        key = (CAT, head, tail)
        found = self._numbers.get(key)
        if found is not None:
            return found
        first = self.first[head] | (self.first[tail] if self.nullable[head] else 0)
        return self._new(
            key,
            bool(self.nullable[head] and self.nullable[tail]),
            self.shortest[head] + self.shortest[tail],
            min(self.longest[head] + self.longest[tail], ENDLESS),
            first,
            bool(self.plain[head] and self.plain[tail]),
            max(self.depth[head] + 1, self.depth[tail]),
        )

    def either(self, parts: set[Node]) -> Node:
        """Any of these."""
        bits, found = 0, set[Node]()
        self._spend(len(parts))
        for part in parts:
            key = self.keys[part]
            for one in key[1] if key[0] == ALT else (part,):
                if self.keys[one][0] == SET:
                    bits |= self.keys[one][1]
                else:
                    found.add(one)
        if ANYTHING in found:
            return ANYTHING
        if bits:
            found.add(self.byte_set(bits))
        if len(found) > 1:
            found = self._merged(found)
        if EMPTY in found and any(self.nullable[one] for one in found if one != EMPTY):
            found.discard(EMPTY)
        if len(found) < 2:
            return next(iter(found)) if found else NOTHING
        return self._combined(ALT, found)

    def _spend(self, amount: int) -> None:
        self.work += amount
        if self.work > self.ceiling:
            raise GrammarTooLarge("its regular expressions have too many states; make counts and intersections smaller")

    def _merged(self, found: set[Node]) -> set[Node]:
        """Counts of one thing before one tail are one interval where they touch: x{2,5}y | x{0,3}y is x{0,5}y."""
        counted: dict[tuple[Node, Node], list[tuple[int, int]]] = {}
        rest = set[Node]()
        for node in found:
            key = self.keys[node]
            head, tail = key[1:] if key[0] == CAT and node != EMPTY else (node, EMPTY)
            repeated = self.keys[head]
            if repeated[0] == REP:
                counted.setdefault((repeated[1], tail), []).append(repeated[2:])
            else:
                rest.add(node)
        if not counted:
            return found
        for (inner, tail), spans in counted.items():
            if tail in rest:
                rest.discard(tail)
                spans.append((0, 0))
            once = self.concat(inner, tail)
            if once in rest:
                rest.discard(once)
                spans.append((1, 1))
            spans.sort()
            merged = [spans[0]]
            for least, most in spans[1:]:
                if least <= merged[-1][1] + 1:
                    merged[-1] = (merged[-1][0], max(most, merged[-1][1]))
                else:
                    merged.append((least, most))
            rest.update(self.concat(self.repeat(inner, least, most), tail) for least, most in merged)
        return rest

    def both(self, parts: set[Node]) -> Node:
        """What is in all of these."""
        sets, found = [], set[Node]()
        self._spend(len(parts))
        for part in parts:
            key = self.keys[part]
            for one in key[1] if key[0] == AND else (part,):
                if self.keys[one][0] == SET:
                    sets.append(self.first[one])
                elif one != ANYTHING:
                    found.add(one)
        if sets:
            found.add(self.byte_set(reduce(and_, sets)))
        if len(found) < 2:
            return next(iter(found)) if found else ANYTHING
        nullable = all(self.nullable[one] for one in found)
        if any(self.keys[one][0] == NOT and self.keys[one][1] in found for one in found):
            return NOTHING
        shortest, longest = max(self.shortest[one] for one in found), min(self.longest[one] for one in found)
        first = ALL_BYTES
        for one in found:
            first &= self.first[one]
        if shortest > longest or (not nullable and first == 0):
            return NOTHING
        if first == 0:
            return EMPTY
        return self._combined(AND, found)

    def _combined(self, kind: int, found: set[Node]) -> Node:
        key = (kind, frozenset(found))
        number = self._numbers.get(key)
        if number is not None:
            return number
        ordered = sorted(found)
        first = self.first[ordered[0]]
        for one in ordered[1:]:
            first = first | self.first[one] if kind == ALT else first & self.first[one]
        nullables = [self.nullable[one] for one in ordered]
        smaller, larger = (min, max) if kind == ALT else (max, min)
        return self._new(
            key,
            any(nullables) if kind == ALT else all(nullables),
            smaller(self.shortest[one] for one in ordered),
            larger(self.longest[one] for one in ordered),
            first,
            kind == ALT and all(self.plain[one] for one in ordered),
            1 + max(self.depth[one] for one in ordered),
        )

    def complement(self, inner: Node) -> Node:
        """Everything else."""
        if inner in (NOTHING, ANYTHING):
            return ANYTHING if inner == NOTHING else NOTHING
        key = self.keys[inner]
        if key[0] == NOT:
            return int(key[1])
        found = self._numbers.get((NOT, inner))
        if found is not None:
            return found
        nullable = not self.nullable[inner]
        shortest = 0 if nullable else 1
        return self._new((NOT, inner), nullable, shortest, ENDLESS, ALL_BYTES, False, self.depth[inner] + 1)

    def repeat(self, inner: Node, least: int, most: int) -> Node:
        """From `least` to `most` times (ENDLESS: without end)."""
        if self.nullable[inner]:
            least = 0
        if most < least or (inner == NOTHING and least):
            return NOTHING
        if most == 0 or inner in (EMPTY, NOTHING):
            return EMPTY
        if (least, most) == (1, 1) or inner == ANYTHING:
            return inner
        key = self.keys[inner]
        if key[0] == REP and key[3] == ENDLESS and key[2] == 0:
            return inner  # x** is x*
        found = self._numbers.get((REP, inner, least, most))
        if found is not None:
            return found
        return self._new(
            (REP, inner, least, most),
            least == 0,
            min(self.shortest[inner] * least, ENDLESS - 1),
            min(self.longest[inner] * most, ENDLESS),
            self.first[inner],
            bool(self.plain[inner]),
            self.depth[inner] + 1,
        )

    def _new(
        self,
        key: Key,
        nullable: bool,
        shortest: int,
        longest: int,
        first: int,
        plain: bool,
        depth: int,
    ) -> Node:
        if depth > DEEPEST:
            raise GrammarTooLarge(f"an expression nested more than {DEEPEST} deep; write it flatter")
        self._spend(4)
        number = self._numbers[key] = len(self.keys)
        self.keys.append(key)
        self.nullable.append(nullable)
        self.shortest.append(min(shortest, ENDLESS))
        self.longest.append(longest)
        self.first.append(first)
        self.plain.append(plain)
        self.depth.append(depth)
        return number
