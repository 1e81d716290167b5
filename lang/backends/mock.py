"""Backends without a model, for tests: Mock says what it is told or makes something up, NullBackend says nothing."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import BackendError
from ..nodes import Media
from .alarm import Alarm
from .base import (
    Backend,
    BackendStream,
    Cancel,
    Delta,
    Done,
    GenerateCall,
    OptionScore,
    Outcome,
    ScoreCall,
    Scored,
    ScoreOutcome,
)
from .meta import aborted, cut, meta_info, stopped
from .mock_text import dice, pseudo_text, token_id, tokens
from .once import Once
from .transcript import Mark, Transcript, plain_mark

Reply = str | Exception
Replies = Mapping[str, "Reply | Sequence[Reply]"]
Script = Iterable[Reply] | Replies | Callable[[str, Any], "Reply | Outcome"]
Failures = Mapping[int, Exception] | Callable[[int], "Exception | None"]


@dataclass(frozen=True, slots=True)
class MockCall:
    """One call that a mock served."""

    index: int  # 0 is the first
    kind: str  # "generate", "score" or "warm"
    call: GenerateCall | ScoreCall | None
    transcript: Transcript

    @property
    def prompt(self) -> str:
        """All the text before it, with roles written as SYSTEM:, USER: and ASSISTANT:."""
        return self.transcript.text()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said before it, as a conversation."""
        return self.transcript.messages()


class Mock(Backend):
    """Answers without a model.

        Mock()                                  # made-up words that depend on the prompt alone, and obey constraints
        Mock(["Paris", "1889"])                 # one after another; more calls than replies are an error
        Mock({"capital": "Paris"})              # by what the prompt says last
        Mock(lambda prompt, call: "Paris")      # computed

    A reply that is an exception fails its call. A select takes a reply too, which must be one of the options.
    `latency` is in seconds for every call, `failures` says which calls fail (by index from 0, or a function of it).
    `counts` counts calls by kind, `calls` keeps the latest `keep`.
    """

    name = "mock"

    def __init__(
        self,
        script: Script | None = None,
        *,
        latency: float = 0.0,
        failures: Failures | None = None,
        keep: int = 10_000,
    ) -> None:
        self.latency = latency
        self.counts: Counter[str] = Counter()
        self.calls: deque[MockCall] = deque(maxlen=keep)
        self._failures = failures or {}
        self._lock = threading.Lock()
        self._alarm = Alarm()
        self._replies: deque[Reply] | None = None
        self._by_prompt: dict[str, deque[Reply]] = {}
        self._compute: Callable[[str, Any], Reply | Outcome] | None = None
        if callable(script):
            self._compute = script
        elif isinstance(script, Mapping):
            self._by_prompt = {
                key: deque([reply] if isinstance(reply, str | Exception) else reply) for key, reply in script.items()
            }
        elif isinstance(script, str):
            raise BackendError(f"Mock: the script is the text {script!r:.60}; give a list of replies: Mock([...])")
        elif script is not None:
            self._replies = deque(script)

    def stream(self) -> MockStream:
        return MockStream(self, Transcript())

    def count_tokens(self, text: str) -> int:
        return len(tokens(text))

    def flush_cache(self) -> None:
        self.count("flush_cache")

    # -- for its streams ------------------------------------------------------------------------------------------

    def begin(self, kind: str, call: GenerateCall | ScoreCall | None, transcript: Transcript) -> MockCall:
        """Count and keep a call."""
        with self._lock:
            made = MockCall(self.counts["calls"], kind, call, transcript.fork())
            self.counts["calls"] += 1
            self.counts[kind] += 1
            self.calls.append(made)
        return made

    def count(self, kind: str, times: int = 1) -> None:
        """Count what is no call."""
        with self._lock:
            self.counts[kind] += times

    def failure(self, index: int) -> Exception | None:
        """The error that this call was told to have."""
        if callable(self._failures):
            return self._failures(index)
        return self._failures.get(index)

    def reply(self, made: MockCall) -> Reply | Outcome | None:
        """What the script says to a call; None: nothing, so make something up."""
        if self._compute is not None:
            return self._compute(made.prompt, made.call)
        if self._by_prompt:
            prompt = made.prompt
            found = max(self._by_prompt, key=lambda key: prompt.rfind(key))
            if found not in prompt:
                return BackendError(
                    f"Mock: none of its {len(self._by_prompt)} keys is in the prompt ending in {prompt[-80:]!r}"
                )
            with self._lock:
                replies = self._by_prompt[found]
                return replies.popleft() if len(replies) > 1 else replies[0]
        if self._replies is None:
            return None
        with self._lock:
            if self._replies:
                return self._replies.popleft()
        return BackendError(
            f"Mock: its replies are used up at call {made.index}, whose prompt ends in {made.prompt[-80:]!r}"
        )

    def after_latency(self, function: Callable[[], object]) -> None:
        """Call it when the time of one call has passed; at once, in this thread, where there is no latency."""
        if self.latency > 0:
            self._alarm.call_later(self.latency, function)
        else:
            function()


