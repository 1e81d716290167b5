"""The process that compiles grammars for a `CompileService`: requests come in on stdin, programs go out on stdout.

`WorkerProcess` starts it      frames are a length of 4 bytes and msgpack
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import struct
from typing import IO, Any

import msgpack  # type: ignore[import-untyped]

from ..errors import GrammarError, GrammarTooLarge
from .codec import encode
from .compiling import FRONT_ENDS, compile_grammar, front_end

_LENGTH = struct.Struct("<I")
READY = b"ready"
_GARBAGE = 200_000  # objects made and not given back, after which it is worth a look which of them are garbage


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame, or None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None


def write_frame(stream: IO[bytes], data: bytes) -> None:
    """One frame, sent off at once. Raises OverflowError beyond 4 GB."""
    if len(data) >= 1 << 32:
        raise OverflowError(f"a frame of {len(data):,} bytes")
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def answer(request: bytes) -> bytes:
    """The answer to a request [kind, source, options]: [True, program], or [False, error, message, path, lasting].

    `lasting`: whether it would be the same another time.
    """
    try:
        kind, source, options = msgpack.unpackb(request, unicode_errors="surrogatepass")
        return pack([True, encode(compile_grammar(kind, source, options).program)])
    except GrammarError as error:
        return pack([False, type(error).__name__, str(error), error.path, True])
    except (RecursionError, OverflowError) as error:
        return pack(
            [False, GrammarTooLarge.__name__, f"a grammar that nests too deep or is too large: {error}", "", True]
        )


def pack(value: Any) -> bytes:
    """msgpack that carries lone surrogates."""
    packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return packed


def main(memory_limit: int, time_limit: float) -> None:
    """Answer requests until stdin ends. The memory of the process is limited; out of memory, it says so and ends.

    `time_limit`: seconds of processor time for one answer; beyond them the process is ended by SIGPROF.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    incoming = os.fdopen(os.dup(0), "rb")
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not land among the frames
    for kind in FRONT_ENDS:
        if kind != "from_type":  # types do not travel
            front_end(kind)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody reads it any more, and what is written would pile up
    os.dup2(2, 1)
    write_frame(outgoing, READY)
    # Looking for garbage takes a third of a large grammar's time: it is done between answers.
    gc.freeze()
    gc.disable()
    while (request := read_frame(incoming)) is not None:
        try:
            signal.setitimer(signal.ITIMER_PROF, time_limit)
            write_frame(outgoing, answer(request))
            signal.setitimer(signal.ITIMER_PROF, 0)
            if gc.get_count()[0] > _GARBAGE:
                gc.collect()
        except MemoryError:
            message = f"compiling this takes more than {memory_limit >> 20:,} MB of memory"
            write_frame(outgoing, pack([False, GrammarTooLarge.__name__, message, "", False]))
            return  # what is left of the memory is in pieces
