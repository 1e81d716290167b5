"""How a select runs: its options are scored, or the backend chooses in its own way."""

from __future__ import annotations

from time import monotonic
from typing import Any

from .backends.base import Cancel, Outcome, ScoreOutcome
from .calls import Arrival
from .choices import decide, score_call
from .generating import end_in_time, priority_of, rebuild
from .history import Entry
from .steps import add_text
from .stream import Stream


def step_select(stream: Stream, entry: Entry) -> bool:
    """Start to choose."""
    node: Any = entry.node
    context = stream.context
    stream.gens_waiting -= 1
    call = Arrival()
    entry.started = monotonic()

    def scored(outcome: ScoreOutcome) -> None:
        if not call.claim():
            return
        entry.ended = monotonic()
        try:
            if outcome.error is not None:
                raise outcome.error
            decision = decide(
                node.choices, node.method, outcome.scores, temperature=node.temperature, seed=context.defaults.seed
            )
            _chosen(stream, entry, decision.text, {**decision.meta, "usage": dict(outcome.usage)})
        except Exception as error:
            stream.fail(entry, error)
        stream.end(call)

    def chosen(outcome: Outcome) -> None:
        if not call.claim():
            return
        entry.ended = monotonic()
        try:
            if outcome.error is not None:
                raise outcome.error
            _chosen(stream, entry, outcome.texts[0], outcome.metas[0] if outcome.metas else {})
        except Exception as error:
            stream.fail(entry, error)
        stream.end(call)

    def begin() -> Cancel | None:
        if stream.operations is not None:
            rebuild(stream)
        backend_stream = stream.stream
        assert backend_stream is not None, "a stream runs only when it is attached"
        cancel = backend_stream.choose(node.choices, chosen)
        if cancel is not None:
            return cancel
        priority = priority_of(stream, node)
        return backend_stream.score(score_call(node.choices, node.method, priority), scored)

    end_in_time(stream, entry, call, context.defaults.timeout)
    return stream.start(entry, call, begin)


def _chosen(stream: Stream, entry: Entry, text: str, meta: Any) -> None:
    entry.meta = meta
    if not stream.needed or stream.context.stopped is not None:
        raise InterruptedError("cancelled")
    add_text(stream, entry, text)
    if entry.variable is not None:
        if entry.variable.chunks is not None:
            entry.variable.chunks.append(text)
        entry.variable.fill(text, meta)
