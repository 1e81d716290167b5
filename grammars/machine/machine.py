"""One grammar over one vocabulary: its sets, their masks and forced text, shared by all its matchers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ...errors import GrammarError
from ..program import Program
from ..vocabulary import Vocabulary
from .earley import Earley, EarleySet, Scan
from .lexemes import shared_lexemes
from .masks import Words, masks_for, packed
from .nodes import ENDLESS
from .positions_table import PositionTable
from .trie import Int32

CALL_WORK = 1_000_000  # on expressions in one call: a few seconds at most
MACHINE_WORK = 20_000_000  # and for one grammar
FORCED_LIMIT = 4096  # bytes of forced text that are looked for at once
MASK_BYTES_LIMIT = 64 << 20


class Machine:
    """What matchers of one grammar share. Every method takes the lexemes' lock.

    Raises GrammarError when made from an empty language.
    """

    def __init__(self, program: Program, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.lexemes = shared_lexemes()
        self._work_left = MACHINE_WORK
        self._mask_bytes = 0
        with self._working():
            self._masks = masks_for(vocabulary, self.lexemes)
            positions = PositionTable(program, self.lexemes)
            if not positions.possible(program.start):
                raise GrammarError("the language is empty: no text at all would obey; nothing can be generated")
            self._earley = Earley(positions, program.start)

    @property
    def initial(self) -> EarleySet:
        """Where a text begins."""
        return self._earley.initial

    def advanced(self, state: EarleySet | None, data: bytes) -> EarleySet | None:
        """The set after these bytes; None when the language has no such text."""
        with self._working():
            for byte in data:
                if state is None:
                    break
                state = self._earley.step(state, byte)
            return state

    def mask(self, state: EarleySet) -> Words:
        """The tokens that may come next: read-only, and shared."""
        if state.mask is None:
            with self._working():
                state.mask = self._masked(state)
        return state.mask

    def ids(self, state: EarleySet, limit: int) -> Int32 | None:
        """The same as ids in order, when they are at most `limit`."""
        mask = self.mask(state)
        if state.ids is None:
            state.ids = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).astype(np.int32)
            state.ids.setflags(write=False)
        return state.ids if len(state.ids) <= limit else None

    def forced(self, state: EarleySet) -> bytes:
        """What must come next, whatever the tokens."""
        if state.forced is None:
            with self._working():
                found, there = bytearray(), state
                while not there.accepting and len(found) < FORCED_LIMIT:
                    bits = self._earley.onward(there)
                    if bits.bit_count() != 1:
                        break
                    found.append(bits.bit_length() - 1)
                    following = self._earley.step(there, found[-1])
                    assert following is not None
                    there = following
                state.forced = bytes(found)
        return state.forced

    def ends(self, state: EarleySet) -> bool:
        """Whether the text is complete and nothing may follow."""
        with self._working():
            return state.accepting and not self._earley.onward(state)

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Alone with the lexemes, and within bounds: GrammarTooLarge where they are passed."""
        lexemes = self.lexemes
        with lexemes.lock:
            before = lexemes.work
            lexemes.ceiling = before + min(CALL_WORK, self._work_left)
            try:
                yield
            finally:
                self._work_left -= lexemes.work - before
                lexemes.ceiling = ENDLESS

    def _masked(self, state: EarleySet) -> Words:
        ids: set[int] = set(self.vocabulary.end_tokens if state.accepting else ())
        mask = np.zeros(self.vocabulary.words, np.uint32)
        for scan in state.scans:
            tokens = self._masks.of(scan.lexeme)
            if tokens.inside.dtype == np.uint32:
                mask |= tokens.inside
            else:
                ids.update(tokens.inside.tolist())
            self._cross(state, scan, tokens.crossing, ids)
        if ids:
            mask |= packed(np.fromiter(ids, np.int32, len(ids)), self.vocabulary.words)
        mask.setflags(write=False)
        self._mask_bytes += mask.nbytes
        if self._mask_bytes > MASK_BYTES_LIMIT:
            self._earley.forget()
            self._mask_bytes = 0
        return mask

    def _cross(self, state: EarleySet, scan: Scan, crossing: dict[int, list[int]], ids: set[int]) -> None:
        """Adds the tokens that end the lexeme on their way, and go on from the set after it."""
        earley, trie = self._earley, self._masks.trie
        for byte, nodes in crossing.items():
            if scan.content is None:
                following = earley.step(earley.after(state, scan, None), byte)
                if following is not None:
                    self._walk(following, nodes, ids)
                continue
            for node in nodes:  # what comes after depends on what the lexeme spelled
                content = scan.content + trie.spelling(int(trie.parent[node]))
                following = earley.step(earley.after(state, scan, content), byte)
                if following is not None:
                    self._walk(following, [node], ids)

    def _walk(self, state: EarleySet, nodes: list[int], ids: set[int]) -> None:
        """Adds the tokens at these nodes of the trie, reached in `state`, and below, as far as the language goes."""
        bytes_, child, token, token_ids = self._masks.trie.lists
        step = self._earley.step
        stack = [(node, state) for node in nodes]
        while stack:
            node, there = stack.pop()
            ids.update(token_ids[token[node] : token[node + 1]])
            for below in range(child[node], child[node + 1]):
                following = step(there, bytes_[below])
                if following is not None:
                    stack.append((below, following))
