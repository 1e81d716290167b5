"""The compiled machine: the same matchers as the Python machine's, from C++ that is compiled at first use."""

from __future__ import annotations

import ctypes
import threading
import weakref
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import GrammarError, GrammarTooLarge, InvalidRequest
from ..expression import Expression
from ..program import Program
from ..vocabulary import Vocabulary
from .matcher import Matcher
from .native_core import DONE, NEED, REFUSED, TOO_LARGE, Window, grammar_core
from .native_definitions import DefinitionGiver
from .native_program import ExpressionBatch
from .scalars import spellings, value_of

Words = npt.NDArray[np.uint32]
Int32 = npt.NDArray[np.int32]
ROW_BYTES = 96 << 20  # masks that are kept for one vocabulary
FORCED_LIMIT = 4096
MACHINE_BYTES = 48 << 20  # past which new matchers of a grammar begin with a fresh machine
EXPRESSIONS_KEPT = 20_000  # whose numbers are remembered, for each lexicon
LEXICONS_KEPT = 3  # of each vocabulary


class _Kept:
    """A handle of the core's, given back when nobody holds this any more: rows of masks do."""

    def __init__(self, handle: int, free: Callable[[int], None]) -> None:
        self.handle = handle
        self._free = free

    def __del__(self) -> None:
        self._free(self.handle)


class NativeVocabulary:
    """A vocabulary in the core: its trie, its masks, and the lexemes that grammars share. Use `native_vocabulary`."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.library = grammar_core()
        self.words = vocabulary.words
        self.size = vocabulary.size
        tokens = [token or b"" for token in vocabulary.tokens]
        offsets = np.zeros(len(tokens) + 1, np.uint64)
        offsets[1:] = np.cumsum([len(token) for token in tokens], dtype=np.uint64)
        ends = np.array(vocabulary.end_tokens, np.uint32)
        handle = self.library.ramify_core_new(
            b"".join(tokens), offsets.ctypes.data, len(tokens), vocabulary.size, ends.ctypes.data, len(ends), ROW_BYTES
        )
        if not handle:
            raise MemoryError("the vocabulary does not fit into memory")
        self.handle = handle
        self._kept = _Kept(handle, self.library.ramify_core_free)
        self.expressions: dict[int, dict[Expression, int]] = {}  # their numbers in each of the core's lexicons
        self._rows: dict[int, Words] = {}
        self._row_type = type("Row", (ctypes.c_uint32 * self.words,), {})

    def row(self, address: int) -> Words:
        """The mask at an address of the core's, read-only; the core lives as long as it."""
        found = self._rows.get(address)
        if found is None:
            memory = self._row_type.from_address(address)  # type: ignore[attr-defined]
            memory.kept = self._kept
            found = np.frombuffer(memory, np.uint32)
            found.setflags(write=False)
            self._rows[address] = found
        return found


