r"""Resolves look-arounds and anchors: a tree with them becomes paths with few looks left.

A look at a single character (^ $ \b \B (?!x)) is an `Edge`, and is resolved exactly, by splitting what stands beside it
into its first (or last) character and the rest:

    (?=[a-f]) [a-z]*   ->   [a-f] [a-z]*

Any other look is a `Side`: a condition on all of the text after (or before) its place.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import GrammarTooLarge
from .characters import ANY_CHARACTER, CharacterSet
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
    look,
    sequence,
)


@dataclass(frozen=True, slots=True)
class Edge:
    """The next character (the one before, when `behind`) is among `allowed`; or there is none, and `end` is true."""

    allowed: CharacterSet
    end: bool
    behind: bool


@dataclass(frozen=True, slots=True)
class Side:
    """All of the text after this place (before it, when `behind`) goes along one of `ways`; none, when `negative`."""

    ways: tuple[Path, ...]
    behind: bool
    negative: bool


Item = Node | Edge | Side  # a Node here is plain, and never the empty string
Path = tuple[Item, ...]

MAX_PATHS = 512


class TooHard(Exception):
    """This way of resolving looks does not reach this tree."""


def paths(tree: Node) -> list[Path]:
    """The paths through `tree`; raises TooHard when a look stands within a repetition."""
    if tree.plain:
        return [_path(tree)]
    if isinstance(tree, Look):
        return _look(tree)
    if isinstance(tree, Sequence):
        return _products([paths(part) for part in tree.parts])
    if isinstance(tree, Alternatives):
        return bounded([path for option in tree.options for path in paths(option)])
    assert isinstance(tree, Counted)
    if tree.most is None or tree.most > 3:
        raise TooHard
    inner = paths(tree.inner)
    return bounded([path for times in range(tree.least, tree.most + 1) for path in _products([inner] * times)])


def tempered(tree: Node) -> Node:
    """The tree with `(?:(?!x).){2,9}` at its end written as `(?!.*x).{2,9}`, where . is any character: x, which is not
    empty, must not begin anywhere before the end either way. This keeps the count a count.
    """
    parts: list[Node] = list(tree.parts) if isinstance(tree, Sequence) else [tree]
    if len(parts) > 1 and parts[-1] == ANY_TEXT and _is_end(parts[-2], behind=False):
        parts.pop()  # nothing stands after the end
    if len(parts) > 1 and parts[0] == ANY_TEXT and _is_end(parts[1], behind=True):
        del parts[:2]
    at = len(parts) - 1
    while at >= 0 and isinstance(parts[at], Look):
        at -= 1
    last = parts[at] if at >= 0 else None
    if isinstance(last, Counted) and isinstance(last.inner, Sequence) and len(last.inner.parts) == 2:
        ahead, one = last.inner.parts
        if isinstance(ahead, Look) and ahead.negative and not ahead.behind and isinstance(one, Characters):
            content = ahead.inner.parts if isinstance(ahead.inner, Sequence) else (ahead.inner,)
            if any(part.plain and not nullable(part) for part in content):
                nowhere = look(sequence([ANY_TEXT, ahead.inner]), negative=True)
                parts[at : at + 1] = [nowhere, counted(one, last.least, last.most)]
    return sequence(parts)


def _is_end(node: Node, *, behind: bool) -> bool:
    """Whether this is a place where the text ends (or begins, when `behind`)."""
    anything = isinstance(node, Look) and node.inner == Characters(ANY_CHARACTER)
    return anything and isinstance(node, Look) and node.negative and node.behind == behind


def resolved(path: Path) -> list[Path]:
    """The same texts as paths whose edges all look out at an end of the path, or are gone."""
    done: list[Path] = []
    waiting = [path]
    while waiting:
        current = waiting.pop()
        at = next((i for i, item in enumerate(current) if isinstance(item, Edge) and not _looks_out(current, i)), None)
        if at is None:
            done.append(current)
        else:
            waiting += _resolve(current, at)
        bounded(done)
        bounded(waiting)
    return done


def ended(path: Path, *, behind: bool) -> Path | None:
    """The path when the text ends where its edges look out (begins there, when `behind`); None: it cannot."""
    kept: list[Item] = []
    for item in path:
        if isinstance(item, Edge) and item.behind == behind:
            if not item.end:
                return None
        else:
            kept.append(item)
    return tuple(kept)


def bounded(found: list[Path]) -> list[Path]:
    """These, unless they are too many: then GrammarTooLarge."""
    if len(found) > MAX_PATHS:
        raise GrammarTooLarge("look-arounds and anchors that combine in too many ways; use fewer of them")
    return found


def _path(node: Node | None) -> Path:
    return () if node is None or node == EMPTY_STRING else (node,)


def _products(choices: list[list[Path]]) -> list[Path]:
    found: list[Path] = [()]
    for further in choices:
        found = bounded([before + after for before in found for after in further])
    return found


def _looks_out(path: Path, at: int) -> bool:
    """Whether nothing but looks stands between this one and the end that it looks at."""
    item = path[at]
    assert isinstance(item, Edge | Side)
    beside = path[:at] if item.behind else path[at + 1 :]
    return all(isinstance(other, Edge | Side) for other in beside)


def _look(tree: Look) -> list[Path]:
    if isinstance(tree.inner, Characters):
        allowed = tree.inner.allowed
        return [(Edge(~allowed if tree.negative else allowed, tree.negative, tree.behind),)]
    open_end = [ANY_TEXT, tree.inner] if tree.behind else [tree.inner, ANY_TEXT]
    conditions = []  # for each way that its inside may match: what must hold here, all together
    for whole in _products([paths(part) for part in open_end]):
        for path in resolved(whole):
            closed = ended(path, behind=tree.behind)
            if closed is not None:
                conditions.append(_split(closed, tree.behind))
    if not tree.negative:
        return bounded([tuple(items) for items in conditions])
    # a negative look holds when each of the ways fails in one of its conditions
    return _products([[(_inverted(item),) for item in items] for items in conditions])


def _split(path: Path, behind: bool) -> list[Edge | Side]:
    """A way that a look's inside may match, as conditions on both sides of the look."""
    conditions: list[Edge | Side] = []
    inner: list[Item] = []
    for at, item in enumerate(path):
        if isinstance(item, Edge | Side) and item.behind != behind:
            if not _looks_out(path, at):
                raise TooHard  # it looks past what the look has seen
            conditions.append(item)
        else:
            inner.append(item)
    found = _condition(tuple(inner), behind)
    return [*conditions, found] if found is not None else conditions