class MockStream(BackendStream):
    """A stream of a Mock."""

    def __init__(self, backend: Mock, transcript: Transcript) -> None:
        self._backend = backend
        self._transcript = transcript

    def append(self, text: str) -> None:
        self._transcript.add(text)

    def start_role(self, role: str) -> str:
        self._transcript.start_role(role)
        return plain_mark(Mark(role, True))

    def end_role(self, role: str) -> str:
        self._transcript.end_role(role)
        return plain_mark(Mark(role, False))

    def media(self, media: Media) -> None:
        self._transcript.add_media(media)

    def generate(self, call: GenerateCall, done: Done, delta: Delta | None = None) -> Cancel:
        made = self._backend.begin("generate", call, self._transcript)
        once = Once(done)

        def finish() -> None:
            if not once.claim():
                return
            outcome = self._outcome(made, call)
            if outcome.error is None and outcome.texts:
                if delta is not None and call.stream:
                    for token in tokens(outcome.texts[0]):
                        delta(token)
                self._transcript.add(outcome.texts[0], generated=True)
            once.tell(outcome)

        self._backend.after_latency(finish)
        return lambda: once(Outcome(texts=("",), metas=(meta_info({}, aborted()),)))

    def score(self, call: ScoreCall, done: Scored) -> Cancel:
        made = self._backend.begin("score", call, self._transcript)
        once = Once(done)
        self._backend.after_latency(lambda: once(self._scores(made, call)))
        return lambda: once(ScoreOutcome(error=BackendError("Mock: the call was cancelled")))

    def fork(self, count: int) -> list[BackendStream]:
        self._backend.count("fork", count)
        return [MockStream(self._backend, self._transcript.fork()) for _ in range(count)]

    def warm(self, done: Done) -> Cancel | None:
        made = self._backend.begin("warm", None, self._transcript)
        error = self._backend.failure(made.index)
        once = Once(done)
        self._backend.after_latency(
            lambda: once(Outcome(texts=("",), metas=({},)) if error is None else Outcome(error=error))
        )
        return lambda: once(Outcome(texts=("",), metas=({},)))

    def close(self) -> None:
        self._backend.count("close")

    def cannot(self, what: str) -> Exception:
        return BackendError(f"Mock cannot {what}; a backend with a model can: sgl.Engine(), sgl.RuntimeEndpoint(url)")

    def _outcome(self, made: MockCall, call: GenerateCall) -> Outcome:
        """What a generation gives, or the error that it was told to have."""
        try:
            if (error := self._backend.failure(made.index)) is not None:
                return Outcome(error=error)
            texts, metas = [], []
            for index in range(call.sampling.n or 1):
                reply = self._backend.reply(made)
                if isinstance(reply, Outcome):
                    return reply
                if isinstance(reply, Exception):
                    return Outcome(error=reply)
                if reply is None:
                    reply = pseudo_text(made.prompt, call.sampling, call.constraint, index)
                text, reason = _ended(reply, call)
                usage = {"prompt_tokens": len(tokens(made.prompt)), "completion_tokens": len(tokens(text))}
                texts.append(text)
                metas.append(meta_info(usage, reason))
            return Outcome(texts=tuple(texts), metas=tuple(metas))
        except Exception as error:  # a script's own function: its call fails, nothing hangs
            return Outcome(error=error)

    def _scores(self, made: MockCall, call: ScoreCall) -> ScoreOutcome:
        """The scripted option wins by every method; with no script, scores depend on the prompt and the option."""
        try:
            if (error := self._backend.failure(made.index)) is not None:
                return ScoreOutcome(error=error)
            reply = self._backend.reply(made)
            if isinstance(reply, Exception):
                return ScoreOutcome(error=reply)
            if reply is not None and reply not in call.options:
                shown = reply.texts if isinstance(reply, Outcome) else reply
                return ScoreOutcome(
                    error=BackendError(f"Mock: its reply to a select is {shown!r:.80}, not one of the options")
                )
            return ScoreOutcome(tuple(_option_score(made.prompt, option, reply, call.alone) for option in call.options))
        except Exception as error:
            return ScoreOutcome(error=error)


