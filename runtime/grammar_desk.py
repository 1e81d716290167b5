"""Where requests' grammars come from: compiled beside the engine's thread, while the prompts are prefilled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import cached_property

from ..grammars import compile_grammar
from ..grammars.grammar import Grammar
from ..grammars.service import CompileService
from ..grammars.vocabulary import Vocabulary
from ..home import ramify_home
from .sampling.constraint import Constraint, Matcher
from .text.jump_forward import JumpForward
from .text.tokenizer import Tokenizer

MatcherMaker = Callable[[], Matcher]


class GrammarDesk:
    """Has compiled what requests must obey, and gives each a matcher over the model's vocabulary.

    Safe from any thread. Equal constraints are compiled once, and refusals are remembered: see CompileService.
    `columns` is the width of the model's logits. Nothing is made before the first constraint comes.
    """

    def __init__(self, tokenizer: Tokenizer, columns: int) -> None:
        self._tokenizer = tokenizer
        self._columns = columns
        self._lock = threading.Lock()
        self._warm: Future[None] | None = None
        self._service = CompileService(disk=ramify_home() / "grammars")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the model's tokens spell."""
        return Vocabulary.of(self._tokenizer, self._columns)

    @cached_property
    def jump_forward(self) -> JumpForward:
        """For the engine's thread alone."""
        return JumpForward(self._tokenizer, self.vocabulary.tokens)

    def grammar(self, constraint: Constraint) -> Future[Grammar]:
        """The compiled grammar; the future raises GrammarError for what cannot be enforced.

        By the time it is there, so is all that matchers of any grammar share, so that the engine's thread never waits.
        """
        ready: Future[Grammar] = Future()
        compiling = self._service.submit(constraint.kind, constraint.source, constraint.options)

        def compiled(done: Future[Grammar]) -> None:
            error = CancelledError() if done.cancelled() else done.exception()
            if error is not None:
                ready.set_exception(error)
            else:
                ready.set_result(done.result())

        def warm(done: Future[None]) -> None:
            error = done.exception()
            if error is not None:
                ready.set_exception(error)
            else:
                compiling.add_done_callback(compiled)

        self._warmed().add_done_callback(warm)
        return ready

    def matcher(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning of a text."""
        return grammar.matcher(self.vocabulary)

    def close(self) -> None:
        """End the processes; what is still being compiled fails with EngineClosed."""
        self._service.close()

    def _warmed(self) -> Future[None]:
        """Done when vocabulary, tries and the machine are there: built by a thread of its own, once."""
        with self._lock:
            if self._warm is None:
                self._warm = Future()
                threading.Thread(target=self._warm_up, args=(self._warm,), name="ramify-grammars", daemon=True).start()
            return self._warm

    def _warm_up(self, warm: Future[None]) -> None:
        try:
            _ = self.jump_forward
            self.matcher(compile_grammar("regex", "a|b")).mask()
        except BaseException as error:
            warm.set_exception(error)
        else:
            warm.set_result(None)
