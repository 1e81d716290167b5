"""Compiles grammars in processes of their own, with limits on time and memory, once for equal requests, and keeps them.

submit -> in memory? -> being compiled? -> a thread for each worker: on disk? -> the worker process -> all who wait
"""

from __future__ import annotations

import copy
import hashlib
import json
import queue
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

from ..errors import EngineClosed, GrammarError, GrammarTooLarge, RequestFailed
from .cache import DiskCache, MemoryCache
from .codec import decode
from .compiling import compile_grammar
from .grammar import Grammar
from .worker import pack
from .worker_process import Died, OutOfTime, WorkerProcess

# A regular expression or choices as short as this, without groups that look around, is compiled where it is asked
# for: its tree and its expression are linear in it, so neither time nor memory can run away. See decision 009.
AT_ONCE = 2_000  # characters
# What a grammar weighs in memory, measured on 200 real schemas: its program, for each byte of the encoded form, and
# what its machine learns while it is used.
_WEIGHT, _LEARNED = 12, 200_000


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a service has done so far."""

    compiled: int = 0  # by a worker
    at_once: int = 0  # in this process
    from_memory: int = 0
    from_disk: int = 0
    joined: int = 0  # waited for an equal request
    refused: int = 0
    timed_out: int = 0
    crashed: int = 0  # out of memory, or worse


@dataclass(slots=True)
class _Job:
    key: str
    kind: str
    source: Any
    options: dict[str, Any]
    waiting: list[Future[Grammar]] = field(default_factory=list)


class CompileService:
    """Compiles grammars; safe from many threads. Close it, or use it in a `with`, to end its processes.

    `time_limit` (seconds of processor time, so that a busy machine refuses nothing; ten times as many of the clock)
    and `memory_limit` (bytes of address space) are for one grammar in a worker: beyond them it is refused with
    GrammarTooLarge, and the worker starts anew. `cache_bytes` bounds what is kept in memory; `disk` is
    a folder where compiled grammars are kept too, up to `disk_bytes`. Workers start when first needed and stay.
    """

    def __init__(
        self,
        workers: int = 1,
        time_limit: float = 1.5,
        memory_limit: int = 1 << 30,
        cache_bytes: int = 128 << 20,
        disk: Path | None = None,
        disk_bytes: int = 256 << 20,
    ) -> None:
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self._kept: MemoryCache[Grammar | GrammarError] = MemoryCache(cache_bytes)
        self._disk = None if disk is None else DiskCache(disk, disk_bytes)
        self._lock = threading.Lock()
        self._statistics = Statistics()
        self._jobs: dict[str, _Job] = {}
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._workers = [WorkerProcess(time_limit, memory_limit) for _ in range(workers)]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> CompileService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def statistics(self) -> Statistics:
        """Counts of what happened so far."""
        return self._statistics

    def submit(self, kind: str, source: Any = None, options: Mapping[str, Any] | None = None) -> Future[Grammar]:
        """The grammar of a kind that `compile_grammar` knows, in the future.

        The future raises GrammarError for what cannot be enforced, GrammarTooLarge for what takes too much time or
        memory. Equal requests are compiled once. A refusal is remembered, running out of time or memory is not.
        Raises EngineClosed after `close`.
        """
        future: Future[Grammar] = Future()
        try:
            if kind == "grammar":
                future.set_result(compile_grammar(kind, source, options))
                return future
            kind, source, options = _as_data(kind, source, dict(options or {}))
            key = _key(kind, source, options)
        except GrammarError as error:
            future.set_exception(error)
            return future
        with self._lock:
            if self._closed:
                raise EngineClosed("the compile service was closed")
            kept = self._kept.get(key)
            job = self._jobs.get(key)
            if kept is not None:
                self._count("from_memory")
            elif job is not None:
                self._count("joined")
                job.waiting.append(future)
                return future
            else:
                job = self._jobs[key] = _Job(key, kind, source, options, [future])
                if not _is_small(kind, source):
                    self._queue.put(job)
                    self._start()
                    return future
        if kept is not None:
            _settle([future], kept)
        else:
            assert job is not None
            self._compile_here(job)
        return future

    def close(self) -> None:
        """End the workers; futures still open raise EngineClosed."""
        with self._lock:
            self._closed = True
            left = list(self._jobs.values())
            self._jobs.clear()
        for worker in self._workers:
            self._queue.put(None)
            worker.kill()
        for thread in self._threads:
            thread.join()
        for job in left:
            _settle(job.waiting, EngineClosed("the compile service was closed"))

    def _start(self) -> None:
        """A thread for each worker, once; held by the lock."""
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._run, args=(worker,), name="ramify-compile", daemon=True)
                for worker in self._workers
            ]
            for thread in self._threads:
                thread.start()

    def _run(self, worker: WorkerProcess) -> None:
        try:
            while (job := self._queue.get()) is not None:
                if not self._closed:
                    try:
                        self._serve(job, worker)
                    except Exception as error:  # whatever went wrong, nobody waits for ever
                        self._finish(job, error, 0, "crashed")
        finally:
            worker.stop()

    def _serve(self, job: _Job, worker: WorkerProcess) -> None:
        disk = self._disk
        if disk is not None and (data := disk.get(job.key)) is not None:
            try:
                self._finish(job, _grammar(job, data), len(data), "from_disk")
                return
            except GrammarError:
                disk.remove(job.key)
        shown = f"{job.kind} {str(job.source)[:60]!r}"
        try:
            done, *rest = msgpack.unpackb(
                worker.ask(pack([job.kind, job.source, job.options])), unicode_errors="surrogatepass"
            )
        except OutOfTime as limit:
            message = f"compiling this takes more than {limit}: {shown}"
            self._finish(job, GrammarTooLarge(message), 0, "timed_out")
            return
        except Died:
            message = f"compiling this took the compiler down, most likely out of memory: {shown}"
            self._finish(job, GrammarTooLarge(message), 0, "crashed")
            return
        if done:
            (data,) = rest
            self._finish(job, _grammar(job, data), len(data), "compiled")
            if disk is not None:
                disk.put(job.key, data)
        else:
            name, message, path, lasting = rest
            if not lasting:
                worker.stop()  # it ends itself, but not at once
            self._finish(job, _error(name, message, path), len(message), "refused" if lasting else "crashed")

    def _compile_here(self, job: _Job) -> None:
        try:
            grammar = compile_grammar(job.kind, job.source, job.options)
        except GrammarError as error:
            self._finish(job, error, 0, "refused")
        except BaseException as error:
            self._finish(job, error, 0, "crashed")
            raise
        else:
            self._finish(job, grammar, len(grammar.source), "at_once")

    def _finish(self, job: _Job, outcome: Grammar | BaseException, size: int, counted: str) -> None:
        """Tell all who wait, and remember a grammar or a refusal."""
        if isinstance(outcome, Grammar) or (counted == "refused" and isinstance(outcome, GrammarError)):
            self._kept.put(job.key, outcome, (_LEARNED if isinstance(outcome, Grammar) else 1000) + _WEIGHT * size)
        with self._lock:
            self._count(counted)
            open_ = self._jobs.pop(job.key, None) is not None  # or `close` has told them already
            waiting = list(job.waiting) if open_ else []
        _settle(waiting, outcome)

    def _count(self, name: str) -> None:
        self._statistics = replace(self._statistics, **{name: getattr(self._statistics, name) + 1})


def _as_data(kind: str, source: Any, options: dict[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    """The request in a form that travels: a type as its schema, choices as a list."""
    if kind == "from_type":
        from .python_types import schema_of  # pydantic takes long to load, and only types need it

        return "json_schema", schema_of(source), options
    return kind, list(source) if isinstance(source, tuple) else source, options


def _key(kind: str, source: Any, options: Mapping[str, Any]) -> str:
    try:
        text = json.dumps([kind, source, sorted(options.items())])
    except (TypeError, ValueError, RecursionError) as error:
        raise GrammarError(f"{kind}: this cannot be written as JSON: {error}") from None
    return hashlib.sha256(text.encode()).hexdigest()


def _is_small(kind: str, source: Any) -> bool:
    if kind == "regex":
        return isinstance(source, str) and len(source) <= AT_ONCE and "(?" not in source
    if kind == "choices" and isinstance(source, list):
        return len(source) <= 100 and all(isinstance(one, str) and len(one) <= AT_ONCE // 20 for one in source)
    return False


def _grammar(job: _Job, data: bytes) -> Grammar:
    source = job.source if isinstance(job.source, str) else json.dumps(job.source)
    return Grammar(decode(data), job.kind, source, job.options)


def _error(name: str, message: str, path: str) -> Exception:
    if name == RequestFailed.__name__:
        return RequestFailed(message)
    error = GrammarTooLarge(message) if name == GrammarTooLarge.__name__ else GrammarError(message)
    error.path = path  # the message has it already
    return error


def _settle(waiting: list[Future[Grammar]], outcome: Grammar | BaseException) -> None:
    for future in waiting:
        if not future.set_running_or_notify_cancel():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(copy.copy(outcome))  # raising the same one again and again makes its traceback grow
        else:
            future.set_result(outcome)
