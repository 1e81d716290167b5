"""What the language asks of whatever runs it: an engine, a server, an API, a recording, a mock.

Nothing here blocks and nothing here is a thread: a call is started, and its callback is called once, from any thread,
with a result or with an error; possibly before the method that started the call returns. The language's executor calls
the methods of one BackendStream one after another, and starts the next call of a stream only when the one before has
ended.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..nodes import Media
from ..sampling import Constraint, Sampling


@dataclass(frozen=True, slots=True)
class GenerateCall:
    """One generation: complete settings, nothing left open but what the backend may choose."""

    sampling: Sampling
    constraint: Constraint | None = None
    tools: tuple[Any, ...] = ()
    stream: bool = False  # whether anybody wants to hear before the end
    priority: int = 0  # smaller goes first (critical path)
    # the same with roles: ("append", text), ("end_role", "assistant"), ("start_role", "user"), ...
    speculate: int | None = None  # num_api_spec_tokens: go on this far past the stop, for what is asked next


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call. Exactly one of `texts` (n of them) and `error` says something."""

    texts: tuple[str, ...] = ()
    metas: tuple[Mapping[str, Any], ...] = ()  # one each: SGLang's meta_info keys, and `usage` (see meta.py)
    tool_calls: tuple[Any, ...] = ()  # typed by the caller: (name, arguments as a dict)
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class ScoreCall:
    """Log-probabilities of `options` after the stream's text; `alone`: also of each without that text before it."""

    options: tuple[str, ...]
    alone: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True)
class OptionScore:
    """One option's tokens, as the tokenizer joins them to the text before, and what the model thinks of each.

    `logprobs[i]` is for `token_ids[i]`. Where the option's first characters share a token with the text before, that
    token is the first scored (token truth): nothing is dropped, nothing is scored that the options do not touch.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    alone: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreOutcome:
    scores: tuple[OptionScore, ...] = ()
    usage: Mapping[str, int] = field(default_factory=dict)
    error: Exception | None = None


Done = Callable[[Outcome], None]
Scored = Callable[[ScoreOutcome], None]
Delta = Callable[[str], None]
Cancel = Callable[[], None]  # harmless when the call has ended; the callback is still called, with what there was


class BackendStream(ABC):
    """A stream of text at a backend: what was appended and generated so far, as cheaply as the backend can hold it."""

    @abstractmethod
    def append(self, text: str) -> None:
        """Add a constant. Free: work is done when the next call needs it."""

    @abstractmethod
    def start_role(self, role: str) -> str | None:
        """From here on, `role` speaks. Returns the text that this added, where the backend knows it, for `s.text()`."""

    @abstractmethod
    def end_role(self, role: str) -> str | None:
        """The role ends. Returns the text that this added, where the backend knows it."""

    def media(self, media: Media) -> None:
        """Add an image or video; raises BackendError where the backend has no eyes."""
        raise self.cannot(f"take {media.kind}s")

    @abstractmethod
    def generate(self, call: GenerateCall, done: Done, delta: Delta | None = None) -> Cancel:
        """Start to generate. When it ends, the (first) text is part of the stream, then `done` is called."""

    @abstractmethod
    def score(self, call: ScoreCall, done: Scored) -> Cancel:
        """Start to score options; the stream's text does not change."""

    def choose(self, options: Sequence[str], done: Done) -> Cancel | None:
        """Select in the backend's own way, for those that give no log-probabilities; None: use `score`."""
        return None

    @abstractmethod
    def fork(self, count: int) -> list[BackendStream]:
        """`count` streams that go on from here, each on its own. What is shared is held once."""

    def warm(self, done: Done) -> Cancel | None:
        """Prefill what was appended so far, before forks or a later call need it; None: nothing to do."""
        return None

    def ahead(self) -> None:
        """The program is looking at a value: what was appended behind it may be prefilled meanwhile."""

    def hint(self, *, next_use: float | None = None) -> None:
        """In how many steps the program comes back to this stream (None: never again); for eviction."""

    def close(self) -> None:
        """Nobody will come back: what is held for this stream may go. May be called more than once."""

    @abstractmethod
    def cannot(self, what: str) -> Exception:
        """A BackendError that says which backend cannot do `what`, and which can."""


class Backend(ABC):
    """Where programs run. One instance may serve any number of programs from any number of threads."""

    name: str

    @abstractmethod
    def stream(self) -> BackendStream:
        """A new, empty stream."""

    def count_tokens(self, text: str) -> int | None:
        """How many tokens a text is, for estimates; None: not known here."""
        return None

    def flush_cache(self) -> None:
        """Forget cached prefixes, where there are any."""

    def server_info(self) -> Mapping[str, Any]:
        """What is known about the model and the server."""
        return {"backend": self.name}

    def close(self) -> None:
        """Let go of connections and models that this object opened itself."""
