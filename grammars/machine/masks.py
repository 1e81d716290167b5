"""Which tokens stay inside a lexeme and which cross its end, by the lexeme's state: found once for all grammars."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..vocabulary import Vocabulary
from .lexemes import Lexemes
from .nodes import Node
from .trie import Int32, TokenTrie

Words = npt.NDArray[np.uint32]
FEW = 512  # tokens that are kept as ids; more are kept as a packed mask
BROAD = 24  # next bytes from which on a whole level of the trie is walked at once
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
        self._found: dict[Node, LexemeTokens] = {}
        self._bytes = 0

    def of(self, state: Node) -> LexemeTokens:
        """What every token does from this state."""
        found = self._found.get(state)
        if found is None:
            broad = self.lexemes.first[state].bit_count() >= BROAD and len(self.trie) > 2000
            found = self._by_levels(state) if broad else self._by_nodes(state)
            if self._bytes > BYTES_LIMIT:
                self._found.clear()
                self._bytes = 0
            self._found[state] = found
            self._bytes += found.size
        return found

    def _by_nodes(self, state: Node) -> LexemeTokens:
        """Node by node: best where few bytes may follow."""
        bytes_, child, token, ids = self.trie.lists
        step, nullable, first = self.lexemes.step, self.lexemes.nullable, self.lexemes.first
        inside: list[int] = []
        crossing: dict[int, list[int]] = {}
        stack = [(0, state)]
        while stack:
            node, there = stack.pop()
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
        return LexemeTokens(self._stored(np.array(sorted(inside), np.int32)), crossing)

    def _by_levels(self, state: Node) -> LexemeTokens:
        """A level of the trie at a time: best where most bytes may follow."""
        trie, step = self.trie, self.lexemes.step
        numbers: dict[Node, int] = {0: 0, state: 1}  # small numbers for the states met here
        states = [0, state]
        at = np.zeros(len(trie), np.int32)
        at[0] = 1
        for level in range(1, len(trie.levels) - 1):
            low, high = trie.levels[level], trie.levels[level + 1]
            before = at[trie.parent[low:high]]
            if not before.any():
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
        return LexemeTokens(self._stored(np.sort(trie.ids[reached])), self._crossings(ends, reached))

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
