"""A backend for tests whose calls wait until the test ends them, in any order and from any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ramify.errors import BackendError
from ramify.lang.backends.base import (
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


@dataclass(eq=False)
class Held:
    """A call that waits for the test."""

    kind: str
    text: str  # before it
    call: GenerateCall | ScoreCall | None
    done: Callable[[object], None]
    delta: Delta | None = None
    stream: ManualStream | None = None
    cancelled: bool = False
    ended: bool = False

    def finish(self, text: str = "ok", **meta: object) -> None:
        if self.ended:
            return
        self.ended = True
        if self.stream is not None and self.kind == "generate":
            self.stream.text += text
        self.done(Outcome((text,), ({"finish_reason": {"type": "stop"}, **meta},)))

    def fail(self, error: Exception) -> None:
        self.ended = True
        self.done(Outcome(error=error))

    def score(self, *means: float) -> None:
        self.ended = True
        self.done(ScoreOutcome(tuple(OptionScore((i,), (mean,), (-1.0,)) for i, mean in enumerate(means))))


@dataclass(eq=False)
class Manual(Backend):
    """Keeps every call until the test ends it."""

    name = "manual"
    calls: list[Held] = field(default_factory=list)
    hints: list[tuple[str, float | None]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)  # the texts that streams might prefill while nothing was asked
    streams: int = 0
    warms: bool = False
    started: threading.Condition = field(default_factory=threading.Condition)

    def stream(self) -> ManualStream:
        self.streams += 1
        return ManualStream(self, "")

    def hold(self, held: Held) -> Cancel:
        with self.started:
            self.calls.append(held)
            self.started.notify_all()

        def cancel() -> None:
            if not held.ended:
                held.cancelled = True
                held.finish("", aborted=True)

        return cancel

    def call(self, index: int, seconds: float = 10.0) -> Held:
        """The call of this index; waits for it."""
        with self.started:
            assert self.started.wait_for(lambda: len(self.calls) > index, seconds), f"only {len(self.calls)} calls came"
            return self.calls[index]


class ManualStream(BackendStream):
    def __init__(self, backend: Manual, text: str) -> None:
        self.backend, self.text = backend, text

    def append(self, text: str) -> None:
        self.text += text

    def start_role(self, role: str) -> str:
        self.text += f"<{role}>"
        return f"<{role}>"

    def end_role(self, role: str) -> str:
        self.text += f"</{role}>"
        return f"</{role}>"

    def generate(self, call: GenerateCall, done: Done, delta: Delta | None = None) -> Cancel:
        return self.backend.hold(Held("generate", self.text, call, done, delta, self))

    def score(self, call: ScoreCall, done: Scored) -> Cancel:
        return self.backend.hold(Held("score", self.text, call, done, None, self))

    def fork(self, count: int) -> list[BackendStream]:
        return [ManualStream(self.backend, self.text) for _ in range(count)]

    def warm(self, done: Done) -> Cancel | None:
        return self.backend.hold(Held("warm", self.text, None, done)) if self.backend.warms else None

    def ahead(self) -> None:
        self.backend.ahead.append(self.text)

    def hint(self, *, next_use: float | None = None) -> None:
        self.backend.hints.append((self.text, next_use))

    def close(self) -> None:
        self.backend.closed.append(self.text)

    def cannot(self, what: str) -> Exception:
        return BackendError(f"manual cannot {what}")


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
