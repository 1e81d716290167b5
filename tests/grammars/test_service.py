"""The compile service: once for equal requests, bounded in time, memory and what it keeps, whatever comes in."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path

import pytest
from ramify.errors import EngineClosed, GrammarError, GrammarTooLarge, RequestFailed
from ramify.grammars import CompileService, Grammar, regex
from ramify.grammars.cache import DiskCache, MemoryCache

from .bytewise import accepts

SLOW = "(?:)" + "|".join(f"{i}x{i}" for i in range(4_000))  # a second or so


@pytest.fixture(scope="module")
def service() -> Iterator[CompileService]:
    with CompileService() as made:
        yield made


def test_every_kind_comes_back(service: CompileService) -> None:
    futures = {
        "1": service.submit("json_schema", {"type": "integer"}),
        "[1, null]": service.submit("json_value"),
        "aab": service.submit("ebnf", 'root ::= "a" root | "b"'),
        "x": service.submit("lark", 'start: "x"'),
        "yes": service.submit("choices", ("yes", "no")),
        "ab": service.submit("regex", "(?=a)a?b"),
        "free": service.submit("structural_tag", {"format": {"type": "any_text"}}),
        '{"a": 1}': service.submit("from_type", dict[str, int]),
        "z": service.submit("grammar", regex("z")),
        "[1,2]": service.submit("json_schema", {"type": "array"}, {"whitespace": "compact"}),
    }
    for text, future in futures.items():
        assert accepts(future.result(60), text), text


def test_refusals_are_remembered(service: CompileService) -> None:
    for _ in range(3):
        with pytest.raises(GrammarError, match="back-reference") as refusal:
            service.submit("regex", r"(?:a)(b)\1").result(60)
        assert refusal.value.path == "offset 8"
    before = service.statistics
    with pytest.raises(GrammarError):
        service.submit("regex", r"(?:a)(b)\1").result(60)
    assert service.statistics.refused == before.refused and service.statistics.from_memory == before.from_memory + 1
    with pytest.raises(GrammarError, match="no kind"):
        service.submit("poem", "roses").result(60)
    with pytest.raises(GrammarError, match="no option"):
        service.submit("regex", "(?:a)", {"color": "red"}).result(60)
    with pytest.raises(GrammarError, match="JSON"):
        service.submit("json_schema", {"const": object()}).result(60)


def test_a_hundred_equal_requests_are_compiled_once() -> None:
    with CompileService(time_limit=60) as service:
        futures: list[Future[Grammar]] = []
        threads = [threading.Thread(target=lambda: futures.append(service.submit("regex", SLOW))) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(future.result(60)) for future in futures}) == 1
        assert service.statistics.compiled == 1
        assert service.statistics.joined + service.statistics.from_memory == 99


def test_a_cancelled_request_takes_nobody_with_it() -> None:
    with CompileService(time_limit=60) as service:
        first, second = service.submit("regex", SLOW), service.submit("regex", SLOW)
        first.cancel()
        assert accepts(second.result(60), "7x7")


def test_out_of_time_is_refused_and_not_remembered() -> None:
    with CompileService(time_limit=0.02) as service:
        assert accepts(service.submit("regex", "(?:a)").result(60), "a")  # the start of a worker does not count
        for round_ in (1, 2):
            with pytest.raises(GrammarTooLarge, match=r"more than 0\.02 seconds of processor time"):
                service.submit("regex", SLOW).result(60)
            assert service.statistics.timed_out == round_
        service.time_limit = 60
        for worker in service._workers:
            worker.time_limit = 60
        assert accepts(service.submit("regex", SLOW).result(60), "39x39")


def test_time_that_others_take_does_not_count() -> None:
    with CompileService(time_limit=1) as service:
        service.submit("regex", "(?:a)").result(60)
        process = service._workers[0]._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        future = service.submit("regex", "(?:b)")
        with pytest.raises(TimeoutError):
            future.result(1.5)
        process.send_signal(signal.SIGCONT)
        assert accepts(future.result(60), "b")


def test_a_worker_that_does_nothing_at_all_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramify.grammars.worker_process.PATIENCE", 1)
    with CompileService(time_limit=0.2) as service:
        service.submit("regex", "(?:a)").result(60)
        process = service._workers[0]._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(GrammarTooLarge, match=r"more than 0\.2 seconds: "):
            service.submit("regex", "(?:b)").result(60)


def test_out_of_memory_is_refused_and_the_next_request_is_served() -> None:
    with CompileService(memory_limit=150 << 20, time_limit=60) as service:
        large = {"enum": [f"{i}-" * 20 for i in range(20_000)]}
        with pytest.raises(GrammarTooLarge, match="memory"):
            service.submit("json_schema", large).result(60)
        assert service.statistics.crashed == 1
        assert accepts(service.submit("json_schema", {"type": "null"}).result(60), "null")


def test_a_killed_worker_is_replaced() -> None:
    with CompileService(time_limit=60) as service:
        service.submit("regex", "(?:a)").result(60)
        (worker,) = service._workers
        assert worker._process is not None
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
        assert accepts(service.submit("regex", "(?:b)").result(60), "b")


def test_a_worker_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    small = CompileService(memory_limit=30 << 20)  # too little for Python's own modules
    with small, pytest.raises(RequestFailed, match=r"does not start: .*Error"):
        small.submit("json_schema", {"type": "null"}).result(60)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with CompileService() as service:
        for _ in range(2):  # it may be there another time
            with pytest.raises(RequestFailed, match=r"does not start: .*No such file"):
                service.submit("json_schema", {"type": "null"}).result(60)
        monkeypatch.undo()
        assert accepts(service.submit("json_schema", {"type": "null"}).result(60), "null")


def test_a_users_module_with_the_name_of_pythons_own_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("types", "enum", "msgpack", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('the wrong one')")
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])  # as for a script in that folder
    with CompileService() as service:
        assert accepts(service.submit("json_schema", {"type": "null"}).result(60), "null")


def test_a_worker_that_hangs_at_its_start_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramify.grammars.worker_process.START_LIMIT", 0.01)
    with CompileService() as service, pytest.raises(RequestFailed, match=r"does not start within 0\.01 seconds"):
        service.submit("json_schema", {"type": "null"}).result(60)


def test_closing_ends_what_waits() -> None:
    service = CompileService(time_limit=60)
    futures = [service.submit("regex", SLOW + f"|{i}") for i in range(5)]
    service.close()
    wait(futures, 30)
    assert all(isinstance(future.exception(1), EngineClosed | GrammarTooLarge) for future in futures)
    with pytest.raises(EngineClosed):
        service.submit("regex", "a")
    service.close()


def test_what_is_small_needs_no_worker() -> None:
    with CompileService() as service:
        assert accepts(service.submit("regex", "[a-c]{2}").result(0), "ab")
        assert accepts(service.submit("choices", ["a", "b"]).result(0), "b")
        with pytest.raises(GrammarError):
            service.submit("regex", "(").result(0)
        assert service.statistics.at_once == 2 and service.statistics.refused == 1 and not service._threads


def test_the_disk_keeps_grammars_and_nothing_broken(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    with CompileService(disk=tmp_path) as service:
        service.submit("json_schema", schema).result(60)
    (file,) = tmp_path.glob("*.grammar")
    with CompileService(disk=tmp_path) as service:
        assert accepts(service.submit("json_schema", schema).result(60), '{"a": 1}')
        assert service.statistics.from_disk == 1 and service.statistics.compiled == 0
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with CompileService(disk=tmp_path) as service:
        assert accepts(service.submit("json_schema", schema).result(60), '{"a": 1}')
        assert service.statistics.from_disk == 0 and service.statistics.compiled == 1


def test_a_disk_that_fails_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = DiskCache(tmp_path / "file", 1000)
    cache.put("key", b"value")
    assert cache.get("key") is None


def test_the_disk_is_bounded(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1000)
    for at in range(50):
        cache.put(str(at), bytes(68))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000
    assert cache.get("49") == bytes(68) and cache.get("0") is None
    cache.put("large", bytes(2000))
    assert cache.get("large") is None


def test_memory_keeps_what_was_used_last() -> None:
    cache: MemoryCache[str] = MemoryCache(100)
    for name in "abcde":
        cache.put(name, name, 25)
        cache.get("a")
    assert [cache.get(name) for name in "abcde"] == ["a", None, "c", "d", "e"]
    cache.put("c", "C", 90)
    assert cache.bytes == 90 and len(cache) == 1
    cache.put("f", "f", 101)
    assert cache.get("f") is None and cache.bytes == 90
    cache.clear()
    assert cache.bytes == 0


@pytest.mark.slow
def test_ten_thousand_schemas_leave_memory_flat() -> None:
    def submit(count: int, start: int) -> int:
        waiting = []
        for at in range(start, start + count):
            names = {f"name{at}_{i}": {"type": "string", "maxLength": at % 50 + 1} for i in range(3)}
            waiting.append(service.submit("json_schema", {"type": "object", "properties": names}))
            if len(waiting) == 50:
                for future in waiting:
                    future.result(120)
                waiting.clear()
        for future in waiting:
            future.result(120)
        return _resident()

    with CompileService(cache_bytes=8 << 20) as service:
        before = submit(3000, 0)
        after = submit(7000, 3000)
        assert service.statistics.compiled == 10_000
        assert service._kept.bytes <= 8 << 20
        assert after - before < 40 << 20, (before, after)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
