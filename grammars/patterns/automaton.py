r"""Look-arounds inside repetitions: the whole tree becomes a deterministic automaton, and that a tree without looks.

    (?:(?!ab)[a-z])*      state 0: last was no a   --a-->  state 1: last was a      1 --b--> nowhere
                                 ^--[^a]--/        <--[^ab]--/                      both accept

A state is what may still come, as a formula over lists of trees (`Term`), and, for each look-behind, what it has seen.
Characters that no part of the tree tells apart are one letter. Everything is bounded: it is for small trees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...errors import GrammarError, GrammarTooLarge
from .characters import LAST, NO_CHARACTER, CharacterSet, character_set
from .tree import (
    ANY_TEXT,
    EMPTY_STRING,
    Alternatives,
    Characters,
    Counted,
    Look,
    Node,
    Sequence,
    alternatives,
    counted,
    sequence,
)

MAX_STATES = 400
MAX_STEPS = 300_000  # of following parts of the tree, all states together
MAX_EDGES = 20_000  # parts of the tree that comes out

Nodes = tuple[Node, ...]  # these, one after another


@dataclass(frozen=True, slots=True)
class Some:
    """Any of these terms; none: nothing."""

    terms: frozenset[Term]


@dataclass(frozen=True, slots=True)
class Every:
    """All of these terms at once; none: everything."""

    terms: frozenset[Term]


@dataclass(frozen=True, slots=True)
class Other:
    """Whatever is not in the term."""

    term: Term


Term = Some | Every | Other | Nodes
State = tuple[Term, ...]  # the text itself, and for each look-behind the text up to here

_NOTHING = Some(frozenset())
_EVERYTHING = Every(frozenset())


def without_looks(tree: Node) -> Node:
    """A tree without looks for the same texts. Raises GrammarTooLarge when the automaton is not small, GrammarError
    for a look-ahead within a look-behind."""
    return _Automaton(tree).tree()


def _any(terms: Iterable[Term]) -> Term:
    found: set[Term] = set()
    for term in terms:
        found |= term.terms if isinstance(term, Some) else {term}
    if _EVERYTHING in found:
        return _EVERYTHING
    # what asks for more than another of these adds nothing
    found = {one for one in found if not (isinstance(one, Every) and any(_asks_less(other, one) for other in found))}
    return next(iter(found)) if len(found) == 1 else Some(frozenset(found))


def _asks_less(less: Term, more: Every) -> bool:
    return less in more.terms or (isinstance(less, Every) and less.terms < more.terms)


def _all(terms: Iterable[Term]) -> Term:
    found: set[Term] = set()
    for term in terms:
        found |= term.terms if isinstance(term, Every) else {term}
    if _NOTHING in found:
        return _NOTHING
    return next(iter(found)) if len(found) == 1 else Every(frozenset(found))


def _not(term: Term) -> Term:
    if isinstance(term, Other):
        return term.term
    if term == _NOTHING:
        return _EVERYTHING
    return _NOTHING if term == _EVERYTHING else Other(term)


def _list(nodes: Nodes) -> Term:
    return _EVERYTHING if nodes == (ANY_TEXT,) else nodes


def _nodes(tree: Node) -> Nodes:
    return tree.parts if isinstance(tree, Sequence) else (tree,)


class _Automaton:
    def __init__(self, tree: Node) -> None:
        self._behinds: dict[Node, int] = {}  # what look-behinds look for, and its place in a state
        self._steps = 0
        sets: set[CharacterSet] = set()
        for node in _walk(tree):
            if isinstance(node, Characters):
                sets.add(node.allowed)
            elif isinstance(node, Look) and node.behind and node.inner not in self._behinds:
                if any(isinstance(inner, Look) and not inner.behind for inner in _walk(node.inner)):
                    raise GrammarError("a look-ahead within a look-behind, inside a repetition")
                self._behinds[node.inner] = len(self._behinds) + 1
        self._letters = _letters(sets)
        self._start: State = (_nodes(tree), *(_nodes(sequence([ANY_TEXT, inner])) for inner in self._behinds))

    def tree(self) -> Node:
        rows, accepting = self._explored()
        rows, accepting = _smallest(rows, accepting)
        return _eliminated(rows, accepting, [letters for letters, _ in self._letters])

    def _explored(self) -> tuple[list[list[int]], list[bool]]:
        """For each state, its successor by letter; and which states accept. State 0 is the beginning."""
        places: dict[State, int] = {self._start: 0}
        rows: list[list[int]] = []
        waiting = [self._start]
        for state in waiting:
            row = []
            for _, sample in self._letters:
                target = tuple(self._after(term, sample, state) for term in state)
                if target not in places:
                    if len(places) >= MAX_STATES:
                        raise GrammarTooLarge(
                            f"a look-around inside a repetition that takes more than {MAX_STATES} states to follow"
                        )
                    places[target] = len(places)
                    waiting.append(target)
                row.append(places[target])
            rows.append(row)
        return rows, [self._nullable(state[0], state) for state in waiting]

    def _step(self, cost: int = 1) -> None:
        self._steps += cost
        if self._steps > MAX_STEPS:
            raise GrammarTooLarge("a look-around inside a repetition that takes too long to follow")

    def _seen(self, look: Look, state: State) -> bool:
        """Whether a look-behind holds where `state` is."""
        return self._nullable(state[self._behinds[look.inner]], state) != look.negative

    # ------------------------------------------------------------ what comes after a letter

    def _after(self, term: Term, sample: int, state: State) -> Term:
        self._step(len(term.terms) ** 2 if isinstance(term, Some) else 1)
        if isinstance(term, Some):
            return _any(self._after(one, sample, state) for one in term.terms)
        if isinstance(term, Every):
            return _all(self._after(one, sample, state) for one in term.terms)
        if isinstance(term, Other):
            return _not(self._after(term.term, sample, state))
        return self._after_nodes(term, sample, state, frozenset())

    def _after_nodes(self, nodes: Nodes, sample: int, state: State, open_loops: frozenset[Nodes]) -> Term:
        """`open_loops`: repetitions that were entered and have taken nothing yet; entering one again gives nothing."""
        self._step()
        if not nodes:
            return _NOTHING
        first, rest = nodes[0], nodes[1:]
        if isinstance(first, Characters):
            return _list(rest) if sample in first.allowed else _NOTHING
        if isinstance(first, Sequence):
            return self._after_nodes(first.parts + rest, sample, state, open_loops)
        if isinstance(first, Alternatives):
            return _any(self._after_nodes((one, *rest), sample, state, open_loops) for one in first.options)
        if isinstance(first, Look):
            if first.behind:
                return self._after_nodes(rest, sample, state, open_loops) if self._seen(first, state) else _NOTHING
            inner = self._after_nodes((*_nodes(first.inner), ANY_TEXT), sample, state, frozenset())
            return _all([_not(inner) if first.negative else inner, self._after_nodes(rest, sample, state, open_loops)])
        ways = []
        if nodes not in open_loops:
            again = counted(first.inner, max(first.least - 1, 0), None if first.most is None else first.most - 1)
            more = (first.inner, *(() if again == EMPTY_STRING else (again,)), *rest)
            ways.append(self._after_nodes(more, sample, state, open_loops | {nodes}))
        if first.least == 0:
            ways.append(self._after_nodes(rest, sample, state, open_loops))
        return _any(ways)

    # ------------------------------------------------------------ whether the text may end here

    def _nullable(self, term: Term, state: State) -> bool:
        if isinstance(term, Some):
            return any(self._nullable(one, state) for one in term.terms)
        if isinstance(term, Every):
            return all(self._nullable(one, state) for one in term.terms)
        if isinstance(term, Other):
            return not self._nullable(term.term, state)
        return all(self._nullable_node(node, state) for node in term)

    def _nullable_node(self, node: Node, state: State) -> bool:
        if isinstance(node, Characters):
            return False
        if isinstance(node, Sequence):
            return all(self._nullable_node(part, state) for part in node.parts)
        if isinstance(node, Alternatives):
            return any(self._nullable_node(option, state) for option in node.options)
        if isinstance(node, Counted):
            return node.least == 0 or self._nullable_node(node.inner, state)
        if node.behind:
            return self._seen(node, state)
        return self._nullable_node(node.inner, state) != node.negative


def _walk(tree: Node) -> Iterator[Node]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, Sequence):
            waiting += node.parts
        elif isinstance(node, Alternatives):
            waiting += node.options
        elif isinstance(node, Counted | Look):
            waiting.append(node.inner)


def _letters(sets: set[CharacterSet]) -> list[tuple[CharacterSet, int]]:
    """The classes of characters that no set tells apart, each with one of its characters."""
    borders = sorted({0} | {at for one in sets for first, last in one.ranges for at in (first, last + 1)})
    ordered = list(sets)
    found: dict[tuple[bool, ...], list[tuple[int, int]]] = {}
    for first, after in zip(borders, [*borders[1:], LAST + 1], strict=True):
        if first <= LAST:
            found.setdefault(tuple(first in one for one in ordered), []).append((first, after - 1))
    return [(character_set(ranges), ranges[0][0]) for ranges in found.values()]


def _smallest(rows: list[list[int]], accepting: list[bool]) -> tuple[list[list[int]], list[bool]]:
    """The automaton with equal states made one; state 0 is the beginning still."""
    block = [int(one) for one in accepting]
    while True:
        signatures: dict[tuple[int, ...], int] = {}
        refined = [
            signatures.setdefault((block[state], *(block[target] for target in row)), len(signatures))
            for state, row in enumerate(rows)
        ]
        if len(signatures) == len(set(block)):
            break
        block = refined
    samples: dict[int, int] = {}
    for state, group in enumerate(refined):
        samples.setdefault(group, state)
    order = sorted(samples, key=lambda group: samples[group])
    places = {group: place for place, group in enumerate(order)}
    return (
        [[places[refined[target]] for target in rows[samples[group]]] for group in order],
        [accepting[samples[group]] for group in order],
    )


def _eliminated(rows: list[list[int]], accepting: list[bool], letters: list[CharacterSet]) -> Node:
    """The tree of an automaton: states are taken out one by one, and what led through them becomes edges."""
    begin, end = -1, -2
    edges: dict[int, dict[int, Node]] = {begin: {0: EMPTY_STRING}}
    for state, row in enumerate(rows):
        targets: dict[int, CharacterSet] = {}
        for letter, target in zip(letters, row, strict=True):
            targets[target] = targets.get(target, NO_CHARACTER) | letter
        edges[state] = {target: Characters(allowed) for target, allowed in targets.items()}
        if accepting[state]:
            edges[state][end] = EMPTY_STRING
    left = set(range(len(rows)))
    while left:
        into = {state: [one for one in edges if one != state and state in edges[one]] for state in left}
        state = min(left, key=lambda one: (len(into[one]) * len(edges[one]), one))
        left.discard(state)
        outward = edges.pop(state)
        loop = outward.pop(state, None)
        around = [] if loop is None else [counted(loop, 0, None)]
        for source in into[state]:
            towards = edges[source].pop(state)
            for target, onward in outward.items():
                way = sequence([towards, *around, onward])
                known = edges[source].get(target)
                edges[source][target] = way if known is None else alternatives([known, way])
        if sum(_size(node) for targets in edges.values() for node in targets.values()) > MAX_EDGES:
            raise GrammarTooLarge("a look-around inside a repetition that takes too large an expression to follow")
    return edges[begin].get(end, Characters(NO_CHARACTER))


def _size(node: Node) -> int:
    return sum(1 for _ in _walk(node))
