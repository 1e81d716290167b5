"""Records what a backend answers to a program's calls, in a JSONL file, and answers from that file without it."""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import BackendError
from ..nodes import Media
from .base import Backend, BackendStream, Cancel, Delta, Done, GenerateCall, Outcome, ScoreCall, Scored, ScoreOutcome
from .recorded_calls import (
    History,
    call_key,
    differences,
    generate_settings,
    media_mark,
    plain,
    read_error,
    read_outcome,
    read_scores,
    score_settings,
)
from .recording import RecordingStream

FORMAT = "ramify-calls-1"


class Replay(Backend):
    """Replays calls from a file, or, given a backend, passes them on to it and records them.

        program.run(backend=sgl.Replay("run.jsonl", record=sgl.Engine()))   # once
        program.run(backend=sgl.Replay("run.jsonl"))                        # any time later, without a model

    A call is found again by the stream's text before it and by its settings (not by priority, timeout or order). Equal
    calls get the recorded answers in their order. What was not recorded is a BackendError that says what comes closest.
    Recording adds to a file that is there.
    """

    name = "replay"

    def __init__(self, path: str | Path, *, record: Backend | None = None) -> None:
        self.path = Path(path)
        self._inner = record
        self._lock = threading.Lock()
        self._answers: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._settings: dict[str, list[dict[str, Any]]] = defaultdict(list)  # by prompt: for the message
        self._role_texts: dict[str, str] = {}
        self._count = 0
        self._info: dict[str, Any] = {}
        if record is None:
            self._load()
        else:
            self._write({"format": FORMAT, "server_info": dict(record.server_info())})

    def stream(self) -> BackendStream:
        history = History()
        return (
            ReplayStream(self, history)
            if self._inner is None
            else RecordingStream(self._inner.stream(), history, self.keep)
        )

    def count_tokens(self, text: str) -> int | None:
        return None if self._inner is None else self._inner.count_tokens(text)

    def flush_cache(self) -> None:
        if self._inner is not None:
            self._inner.flush_cache()

    def server_info(self) -> Mapping[str, Any]:
        return {**self._info, "backend": self.name} if self._inner is None else self._inner.server_info()

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    # -- for its streams ------------------------------------------------------------------------------------------

    def answer(self, kind: str, history: History, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The next recorded answer to this call. Raises BackendError, or the error that was recorded."""
        key = call_key(kind, history.digest, settings)
        with self._lock:
            entry = self._answers[key].popleft() if self._answers.get(key) else None
        if entry is None:
            raise BackendError(self._unknown(kind, key, history, settings))
        if "error" in entry:
            raise read_error(entry["error"])
        return entry

    def knows(self, kind: str, history: History, settings: Mapping[str, Any]) -> bool:
        """Whether such a call was recorded."""
        return call_key(kind, history.digest, settings) in self._answers

    def role_text(self, history: History) -> str | None:
        """What the recorded backend wrote where a role started or ended, if it told."""
        return self._role_texts.get(history.digest)

    def keep(self, kind: str, history: History, settings: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Write one call and its answer to the file; the text of a role once for all equal streams."""
        if kind == "role":
            with self._lock:
                known = history.digest in self._role_texts
                self._role_texts[history.digest] = str(answer["text"])
            if known:
                return
        self._write(
            {
                "kind": kind, "prompt": history.digest, "ends_in": history.tail, "call": dict(settings), **answer,
            }
        )  # fmt: skip

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=True, default=plain)
        with self._lock, self.path.open("a", encoding="ascii") as file:
            file.write(line + "\n")

    def _load(self) -> None:
        if not self.path.is_file():
            raise BackendError(f"Replay: there is no file {self.path}; record one: Replay(path, record=backend)")
        with self.path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    entry = json.loads(line)
                    if "format" in entry:
                        if entry["format"] != FORMAT:
                            raise ValueError(f"format {entry['format']!r:.40}, but this version reads {FORMAT}")
                        self._info = dict(entry.get("server_info", {}))
                        continue
                    if entry["kind"] == "role":
                        self._role_texts[entry["prompt"]] = str(entry["text"])
                        continue
                    self._answers[call_key(entry["kind"], entry["prompt"], entry["call"])].append(entry)
                    self._settings[entry["prompt"]].append({"kind": entry["kind"], **entry["call"]})
                    self._count += 1
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise BackendError(f"Replay: {self.path}, line {number} is no recorded call: {error}") from None

    def _unknown(self, kind: str, key: str, history: History, settings: Mapping[str, Any]) -> str:
        what = f"Replay: {self.path.name} has no answer to a {kind} after {history.tail!r}"
        again = "record it: Replay(path, record=backend)"
        if key in self._answers:
            return f"{what}: all {kind} calls like it that were recorded have been replayed; {again}"
        same_prompt = self._settings.get(history.digest, [])
        if not same_prompt:
            return f"{what}: nothing was recorded after this text ({self._count} calls after others); {again}"
        closest = min((differences({"kind": kind, **settings}, known) for known in same_prompt), key=len)
        return f"{what}: it was recorded with other settings ({'; '.join(closest)}); {again}"


class ReplayStream(BackendStream):
    """A stream that knows the answers already."""

    def __init__(self, backend: Replay, history: History) -> None:
        self._backend = backend
        self._history = history

    def append(self, text: str) -> None:
        self._history.add(text)

    def start_role(self, role: str) -> str | None:
        self._history.mark(f"{role} starts")
        return self._backend.role_text(self._history)

    def end_role(self, role: str) -> str | None:
        self._history.mark(f"{role} ends")
        return self._backend.role_text(self._history)

    def media(self, media: Media) -> None:
        self._history.mark(media_mark(media))

    def generate(self, call: GenerateCall, done: Done, delta: Delta | None = None) -> Cancel:
        try:
            outcome = read_outcome(self._backend.answer("generate", self._history, generate_settings(call)))
        except Exception as error:
            outcome = Outcome(error=error)
        if outcome.texts:
            self._history.add(outcome.texts[0])
            if delta is not None and call.stream:
                delta(outcome.texts[0])
        done(outcome)
        return _nothing_to_cancel

    def score(self, call: ScoreCall, done: Scored) -> Cancel:
        try:
            outcome = read_scores(self._backend.answer("score", self._history, score_settings(call)))
        except Exception as error:
            outcome = ScoreOutcome(error=error)
        done(outcome)
        return _nothing_to_cancel

    def choose(self, options: Sequence[str], done: Done) -> Cancel | None:
        settings = {"options": list(options)}
        if not self._backend.knows("choose", self._history, settings):
            return None  # the recorded backend had no way of its own
        try:
            outcome = read_outcome(self._backend.answer("choose", self._history, settings))
        except Exception as error:
            outcome = Outcome(error=error)
        done(outcome)
        return _nothing_to_cancel

    def fork(self, count: int) -> list[BackendStream]:
        return [ReplayStream(self._backend, self._history.fork()) for _ in range(count)]

    def cannot(self, what: str) -> Exception:
        return BackendError(f"Replay cannot {what}: it only repeats what was recorded")


def _nothing_to_cancel() -> None:
    """The call has ended."""
