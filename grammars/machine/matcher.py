"""A text in the making and what may come next in it: masks out, tokens in, back again."""

from __future__ import annotations

from ...errors import GrammarError, InvalidRequest
from .earley import EarleySet
from .machine import Machine
from .masks import Words
from .trie import Int32


class Matcher:
    """Where one text stands in a grammar. Made by `Grammar.matcher`. For one thread at a time; copies are free.

    A token is allowed when the text with it can be continued to a text of the language (end tokens: when the text is
    one). Control tokens never are. After an end token nothing is allowed.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._trail: list[EarleySet | None] = [machine.initial]  # None: ended by an end token

    def __repr__(self) -> str:
        where = "finished" if self.finished else "accepting" if self.accepting else "within"
        return f"<ramify.grammars.Matcher {where} after {len(self)} steps>"

    def __len__(self) -> int:
        """The accepts that `rollback` can take back."""
        return len(self._trail) - 1

    def mask(self) -> Words:
        """The tokens allowed now, packed: bit i % 32 of word i // 32. Read-only, and shared with equal states.

        Raises GrammarError when the vocabulary has no token for any byte that may come next.
        """
        state = self._state()
        mask = self._machine.mask(state)
        if not mask.any():
            raise GrammarError(
                "no token of this vocabulary spells what must come next "
                f"({self.forced()[:20]!r}...); the grammar needs bytes that the model cannot write"
            )
        return mask

    def allowed(self, limit: int = 256) -> Int32 | None:
        """The ids of the tokens allowed now, in order, when there are at most `limit`; else None. Read-only."""
        return self._machine.ids(self._state(), limit)

    def accept(self, token: int) -> bool:
        """Go on with a token. False, and nothing changed, when it is not allowed."""
        state = self._trail[-1]
        vocabulary = self._machine.vocabulary
        if state is None or not 0 <= token < vocabulary.size:
            return False
        if token in vocabulary.end_tokens:
            if state.accepting:
                self._trail.append(None)
            return state.accepting
        spelled = vocabulary.tokens[token] if token < len(vocabulary.tokens) else None
        return spelled is not None and self.accept_bytes(spelled)

    def accept_bytes(self, data: bytes) -> bool:
        """Go on with bytes, in one step for `rollback`. False, and nothing changed, where they lead out."""
        state = self._machine.advanced(self._trail[-1], data)
        if state is not None:
            self._trail.append(state)
        return state is not None

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepts. Raises InvalidRequest when there were not as many."""
        if not 0 <= count <= len(self):
            raise InvalidRequest(f"cannot roll back {count} of {len(self)} steps")
        del self._trail[len(self._trail) - count :]

    def forced(self) -> bytes:
        """The bytes that must come next, whatever tokens spell them; empty where there is a choice.

        It stops where the text may end, where more than one byte may come, and after some thousands. It may stop
        within a character whose last bytes are open; and a token that spells it with more than is forced may still be
        allowed: which tokens to write for it is for the caller to decide.
        """
        state = self._trail[-1]
        return b"" if state is None else self._machine.forced(state)

    @property
    def accepting(self) -> bool:
        """Whether the text may end here (and, after an end token, that it has)."""
        state = self._trail[-1]
        return state is None or state.accepting

    @property
    def finished(self) -> bool:
        """Whether the text is complete and nothing but its end may follow."""
        state = self._trail[-1]
        return state is None or self._machine.ends(state)

    def copy(self) -> Matcher:
        """Another matcher at the same place, with the same past."""
        twin = Matcher(self._machine)
        twin._trail = self._trail.copy()
        return twin

    def _state(self) -> EarleySet:
        state = self._trail[-1]
        if state is None:
            raise InvalidRequest("the text was ended by an end token; nothing is allowed after it")
        return state
