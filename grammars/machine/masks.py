"""Which tokens stay inside a lexeme and which cross its end, by the lexeme's state: found once for all grammars."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..vocabulary import Vocabulary
from .counts import Reach
from .lexemes import Lexemes
from .nodes import Node
from .trie import Int32, TokenTrie

Words = npt.NDArray[np.uint32]
Kept = TypeVar("Kept")
FEW = 512  # tokens that are kept as ids; more are kept as a packed mask
BROAD = 24  # next bytes from which on a whole level of the trie is walked at once
REACH = 16  # bytes within which counts matter to a token; few are longer
BYTES_LIMIT = 96 << 20  # of all that is kept for one vocabulary


@dataclass(frozen=True, slots=True)
class LexemeTokens:
    """What tokens do from a state of a lexeme.

    `inside`: those that leave it alive, ids or a packed mask. `crossing`: by its first byte, what is left of tokens
    after a point where the lexeme may end, as nodes of the trie behind that byte; a token may be there several times.
    """

    inside: Int32 | Words
    crossing: dict[int, list[int]]

    @property
    def size(self) -> int:
        """Roughly its bytes."""
        return self.inside.nbytes + 200 + sum(100 + 8 * len(nodes) for nodes in self.crossing.values())


class LexemeMasks:
    """LexemeTokens by state, bounded in bytes. Hold the lexemes' lock."""

    def __init__(self, vocabulary: Vocabulary, lexemes: Lexemes) -> None:
        self.lexemes = lexemes
        self.trie = TokenTrie(vocabulary.tokens)
        self._words = vocabulary.words
        self._reach = Reach(lexemes, REACH)
        levels = self.trie.levels
        self._border = levels[min(REACH, len(levels) - 1)]  # the first node that is REACH bytes deep
        self._found: dict[Node, LexemeTokens] = {}
        self._near: dict[Node, tuple[LexemeTokens, list[int]]] = {}
        self._bytes = 0

    def of(self, state: Node) -> LexemeTokens:
        """What every token does from this state."""
        found = self._found.get(state)
        if found is None:
            near = self._reach.of(state)
            found = self._walked(state, len(self.trie))[0] if near == state else self._near_and_far(state, near)
            self._keep(self._found, state, found, found.size)
        return found

    def _near_and_far(self, state: Node, near: Node) -> LexemeTokens:
        """The first bytes as from `near`, which many states share; long tokens go on by themselves."""
        shared = self._near.get(near)
        if shared is None:
            shared = self._walked(near, self._border)
            self._keep(self._near, near, shared, shared[0].size)
        tokens, deep = shared
        stack = [(node, self._run(state, self.trie.spelling(node))) for node in deep]
        inside, crossing, _ = self._by_nodes(stack, len(self.trie))
        if inside:
            more = np.array(inside, np.int32)
            if tokens.inside.dtype == np.uint32:
                kept = tokens.inside | packed(more, self._words)
            else:
                kept = self._stored(np.sort(np.concatenate([tokens.inside, more])))
        else:
            kept = tokens.inside
        together = {byte: [*nodes, *crossing.pop(byte, ())] for byte, nodes in tokens.crossing.items()}
        return LexemeTokens(kept, together | crossing)

    def _run(self, state: Node, data: bytes) -> Node:
        for byte in data:
            state = self.lexemes.step(state, byte)
        return state

    def _keep(self, where: dict[Node, Kept], state: Node, what: Kept, size: int) -> None:
        if self._bytes > BYTES_LIMIT:
            self._found.clear()
            self._near.clear()
            self._bytes = 0
        where[state] = what
        self._bytes += size

    def _walked(self, state: Node, border: int) -> tuple[LexemeTokens, list[int]]:
        """The tokens that end at nodes reached from nodes before `border`; and the nodes beyond that may lead on."""
        if self.lexemes.first[state].bit_count() >= BROAD and len(self.trie) > 2000:
            return self._by_levels(state, border)
        inside, crossing, deep = self._by_nodes([(0, state)], border)
        return LexemeTokens(self._stored(np.array(sorted(inside), np.int32)), crossing), deep

    def _by_nodes(
        self, stack: list[tuple[int, Node]], border: int
    ) -> tuple[list[int], dict[int, list[int]], list[int]]:
        """Node by node: best where few bytes may follow."""
        bytes_, child, token, ids = self.trie.lists
        step, nullable, first = self.lexemes.step, self.lexemes.nullable, self.lexemes.first
        inside, deep = list[int](), list[int]()
        crossing: dict[int, list[int]] = {}
        while stack:
            node, there = stack.pop()
            if node >= border:
                deep.append(node)
                continue
            onward = first[there]
            ends = node and nullable[there]
            for below in range(child[node], child[node + 1]):
                byte = bytes_[below]
                if ends:
                    crossing.setdefault(byte, []).append(below)
                if onward >> byte & 1:
                    target = step(there, byte)
                    if target:
                        inside += ids[token[below] : token[below + 1]]
                        if child[below] != child[below + 1]:
                            stack.append((below, target))
        return inside, crossing, deep

    def _by_levels(self, state: Node, border: int) -> tuple[LexemeTokens, list[int]]:
        """A level of the trie at a time: best where most bytes may follow."""
        trie, step = self.trie, self.lexemes.step
        numbers: dict[Node, int] = {0: 0, state: 1}  # small numbers for the states met here
        states = [0, state]
        at = np.zeros(len(trie), np.int32)
        at[0] = 1
        for level in range(1, len(trie.levels) - 1):
            low, high = trie.levels[level], trie.levels[level + 1]
            before = at[trie.parent[low:high]]
            if trie.levels[level - 1] >= border or not before.any():
                break
            pairs, where = np.unique(before.astype(np.int64) << 8 | trie.byte[low:high], return_inverse=True)
            targets = np.empty(len(pairs), np.int32)
            for index, pair in enumerate(pairs.tolist()):
                target = step(states[pair >> 8], pair & 255) if pair >> 8 else 0
                number = numbers.get(target)
                if number is None:
                    number = numbers[target] = len(states)
                    states.append(target)
                targets[index] = number
            at[low:high] = targets[where]
        reached = np.repeat(at != 0, np.diff(trie.token))
        ends = np.array([bool(self.lexemes.nullable[one]) for one in states])[at]
        ends[0] = False
        ends[border:] = False
        deep = border + np.flatnonzero((at[border:] != 0) & (np.diff(trie.child[border:]) > 0))
        tokens = LexemeTokens(self._stored(np.sort(trie.ids[reached])), self._crossings(ends, reached))
        return tokens, deep.tolist()

    def _crossings(self, ends: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]) -> dict[int, list[int]]:
        """Nodes behind an end; those below which all tokens are inside anyway are left out."""
        trie = self.trie
        outside = np.bincount(np.repeat(np.arange(len(trie)), np.diff(trie.token)), ~inside, minlength=len(trie))
        for level in range(len(trie.levels) - 2, 0, -1):
            low, high = trie.levels[level], trie.levels[level + 1]
            np.add.at(outside, trie.parent[low:high], outside[low:high])
        nodes = 1 + np.flatnonzero(ends[trie.parent[1:]] & (outside[1:] > 0))
        crossing: dict[int, list[int]] = {}
        for node, byte in zip(nodes.tolist(), trie.byte[nodes].tolist(), strict=True):
            crossing.setdefault(byte, []).append(node)
        return crossing

    def _stored(self, ids: Int32) -> Int32 | Words:
        return ids if len(ids) <= FEW else packed(ids, self._words)


def packed(ids: Int32, words: int) -> Words:
    """Token ids as a mask: bit i % 32 of word i // 32."""
    bits = np.zeros(words * 32, np.uint8)
    bits[ids] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


_known: weakref.WeakKeyDictionary[Vocabulary, LexemeMasks] = weakref.WeakKeyDictionary()


def masks_for(vocabulary: Vocabulary, lexemes: Lexemes) -> LexemeMasks:
    """The masks that all grammars share over one vocabulary."""
    with lexemes.lock:
        found = _known.get(vocabulary)
        if found is None or found.lexemes is not lexemes:
            found = _known[vocabulary] = LexemeMasks(vocabulary, lexemes)
        return found
