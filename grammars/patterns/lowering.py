"""Trees to byte-level expressions; what looks around is put in terms of intersection and complement."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

from ...errors import GrammarTooLarge
from ..expression import (
    ANYTHING,
    EMPTY,
    NOTHING,
    Both,
    ByteSet,
    Concat,
    Either,
    Expression,
    Not,
    both,
    complement,
    concat,
    either,
    literal,
    repeat,
)
from .automaton import without_looks
from .characters import one
from .encoding import Encoding, characters, universe
from .looks import Edge, Path, Side, TooHard, bounded, ended, paths, resolved, tempered
from .parser import MAX_DEPTH
from .tree import Alternatives, Characters, Counted, Node, Sequence, alternatives, sequence

_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_FACTORS = 24  # how deep alternatives are factored by what they share in front


def lower(tree: Node, encoding: Encoding = "utf8") -> Expression:
    """The texts that `tree` matches as a whole, as bytes in this encoding.

    Looks become intersections and complements, or, inside repetitions, a small automaton. Raises GrammarTooLarge when
    that is not small, GrammarError for a look-ahead in a look-behind in a repetition.
    """
    if tree.plain:
        return _plain(tree, encoding)
    tree = tempered(tree)
    try:
        return _union_of_paths(paths(tree), encoding)
    except TooHard:
        found = without_looks(tree)
        if found.depth > MAX_DEPTH:
            raise GrammarTooLarge("a look-around inside a repetition that takes too deep an expression") from None
        return _plain(found, encoding)


def words(texts: Iterable[str], encoding: Encoding = "utf8") -> Expression:
    """Any one of these texts, what they share in front written once; lone surrogates in them cannot be written."""
    found = sorted(text for text in set(texts) if text.isascii() or not _SURROGATE.search(text))
    return _words(found, 0, encoding, 0)


def _words(texts: list[str], begun: int, encoding: Encoding, depth: int) -> Expression:
    """Any one of these, which are sorted and differ, without their first characters, which are the same."""
    if not texts:
        return NOTHING
    if len(texts) == 1 or depth >= MAX_FACTORS:
        return either(_spelled(text[begun:], encoding) for text in texts)
    first, last = texts[0], texts[-1]
    at = next((i for i in range(begun, min(len(first), len(last))) if first[i] != last[i]), min(len(first), len(last)))
    ways = [EMPTY] if len(first) == at else []
    for _, same in groupby(texts[len(ways) :], key=lambda text: text[at]):
        ways.append(_words(list(same), at, encoding, depth + 1))
    return concat([_spelled(first[begun:at], encoding), either(ways)])


def _spelled(text: str, encoding: Encoding) -> Expression:
    if encoding == "utf8":
        return literal(text.encode())
    return concat(characters(one(ord(letter)), encoding) for letter in text)


def _text(node: Node) -> str | None:
    """The one text that a node is, if it is one."""
    letters = []
    for part in node.parts if isinstance(node, Sequence) else (node,):
        if not isinstance(part, Characters) or len(part.allowed.ranges) != 1:
            return None
        first, last = part.allowed.ranges[0]
        if first != last:
            return None
        letters.append(chr(first))
    return "".join(letters)


def factored(options: Iterable[Node]) -> list[Node]:
    """Alternatives with what they share in front written once: 20,000 words become a tree of their letters."""
    return _factored([option.parts if isinstance(option, Sequence) else (option,) for option in options], 0)


def _factored(options: list[tuple[Node, ...]], depth: int) -> list[Node]:
    if len(options) < 3 or depth >= MAX_FACTORS:
        return [sequence(option) for option in options]
    groups: dict[Node | None, list[tuple[Node, ...]]] = {}
    for option in options:
        groups.setdefault(option[0] if option else None, []).append(option)
    found = []
    for same in groups.values():
        first = same[0]
        if len(same) == 1:
            found.append(sequence(first))
            continue
        shared = 0
        while len({parts[shared] if shared < len(parts) else None for parts in same}) == 1 and shared < len(first):
            shared += 1
        rests = _factored([parts[shared:] for parts in same], depth + 1)
        found.append(sequence([*first[:shared], alternatives(rests)]))
    return found


def _plain(tree: Node, encoding: Encoding) -> Expression:
    if isinstance(tree, Characters):
        return characters(tree.allowed, encoding)
    if isinstance(tree, Sequence):
        return concat([_plain(part, encoding) for part in tree.parts])
    if isinstance(tree, Alternatives):
        texts = [_text(option) for option in tree.options]
        rest = [option for option, text in zip(tree.options, texts, strict=True) if text is None]
        found = [_plain(option, encoding) for option in factored(rest)]
        return either([words([text for text in texts if text is not None], encoding), *found])
    assert isinstance(tree, Counted)
    return repeat(_plain(tree.inner, encoding), tree.least, tree.most)


def _union_of_paths(found: Iterable[Path], encoding: Encoding) -> Expression:
    """Whole texts along these paths."""
    ways = bounded([way for path in found for way in resolved(path)])
    options = []
    for way in ways:
        begun = ended(way, behind=True)
        closed = None if begun is None else ended(begun, behind=False)
        if closed is not None:
            options.append(_whole(closed, encoding))
    return either(options)


def _whole(path: Path, encoding: Encoding) -> Expression:
    """Whole texts along a path without edges; its sides become intersections, nested."""
    ahead = [i for i, item in enumerate(path) if isinstance(item, Side) and not item.behind]
    behind = [i for i, item in enumerate(path) if isinstance(item, Side) and item.behind]
    if not ahead and not behind:
        return concat([_plain(item, encoding) for item in path if not isinstance(item, Edge | Side)])
    if ahead and (not behind or behind[-1] > ahead[0]):
        at = ahead[0]
        if behind and at > 0:
            if behind[-1] < len(path) - 1:
                raise TooHard  # each of the two looks past the other
            at = behind[-1]
    else:
        at = behind[-1]
    side = path[at]
    assert isinstance(side, Side)
    before, after = path[:at], path[at + 1 :]
    condition = _union_of_paths(side.ways, encoding)
    if side.negative:
        condition = complement(condition)
    if side.behind:
        return concat([intersection(condition, _whole(before, encoding), encoding), _whole(after, encoding)])
    return concat([_whole(before, encoding), intersection(condition, _whole(after, encoding), encoding)])


def intersection(left: Expression, right: Expression, encoding: Encoding) -> Expression:
    """Both of these, of which `right` has texts in this encoding only."""
    if right == EMPTY:
        return EMPTY if nullable(left) else NOTHING
    if left == EMPTY:
        return EMPTY if nullable(right) else NOTHING
    anything = universe(encoding)
    if left in (anything, ANYTHING):
        return right
    if right == anything and not isinstance(left, Not):
        return left
    return both([left, right])


def nullable(expression: Expression) -> bool:
    """Whether it takes the empty string."""
    if isinstance(expression, ByteSet):
        return False
    if isinstance(expression, Concat | Both):
        return all(nullable(part) for part in expression.parts)
    if isinstance(expression, Either):
        return any(nullable(part) for part in expression.parts)
    if isinstance(expression, Not):
        return not nullable(expression.inner)
    return expression.least == 0 or nullable(expression.inner)
