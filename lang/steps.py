"""What each node that needs no model does to its stream, and where forks start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .backends.base import Outcome
from .backends.transcript import Mark, plain_mark
from .calls import Arrival
from .failures import again
from .history import Entry
from .stream import ForkPoint, Stream
from .variables import Variable

Step = Callable[[Stream, Entry], bool]  # True: go on; False: something is in flight that will go on


def add_text(stream: Stream, entry: Entry, text: str) -> None:
    """Text that is known goes to the backend and into the stream's own record."""
    if text:
        apply(stream, "append", text)
    added(stream, entry, text)


def added(stream: Stream, entry: Entry, text: str) -> None:
    """Record text that the backend has already."""
    entry.text += text
    stream.chunks.append(text)
    if stream.text_wakes:
        stream.tell_text()


def apply(stream: Stream, operation: str, argument: Any) -> Any:
    """Call a method of the backend's stream that changes its text."""
    if stream.operations is not None:
        stream.operations.append((operation, argument))
    return getattr(stream.stream, operation)(argument)


def step_text(stream: Stream, entry: Entry) -> bool:
    text = entry.node.text  # type: ignore[union-attr]
    if stream.operations is not None:
        stream.operations.append(("append", text))
    if text:
        stream.stream.append(text)  # type: ignore[union-attr]
    entry.text = text
    stream.chunks.append(text)
    if stream.text_wakes:
        stream.tell_text()
    return True


def step_variable_text(stream: Stream, entry: Entry) -> bool:
    """The text of a variable, which another stream may still be making."""
    node: Any = entry.node
    variable = entry.variable
    assert variable is not None, "found when it was appended"
    if not variable.ready:
        stream.queue.appendleft(entry)  # safe without the lock: only who runs the queue takes from its left
        return _until_ready(stream, entry, variable)
    if variable.error is not None:
        raise again(variable.error)
    value = variable.value if node.index is None else variable.value[node.index]
    add_text(stream, entry, str(value))
    return True


def _until_ready(stream: Stream, entry: Entry, variable: Variable) -> bool:
    """Go on with the stream when the variable is there. True: it is there already."""
    call = Arrival()

    def wake() -> None:
        if call.claim():
            stream.end(call)

    def begin() -> None:
        variable.subscribe(wake)

    return stream.start(entry, call, begin)


def step_role_start(stream: Stream, entry: Entry) -> bool:
    role = entry.node.role  # type: ignore[union-attr]
    written = apply(stream, "start_role", role)
    added(stream, entry, written if written is not None else plain_mark(Mark(role, True)))
    stream.role, stream.role_at, stream.role_parts = role, len(stream.chunks), []
    return True


def step_role_end(stream: Stream, entry: Entry) -> bool:
    role = entry.node.role  # type: ignore[union-attr]
    stream.messages.append(open_message(stream))
    stream.role, stream.role_parts = None, []
    written = apply(stream, "end_role", role)
    added(stream, entry, written if written is not None else plain_mark(Mark(role, False)))
    return True


def step_media(stream: Stream, entry: Entry) -> bool:
    apply(stream, "media", entry.node)
    stream.role_parts += ["".join(stream.chunks[stream.role_at :]), entry.node]
    stream.role_at = len(stream.chunks)
    return True


def step_set(stream: Stream, entry: Entry) -> bool:
    return True  # the variable was set when it was appended


def step_scope_start(stream: Stream, entry: Entry) -> bool:
    if entry.variable is not None:
        stream.scopes.append((entry.variable, len(stream.chunks)))
    return True


def step_scope_end(stream: Stream, entry: Entry) -> bool:
    if stream.scopes:
        variable, since = stream.scopes.pop()
        variable.fill("".join(stream.chunks[since:]))
    return True


def open_message(stream: Stream) -> dict[str, Any]:
    """What the role that speaks has said so far, as OpenAI's APIs write messages; white space before it left out."""
    parts = [*stream.role_parts, "".join(stream.chunks[stream.role_at :])]
    if isinstance(parts[0], str):
        parts[0] = parts[0].lstrip()
    if len(parts) == 1:
        return {"role": stream.role, "content": parts[0]}
    if all(isinstance(part, str) for part in parts):
        return {"role": stream.role, "content": "".join(parts)}
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": part.kind, part.kind: part.source}
        for part in parts
        if part != ""
    ]
    return {"role": stream.role, "content": content}


def step_fork(stream: Stream, point: ForkPoint) -> list[Stream] | None:
    """Start the forks: those of them that can run now. None: the prefix is being prefilled, come again."""
    living = [child for child in point.children if child.needed]
    backend_stream = stream.stream
    if not living or backend_stream is None:
        return []
    if not point.warmed and len(living) > 1 and stream.context.options.warm_forks:
        point.warmed = True
        stream.queue.appendleft(point)  # safe without the lock: only who runs the queue takes from its left
        if not _warm(stream, point):
            return None
        stream.queue.popleft()
    prefix = stream.text()
    for child, own in zip(living, backend_stream.fork(len(living)), strict=True):
        inherit(child, stream, prefix)
        child.stream, child.attached = own, True
        started_from(child)
    return living


def started_from(child: Stream) -> None:
    """The fork does not need its parent any more."""
    with child.lock:
        parent, child.waits_for = child.waits_for, None
    if parent is not None:
        parent.lose_reader()


def inherit(child: Stream, parent: Stream, prefix: str) -> None:
    """What a fork takes over besides the backend's stream."""
    child.prefix = prefix
    child.messages = list(parent.messages)
    child.role = parent.role
    if parent.role is not None:
        child.role_parts = [*parent.role_parts, "".join(parent.chunks[parent.role_at :])]
    if parent.operations is not None:
        child.operations = list(parent.operations)


def _warm(stream: Stream, point: ForkPoint) -> bool:
    """Prefill what comes before the forks. True: done. Its failure is theirs to meet: they need the same prefix."""
    call = Arrival()

    def done(outcome: Outcome) -> None:
        if call.claim():
            stream.end(call)

    def begin() -> Any:
        cancel = stream.stream.warm(done)  # type: ignore[union-attr]
        if cancel is None and call.claim():
            stream.end(call)
        return cancel

    return stream.start(point, call, begin)
