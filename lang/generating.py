"""How a gen runs: its settings, its call, and what becomes of the outcome."""

from __future__ import annotations

import weakref
from dataclasses import replace
from time import monotonic
from typing import Any

from ..errors import BackendError
from .backends.alarm import Alarm
from .backends.base import BackendStream, Cancel, GenerateCall, Outcome
from .calls import Arrival
from .history import Entry
from .nodes import Gen, Select
from .reasoning import parted
from .sampling import Sampling
from .steps import added
from .stream import Stream
from .tools import call_named, read_call
from .typed import value_of
from .variables import Variable

_ALARM = Alarm()
DTYPE_STOPS = {"int": (" ", "\n"), "float": (" ", "\n")}


def settings(node: Gen, defaults: Sampling) -> Sampling:
    """The gen's own settings over the program's, and the stops that its dtype brings."""
    key = (id(node.sampling), id(defaults), node.dtype)
    known = _SETTINGS.get(key)
    if known is not None and known[0] is node.sampling and known[1] is defaults:
        return known[2]
    made = _settings(node, defaults)
    if len(_SETTINGS) >= _MOST_SETTINGS:
        _SETTINGS.clear()
    _SETTINGS[key] = (node.sampling, defaults, made)
    return made


_SETTINGS: dict[tuple[int, int, str | None], tuple[Sampling, Sampling, Sampling]] = {}  # equal gens share them
_MOST_SETTINGS = 4096


def _settings(node: Gen, defaults: Sampling) -> Sampling:
    complete = node.sampling.over(defaults)
    extra = DTYPE_STOPS.get(node.dtype or "")
    if extra is None:
        return complete
    given = (complete.stop,) if isinstance(complete.stop, str) else complete.stop or ()
    return replace(complete, stop=(*given, *extra))


def step_gen(stream: Stream, entry: Entry) -> bool:
    """Start the generation."""
    node: Any = entry.node
    context = stream.context
    sampling = settings(node, context.defaults)
    stream.gens_waiting -= 1
    call = Arrival()
    request = GenerateCall(
        sampling,
        node.constraint,
        node.tools,
        context.streaming,
        priority_of(stream, node),
        context.speculate,
    )
    before = _copy(stream) if node.reasoning is not None else None

    def done(outcome: Outcome) -> None:
        if call.claim():
            try:
                _take(stream, entry, call, sampling, outcome, before)
            except Exception as error:  # a backend whose outcome makes no sense: nothing hangs
                stream.fail(entry, error)
            stream.end(call)

    def delta(text: str) -> None:
        if not call.ended and text:
            call.streamed += len(text)
            if entry.variable is not None and entry.variable.chunks is not None:
                entry.variable.chunks.append(text)
            added(stream, entry, text)

    def begin() -> Cancel:
        if stream.operations is not None:
            rebuild(stream)
        streams = context.streaming and node.reasoning is None
        return stream.stream.generate(request, done, delta if streams else None)  # type: ignore[union-attr]

    end_in_time(stream, entry, call, sampling.timeout)
    entry.started = monotonic()
    return stream.start(entry, call, begin)


def priority_of(stream: Stream, node: Gen | Select) -> int:
    """How early a call goes: the more gens wait behind it, as the graph or its own queue knows, the smaller."""
    if not stream.context.options.priorities:
        return 0
    return -stream.gens_waiting if node.priority is None else node.priority


