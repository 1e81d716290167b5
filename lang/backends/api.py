"""What all backends behind an API share: a stream that remembers what was said, and calls on a background loop."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from ...errors import BackendError, RamifyError
from ..chat import ChatFormat, plain_format
from ..nodes import Media
from .base import (
    Backend,
    BackendStream,
    Cancel,
    Delta,
    Done,
    GenerateCall,
    Outcome,
    ScoreCall,
    Scored,
    ScoreOutcome,
)
from .loop_thread import LoopThread
from .meta import aborted, meta_info
from .once import Once
from .speculation import Surplus, can_speculate, cut_out, settings_of, widened
from .transcript import Transcript

Heard = Callable[[str], None]  # told each new piece of the first answer


class ApiBackend(Backend):
    """Answers calls by coroutines, any number at once. Subclasses say how one call is made."""

    chat: ChatFormat = plain_format()  # how roles are written where the API takes one text
    speculates = False  # whether num_api_spec_tokens means something here

    def __init__(self) -> None:
        self.loop = LoopThread(f"ramify-{self.name}")

    def stream(self) -> BackendStream:
        return ApiStream(self, Transcript())

    def close(self) -> None:
        self.loop.close()

    @abstractmethod
    async def complete(self, said: Transcript, call: GenerateCall, heard: Heard | None) -> Outcome:
        """One generation after what was said. May raise; `heard` is told the text as it comes, where it is given."""

    async def option_scores(self, said: Transcript, call: ScoreCall) -> ScoreOutcome:
        """Scores of options after what was said."""
        raise self.cannot("score options")

    async def prefill(self, said: Transcript) -> Outcome | None:
        """Have the server compute what was said, for later calls; None: it cannot be asked to."""
        return None

    def chooses(self, said: Transcript) -> bool:
        """Whether `choice` is the way to select here, and not scores."""
        return False

    async def choice(self, said: Transcript, options: tuple[str, ...]) -> Outcome:
        """Select in the API's own way."""
        raise self.cannot("select")

    def check_media(self, media: Media) -> None:
        """Raises where this API does not take it."""
        raise self.cannot(f"take {media.kind}s")

    def cannot(self, what: str) -> Exception:
        """An error that says who can."""
        return BackendError(f"{self.name} cannot {what}; the embedded engine can: backend=sgl.Engine()")


class ApiStream(BackendStream):
    """A stream at an API: every call sends what was said so far."""

    def __init__(self, backend: ApiBackend, said: Transcript) -> None:
        self._backend = backend
        self._said = said
        self._surplus: Surplus | None = None
        self._prefilled = False

    def append(self, text: str) -> None:
        self._said.add(text)
        if self._surplus is not None:
            self._surplus = self._surplus.after(text)
        self._prefilled = False

    def start_role(self, role: str) -> str:
        self._said.start_role(role)
        self._surplus, self._prefilled = None, False
        return self._said.opening(self._backend.chat)

    def end_role(self, role: str) -> str:
        self._said.end_role(role)
        self._surplus, self._prefilled = None, False
        return self._said.closing(self._backend.chat)

    def media(self, media: Media) -> None:
        self._backend.check_media(media)
        self._said.add_media(media)
        self._surplus = None

    @property
    def prompt(self) -> str:
        """Everything said so far as one text."""
        return self._said.text(self._backend.chat)

    def generate(self, call: GenerateCall, done: Done, delta: Delta | None = None) -> Cancel:
        if self._surplus is not None and can_speculate(call):
            density, part = self._surplus.density, cut_out(self._surplus, call.sampling)
            if part is not None:
                self._surplus = part.rest
                self._said.add(part.text, generated=True)
                if delta is not None and call.stream and part.text:
                    delta(part.text)
                usage = {"speculated_tokens": round(density * len(part.text))}  # about: an API does not say where
                done(Outcome(texts=(part.text,), metas=(meta_info(usage, part.finish_reason),)))
                return _nothing_to_cancel
        self._surplus = None
        heard: list[str] = []

        def hear(text: str) -> None:
            heard.append(text)
            if delta is not None:
                delta(text)

        listens = hear if call.stream and delta is not None else None
        work = self._answer(self._said.fork(), call, listens)

        def ended(result: Outcome | BaseException) -> None:
            if isinstance(result, asyncio.CancelledError):
                result = Outcome(texts=("".join(heard),), metas=(meta_info({}, aborted()),))
            elif isinstance(result, BaseException):
                result = Outcome(error=_error(result))
            if result.texts:
                self._said.add(result.texts[0], generated=True)
            done(result)

        return self._start(work, ended)

    def score(self, call: ScoreCall, done: Scored) -> Cancel:
        def ended(result: ScoreOutcome | BaseException) -> None:
            done(result if isinstance(result, ScoreOutcome) else ScoreOutcome(error=_error(result)))

        return self._start(self._backend.option_scores(self._said.fork(), call), ended)

    def choose(self, options: Any, done: Done) -> Cancel | None:
        if not self._backend.chooses(self._said):
            return None
        return self._start(self._backend.choice(self._said.fork(), tuple(options)), _outcome_to(done))

    def fork(self, count: int) -> list[BackendStream]:
        children = []
        for _ in range(count):
            child = ApiStream(self._backend, self._said.fork())
            child._prefilled = self._prefilled
            children.append(child)
        return list(children)

    def warm(self, done: Done) -> Cancel | None:
        if self._prefilled or type(self._backend).prefill is ApiBackend.prefill:
            return None
        self._prefilled = True

        async def work() -> Outcome:
            return await self._backend.prefill(self._said.fork()) or Outcome(texts=("",))

        return self._start(work(), _outcome_to(done))

    def cannot(self, what: str) -> Exception:
        return self._backend.cannot(what)

    def _start(self, work: Coroutine[Any, Any, Any], ended: Callable[[Any], None]) -> Cancel:
        once: Once[Any] = Once(ended)
        try:
            return self._backend.loop.start(work, once)
        except Exception as error:
            once(error)
            return _nothing_to_cancel

    async def _answer(self, said: Transcript, call: GenerateCall, heard: Heard | None) -> Outcome:
        """One answer; where it may go on past its stop, the surplus is kept for what comes next."""
        asked = call.speculate or 0
        if asked <= 0 or not self._backend.speculates or not can_speculate(call):
            return await self._backend.complete(said, call, heard)
        wide = await self._backend.complete(said, replace(call, sampling=widened(call.sampling, asked)), None)
        meta = dict(wide.metas[0])
        ended = (meta.get("finish_reason") or {}).get("type") == "stop"
        tokens, text = meta.get("completion_tokens") or None, wide.texts[0]
        surplus = Surplus(text, ended, tokens, (tokens or 0) / max(1, len(text)), settings_of(call.sampling))
        part = cut_out(surplus, call.sampling, asked)
        if part is None:  # it cannot be known what the call alone would give: make it
            return await self._backend.complete(said, replace(call, speculate=None), heard)
        self._surplus = part.rest
        if heard is not None and part.text:
            heard(part.text)
        meta["finish_reason"] = dict(part.finish_reason)
        return Outcome(texts=(part.text,), metas=(meta,))


def _outcome_to(done: Done) -> Callable[[Outcome | BaseException], None]:
    return lambda result: done(result if isinstance(result, Outcome) else Outcome(error=_error(result)))


def _error(error: BaseException) -> Exception:
    if isinstance(error, RamifyError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return BackendError("the call was cancelled")
    wrapped = BackendError(f"this call failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _nothing_to_cancel() -> None:
    """The call has ended."""