def _condition(way: Path, behind: bool) -> Edge | Side | None:
    """All of the text on one side goes along this way; None when any text does."""
    if not way:
        return Edge(CharacterSet(()), True, behind)
    parts = sequence(item for item in way if not isinstance(item, Edge | Side))
    if len(way) == 1 and parts == ANY_TEXT:
        return None
    if len(way) == 1 and isinstance(parts, Sequence) and len(parts.parts) == 2:
        first, other = parts.parts[::-1] if behind else parts.parts
        if isinstance(first, Characters) and other == ANY_TEXT:
            return Edge(first.allowed, False, behind)
    return Side((way,), behind, False)


def _inverted(item: Edge | Side) -> Edge | Side:
    if isinstance(item, Edge):
        return Edge(~item.allowed, not item.end, item.behind)
    return Side(item.ways, item.behind, not item.negative)


def _resolve(path: Path, at: int) -> list[Path]:
    """Resolve the edge at `at` against what stands beside it."""
    edge = path[at]
    assert isinstance(edge, Edge)
    step = -1 if edge.behind else 1
    beside = at + step
    while isinstance(path[beside], Edge | Side):
        beside += step
    node = path[beside]
    assert not isinstance(node, Edge | Side)
    found = []
    taken = with_edge(node, edge.allowed, last=edge.behind)
    if taken is not None:
        changed: list[Item] = [*path]
        changed[beside] = taken
        del changed[at]
        found.append(tuple(changed))
    if nullable(node):  # or it is not there, and the edge looks at what comes next
        found.append(path[:beside] + path[beside + 1 :])
    return found


def nullable(node: Node) -> bool:
    """Whether a plain tree takes the empty string."""
    if isinstance(node, Characters):
        return False
    if isinstance(node, Sequence):
        return all(nullable(part) for part in node.parts)
    if isinstance(node, Alternatives):
        return any(nullable(option) for option in node.options)
    assert isinstance(node, Counted)
    return node.least == 0 or nullable(node.inner)


def with_edge(node: Node, allowed: CharacterSet, *, last: bool) -> Node | None:
    """The words of a plain tree whose first (or last) character there is, and is among `allowed`; None: none are."""
    if isinstance(node, Characters):
        both = node.allowed & allowed
        return Characters(both) if both else None
    if isinstance(node, Alternatives):
        options = [found for option in node.options if (found := with_edge(option, allowed, last=last)) is not None]
        return alternatives(options) if options else None
    if isinstance(node, Counted):
        edge = with_edge(node.inner, allowed, last=last)
        if edge is None:
            return None
        least = 0 if nullable(node.inner) else max(node.least - 1, 0)
        others = counted(node.inner, least, None if node.most is None else node.most - 1)
        return sequence([others, edge] if last else [edge, others])
    assert isinstance(node, Sequence)
    options = []
    parts = node.parts[::-1] if last else node.parts
    for i, part in enumerate(parts):
        edge = with_edge(part, allowed, last=last)
        if edge is not None:
            rest = parts[i + 1 :]
            options.append(sequence([*rest[::-1], edge] if last else [edge, *rest]))
        if not nullable(part):
            break
    return alternatives(options) if options else None