def _take(
    stream: Stream, entry: Entry, call: Arrival, sampling: Sampling, outcome: Outcome, before: BackendStream | None
) -> None:
    """The outcome becomes text, value and meta. Raises nothing: the queue must go on."""
    entry.ended = monotonic()
    error = outcome.error
    if error is None and not outcome.texts:
        error = BackendError(f"the backend {stream.context.backend.name!r} ended a call with neither text nor error")
    if error is not None or not stream.needed or stream.context.stopped is not None:
        entry.meta = outcome.metas[0] if outcome.metas else None
        stream.fail(entry, error or BackendError("cancelled"))
        return
    node: Any = entry.node
    texts = outcome.texts
    many = sampling.n is not None and sampling.n > 1
    entry.meta = list(outcome.metas) if many else outcome.metas[0] if outcome.metas else {}
    if node.reasoning is not None:
        texts = _separate(stream, entry, texts, before, many)
    if stream.operations is not None:
        stream.operations.append(("append", texts[0]))
    added(stream, entry, texts[0][call.streamed :])
    variable = entry.variable
    if variable is None:
        return
    try:
        values = [_value(node, text, index, outcome) for index, text in enumerate(texts)]
    except Exception as wrong:
        _bad_value(stream, entry, variable, wrong)
        return
    if variable.chunks is not None and not call.streamed:
        variable.chunks.append(texts[0])
    if node.tools:
        variable.tool_calls = tuple(values)
        values = list(texts)
    variable.fill(values if many else values[0], entry.meta)


def _value(node: Gen, text: str, index: int, outcome: Outcome) -> Any:
    """What is read back of one text."""
    if node.tools:
        if outcome.tool_calls:
            made = outcome.tool_calls[index]
            return call_named(made[0], made[1], node.tools) if isinstance(made, tuple) else made
        return read_call(text, node.tools)
    return text if node.type is None else value_of(text, node.type)


def _bad_value(stream: Stream, entry: Entry, variable: Variable, error: Exception) -> None:
    """The text is there, but is not of the type that was asked for: the value is an error, and the stream goes on."""
    first = stream.error
    stream.fail(entry, error)
    stream.error = first
    stream.value_error = stream.value_error or entry.error
    variable.meta = entry.meta


def _separate(
    stream: Stream, entry: Entry, texts: tuple[str, ...], before: BackendStream | None, many: bool
) -> tuple[str, ...]:
    """The thoughts go into a variable of their own; the stream goes on as if only the rest had been said."""
    node: Any = entry.node
    thoughts, rests = zip(*(parted(text, node.reasoning) for text in texts), strict=True)
    holder = stream.variables.get(f"{node.name}_reasoning_content")
    if holder is not None and not holder.ready:
        holder.fill(list(thoughts) if many else thoughts[0])
    if rests[0] != texts[0] and before is not None:
        if stream.stream is not None:
            stream.stream.close()
        before.append(rests[0])
        stream.stream = before
    elif before is not None:
        before.close()
    return tuple(rests)


def _copy(stream: Stream) -> BackendStream | None:
    return None if stream.stream is None else stream.stream.fork(1)[0]


def rebuild(stream: Stream) -> None:
    """Send everything anew, as a client without handles does."""
    if stream.stream is not None:
        stream.stream.close()
    stream.stream = stream.context.backend.stream()
    for operation, argument in stream.operations or ():
        getattr(stream.stream, operation)(argument)


def end_in_time(stream: Stream, entry: Entry, call: Arrival, seconds: float | None) -> None:
    """See to it that the call ends after so many seconds; None: it may take for ever."""
    if seconds is not None:
        _ALARM.call_later(seconds, Deadline(stream, entry, call, seconds))


class Deadline:
    """Ends a call when its time is over. Holds nothing that the call does not hold itself."""

    __slots__ = ("_call", "_entry", "_seconds", "_stream")

    def __init__(self, stream: Stream, entry: Entry, call: Arrival, seconds: float) -> None:
        self._call = weakref.ref(call)
        self._stream = weakref.ref(stream)
        self._entry = weakref.ref(entry)
        self._seconds = seconds

    def __call__(self) -> None:
        call, stream, entry = self._call(), self._stream(), self._entry()
        if call is None or stream is None or entry is None or not call.claim():
            return
        entry.ended = monotonic()
        stream.fail(entry, BackendError(f"no answer within timeout={self._seconds:g} seconds"))
        call.overdue = True  # before the look at `cancel`, which may not be there yet
        if call.cancel is not None:
            call.cancel()
        stream.end(call)