def _ended(reply: str, call: GenerateCall) -> tuple[str, dict[str, Any]]:
    """The reply up to its first stop, and why it ends."""
    stop = call.sampling.stop
    stops = (stop,) if isinstance(stop, str) else stop or ()
    at = {found: one for one in reversed(stops) if (found := reply.find(one)) >= 0}
    if at:
        return reply[: min(at)], stopped(at[min(at)])
    most = call.sampling.max_new_tokens
    if most is not None and call.constraint is None and len(tokens(reply)) >= most:
        return reply, cut(most)
    return reply, stopped()


def _option_score(prompt: str, option: str, winner: object, alone: bool) -> OptionScore:
    parts = tokens(option) or [option]
    throw = dice(prompt, option)
    logprobs = [-0.1 if option == winner else -4.0 - throw.random() for _ in parts]
    return OptionScore(tuple(map(token_id, parts)), tuple(logprobs), tuple([-3.0] * len(parts)) if alone else ())


_NOTHING = Outcome(texts=(" ok",), metas=(meta_info({"completion_tokens": 1}, stopped()),))


class NullBackend(Backend):
    """Every call ends at once with " ok", and nothing is kept: what then costs time is the language itself."""

    name = "null"

    def stream(self) -> NullStream:
        return NullStream()

    def count_tokens(self, text: str) -> int:
        return 1 + len(text) // 4


class NullStream(BackendStream):
    """A stream of a NullBackend."""

    __slots__ = ()

    def append(self, text: str) -> None:
        pass

    def start_role(self, role: str) -> None:
        pass

    def end_role(self, role: str) -> None:
        pass

    def media(self, media: Media) -> None:
        pass

    def generate(self, call: GenerateCall, done: Done, delta: Delta | None = None) -> Cancel:
        if delta is not None:
            delta(" ok")
        count = call.sampling.n or 1
        done(_NOTHING if count == 1 else Outcome(texts=_NOTHING.texts * count, metas=_NOTHING.metas * count))
        return _ended_already

    def score(self, call: ScoreCall, done: Scored) -> Cancel:
        row = OptionScore((0,), (-1.0,), (-1.0,) if call.alone else ())
        done(ScoreOutcome(tuple(row for _ in call.options)))
        return _ended_already

    def fork(self, count: int) -> list[BackendStream]:
        return [NullStream() for _ in range(count)]

    def cannot(self, what: str) -> Exception:
        return BackendError(f"NullBackend cannot {what}; it only measures overhead")


def _ended_already() -> None:
    """Cancelling a call that has ended does nothing."""
