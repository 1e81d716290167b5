"""A stream that passes everything on to another backend's stream and writes down what that answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import BackendError
from ..nodes import Media
from .base import BackendStream, Cancel, Delta, Done, GenerateCall, Outcome, ScoreCall, Scored, ScoreOutcome
from .recorded_calls import History, generate_settings, media_mark, score_settings, write_outcome, write_scores

Keep = Callable[[str, History, Mapping[str, Any], Mapping[str, Any]], None]  # kind, what was said, settings, answer


class RecordingStream(BackendStream):
    """Behaves as `inner` does. An answer is kept before the program hears of it."""

    def __init__(self, inner: BackendStream, history: History, keep: Keep) -> None:
        self._inner = inner
        self._history = history
        self._keep = keep

    def append(self, text: str) -> None:
        self._history.add(text)
        self._inner.append(text)

    def start_role(self, role: str) -> str | None:
        self._history.mark(f"{role} starts")
        return self._told(self._inner.start_role(role))

    def end_role(self, role: str) -> str | None:
        self._history.mark(f"{role} ends")
        return self._told(self._inner.end_role(role))

    def _told(self, text: str | None) -> str | None:
        if text is not None:
            self._keep("role", self._history, {}, {"text": text})
        return text

    def media(self, media: Media) -> None:
        self._inner.media(media)
        self._history.mark(media_mark(media))

    def generate(self, call: GenerateCall, done: Done, delta: Delta | None = None) -> Cancel:
        return self._inner.generate(call, self._kept("generate", generate_settings(call), done, said=True), delta)

    def score(self, call: ScoreCall, done: Scored) -> Cancel:
        settings = score_settings(call)

        def keep(outcome: ScoreOutcome) -> None:
            try:
                self._keep("score", self._history, settings, write_scores(outcome))
            except OSError as error:
                outcome = ScoreOutcome(error=_not_written(error))
            done(outcome)

        return self._inner.score(call, keep)

    def choose(self, options: Sequence[str], done: Done) -> Cancel | None:
        return self._inner.choose(options, self._kept("choose", {"options": list(options)}, done))

    def fork(self, count: int) -> list[BackendStream]:
        return [RecordingStream(inner, self._history.fork(), self._keep) for inner in self._inner.fork(count)]

    def warm(self, done: Done) -> Cancel | None:
        return self._inner.warm(done)

    def ahead(self) -> None:
        self._inner.ahead()

    def hint(self, *, next_use: float | None = None) -> None:
        self._inner.hint(next_use=next_use)

    def close(self) -> None:
        self._inner.close()

    def cannot(self, what: str) -> Exception:
        return self._inner.cannot(what)

    def _kept(self, kind: str, settings: Mapping[str, Any], done: Done, said: bool = False) -> Done:
        def keep(outcome: Outcome) -> None:
            try:
                self._keep(kind, self._history, settings, write_outcome(outcome))
            except OSError as error:
                outcome = Outcome(error=_not_written(error))
            if said and outcome.texts:
                self._history.add(outcome.texts[0])
            done(outcome)

        return keep


def _not_written(error: OSError) -> BackendError:
    return BackendError(f"Replay: the call could not be recorded: {error}")