class NativeMachine:
    """One grammar over one vocabulary: what its matchers share. Safe from many threads.

    Definitions are made when the core reaches them. Raises GrammarError when made from an empty language.
    """

    def __init__(self, program: Program, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.core = native_vocabulary(vocabulary)
        self.library = self.core.library
        lexicon = ctypes.c_uint64()
        self.handle = self.library.ramify_grammar_new(self.core.handle, program.start, ctypes.byref(lexicon))
        if not self.handle:
            raise MemoryError("no memory for another grammar")
        self._kept = _Kept(self.handle, self.library.ramify_grammar_free)
        self._lexicon = lexicon.value
        self._making = threading.RLock()
        self._giver = DefinitionGiver(program, self._call_once, self.library)

    def matcher(self) -> NativeMatcher:
        """A matcher at the beginning of a text."""
        made = ctypes.c_void_p()
        if not self.call(self.library.ramify_matcher_new, self.handle, ctypes.byref(made)):
            raise GrammarError("the language is empty: no text at all would obey; nothing can be generated")
        assert made.value is not None
        return NativeMatcher(self, made.value)

    @property
    def bytes(self) -> int:
        """What the core keeps for this grammar, without what it shares."""
        return int(self.library.ramify_grammar_bytes(self.handle))

    def call(self, function: Callable[..., int], *arguments: Any) -> bool:
        """Calls the core, and again after each definition or value that it needs first. False: it refused."""
        while True:
            code = function(*arguments)
            if code == DONE:
                return True
            if code == REFUSED:
                return False
            self.provide(code)

    def provide(self, code: int) -> None:
        """Makes what the core's last call on this thread needed; for any other code, raises what it stands for."""
        if code != NEED:
            self._complain(code)
        symbols = array("I", bytes(4 * 256))
        count = self.library.ramify_needed(_address(symbols), len(symbols))
        if count:  # those beyond the room are asked for again
            with self._making:
                self._giver.give(symbols[:count], self._known())
            return
        size = self.library.ramify_needed_text(None, 0)
        buffer = ctypes.create_string_buffer(size)
        self.library.ramify_needed_text(buffer, size)
        name = value_of(buffer.raw)
        ways = self.expression(spellings(name))
        self._call_once(self.library.ramify_tell, buffer.raw, size, name, len(name), ways)

    def _complain(self, code: int) -> None:
        if code == TOO_LARGE:
            raise GrammarTooLarge(self.library.ramify_complaint().decode())
        if code == -3:
            raise MemoryError("no memory for the grammar's states")
        raise AssertionError(f"the grammar core was misused: {self.library.ramify_complaint().decode()}")

    def _call_once(self, function: Callable[..., int], *arguments: Any) -> None:
        code = function(self.handle, *arguments)
        if code != DONE:
            self._complain(code)

    def expression(self, expression: Expression) -> int:
        """The core's number of an expression."""
        known = self._known()
        if expression not in known:
            batch = ExpressionBatch(known)
            batch.add(expression)
            self._giver.make(batch, known)
        return known[expression]

    def _known(self) -> dict[Expression, int]:
        """The core's numbers of expressions; more than there need to be are forgotten."""
        known = self.core.expressions.get(self._lexicon)
        if known is None or len(known) > EXPRESSIONS_KEPT:
            if len(self.core.expressions) > LEXICONS_KEPT:
                self.core.expressions.clear()
            known = self.core.expressions[self._lexicon] = {}
        return known


class NativeMatcher(Matcher):
    """Where one text stands in a grammar; the same as `Matcher`, compiled. For one thread at a time."""

    def __init__(self, machine: NativeMachine, handle: int) -> None:
        self._native = machine
        self._handle = handle
        self._core = machine.core
        self._accept = machine.library.ramify_accept
        self._window: Window = Window.from_address(machine.library.ramify_matcher_window(handle))

    def __del__(self) -> None:
        self._native.library.ramify_matcher_free(self._handle)

    def __repr__(self) -> str:
        where = "finished" if self.finished else "accepting" if self.accepting else "within"
        return f"<ramify.grammars.Matcher {where} after {len(self)} steps>"

    def __len__(self) -> int:
        """The accepts that `rollback` can take back."""
        return int(self._window.steps)

    def mask(self) -> Words:
        """The tokens allowed now, packed: bit i % 32 of word i // 32. Read-only, and shared with equal states.

        Good until this matcher moves; copy what is to be kept longer. Raises GrammarError when the vocabulary has no
        token for any byte that may come next.
        """
        address = self._window.row
        if not address:
            address = self._found_row()
        return self._core.row(address)

    def _found_row(self) -> int:
        self._check_not_ended()
        self._native.call(self._native.library.ramify_mask, self._handle)
        address = int(self._window.row)
        if not address:
            raise GrammarError(
                "no token of this vocabulary spells what must come next "
                f"({self.forced()[:20]!r}...); the grammar needs bytes that the model cannot write"
            )
        return address

    def _check_not_ended(self) -> None:
        if self._window.ended:
            raise InvalidRequest("the text was ended by an end token; nothing is allowed after it")

    def allowed(self, limit: int = 256) -> Int32 | None:
        """The ids of the tokens allowed now, in order, when there are at most `limit`; else None."""
        self._check_not_ended()
        found = np.empty(limit, np.int32)
        count = ctypes.c_uint32()
        self._native.call(
            self._native.library.ramify_allowed, self._handle, limit, found.ctypes.data, ctypes.byref(count)
        )
        return found[: count.value] if count.value <= limit else None

    def accept(self, token: int) -> bool:
        """Go on with a token. False, and nothing changed, when it is not allowed."""
        if not 0 <= token < self._core.size:
            return False
        code = self._accept(self._handle, token)
        return code == DONE or (code != REFUSED and self._retried(self._accept, token))

    def _retried(self, function: Callable[..., int], *arguments: Any) -> bool:
        return self._native.call(function, self._handle, *arguments)

    def accept_bytes(self, data: bytes) -> bool:
        """Go on with bytes, in one step for `rollback`. False, and nothing changed, where they lead out."""
        return self._native.call(self._native.library.ramify_accept_bytes, self._handle, data, len(data))

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepts. Raises InvalidRequest when there were not as many."""
        if not 0 <= count <= len(self):
            raise InvalidRequest(f"cannot roll back {count} of {len(self)} steps")
        self._native.call(self._native.library.ramify_rollback, self._handle, count)

    def forced(self) -> bytes:
        """The bytes that must come next, whatever tokens spell them; empty where there is a choice.

        It stops where the text may end, where more than one byte may come, and after some thousands.
        """
        buffer = ctypes.create_string_buffer(FORCED_LIMIT)
        count = ctypes.c_uint64()
        self._native.call(self._native.library.ramify_forced, self._handle, buffer, FORCED_LIMIT, ctypes.byref(count))
        return buffer.raw[: count.value]

    @property
    def accepting(self) -> bool:
        """Whether the text may end here (and, after an end token, that it has)."""
        return bool(self._window.accepting)

    @property
    def finished(self) -> bool:
        """Whether the text is complete and nothing but its end may follow."""
        return self._native.call(self._native.library.ramify_finished, self._handle)

    def copy(self) -> NativeMatcher:
        """Another matcher at the same place, with the same past."""
        made = ctypes.c_void_p()
        self._native.call(self._native.library.ramify_matcher_copy, self._handle, ctypes.byref(made))
        assert made.value is not None
        return NativeMatcher(self._native, made.value)


def fill_masks(matchers: Sequence[NativeMatcher], out: Words) -> None:
    """The masks of matchers, all over one vocabulary, into the rows of `out` [len(matchers), at least words]."""
    if not matchers:
        return
    assert out.dtype == np.uint32 and out.ndim == 2 and len(out) >= len(matchers) and out.strides[1] == 4
    assert out.shape[1] >= matchers[0]._core.words and all(one._core is matchers[0]._core for one in matchers)
    handles = (ctypes.c_void_p * len(matchers))(*[matcher._handle for matcher in matchers])
    done = ctypes.c_uint64()
    library = matchers[0]._native.library
    where = (out.ctypes.data, out.strides[0] // 4, ctypes.byref(done))
    while (code := library.ramify_fill(handles, len(matchers), *where)) != DONE:
        matchers[done.value]._check_not_ended()
        matchers[done.value]._native.provide(code)


def apply_masks(logits: npt.NDArray[np.float32], masks: Sequence[Words | None]) -> None:
    """Minus infinity to the logits [rows, tokens] of what is not allowed, in place; a row without a mask is left."""
    assert logits.dtype == np.float32 and logits.ndim == 2 and logits.strides[1] == 4 and len(masks) == len(logits)
    assert all(mask is None or len(mask) * 32 >= logits.shape[1] for mask in masks)
    pointers = (ctypes.c_void_p * len(masks))(*[None if mask is None else mask.ctypes.data for mask in masks])
    grammar_core().ramify_apply(logits.ctypes.data, logits.strides[0] // 4, len(masks), pointers, logits.shape[1])


def _address(code: array[int]) -> int:
    return code.buffer_info()[0]


_known: weakref.WeakKeyDictionary[Vocabulary, NativeVocabulary] = weakref.WeakKeyDictionary()
_changing = threading.Lock()


def native_vocabulary(vocabulary: Vocabulary) -> NativeVocabulary:
    """The vocabulary in the core, put there once. Raises CoreUnavailable."""
    with _changing:
        found = _known.get(vocabulary)
        if found is None:
            found = _known[vocabulary] = NativeVocabulary(vocabulary)
        return found
