"""Where requests' grammars come from: compiled once, beside the engine's thread, while the prompts are prefilled."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

from ..errors import InvalidRequest
from ..grammars.compiling import compile_grammar
from ..grammars.grammar import Grammar
from ..grammars.vocabulary import Vocabulary
from .sampling.constraint import Constraint, Matcher
from .text.jump_forward import JumpForward
from .text.tokenizer import Tokenizer

REMEMBERED = 256  # grammars
MatcherMaker = Callable[[], Matcher]


class GrammarDesk:
    """Compiles what requests must obey, and gives each a matcher over the model's vocabulary.

    Safe from any thread. Equal constraints are compiled once, also when they come at the same time; refusals are
    remembered. `columns` is the width of the model's logits.
    """

    def __init__(self, tokenizer: Tokenizer, columns: int) -> None:
        self._tokenizer = tokenizer
        self._columns = columns
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Future[Grammar]] = OrderedDict()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the model's tokens spell; made when the first grammar is wanted."""
        return Vocabulary.of(self._tokenizer, self._columns)

    @cached_property
    def jump_forward(self) -> JumpForward:
        return JumpForward(self._tokenizer, self.vocabulary.tokens)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(2, "ramify-grammars")

    def grammar(self, constraint: Constraint) -> Future[Grammar]:
        """The compiled grammar; the future raises GrammarError for what cannot be enforced."""
        if constraint.kind == "grammar":
            done: Future[Grammar] = Future()
            done.set_result(constraint.source)
            return done
        key = key_of(constraint)
        with self._lock:
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = self._pool.submit(self._compile, constraint)
                while len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
        return found

    def matcher(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning of a text."""
        return grammar.matcher(self.vocabulary)

    def close(self) -> None:
        """Begin nothing new."""
        if "_pool" in self.__dict__:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _compile(self, constraint: Constraint) -> Grammar:
        _ = self.vocabulary  # made here and not on the engine's thread
        return compile_grammar(constraint.kind, constraint.source, constraint.options)


def key_of(constraint: Constraint) -> str:
    """Equal for equal constraints."""
    try:
        return json.dumps([constraint.kind, constraint.source, dict(constraint.options)])
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{constraint.kind}: this cannot be written as JSON ({error})") from None
