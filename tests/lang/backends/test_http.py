"""HTTP to servers that are slow, busy, broken or gone: what is tried again, what is not, and what is said."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ramify.errors import BackendError
from ramify.lang.backends.http import HttpClient, HttpError, HttpSettings, StreamCut
from ramify.lang.backends.loop_thread import LoopThread

from .servers import Handler, serving

QUICK = HttpSettings(timeout=5.0, connect_timeout=2.0, retries=2, backoff=0.01)


def post(url: str, settings: HttpSettings = QUICK, *, retries: int | None = None) -> Any:
    async def work() -> Any:
        client = HttpClient(url, {"authorization": "Bearer secret-key"}, settings)
        try:
            return await client.post("/x", {"a": 1}, retries=retries)
        finally:
            await client.close()

    return asyncio.run(work())


def events(url: str, settings: HttpSettings = QUICK) -> tuple[list[Any], Exception | None]:
    async def work() -> tuple[list[Any], Exception | None]:
        client, seen = HttpClient(url, {}, settings), []
        try:
            async for event in client.events("/x", {}):
                seen.append(event)  # noqa: PERF401 - what came before an error counts
        except HttpError as error:
            return seen, error
        finally:
            await client.close()
        return seen, None

    return asyncio.run(work())


def failing_first(failures: int, fail: Callable[[Handler], None]) -> Callable[[Handler, str, Any], None]:
    """Fails so many times, then answers."""

    def answer(handler: Handler, path: str, body: Any) -> None:
        if len(handler.state.asked) <= failures:
            fail(handler)
        else:
            handler.json({"ok": len(handler.state.asked)})

    return answer


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    with serving(failing_first(2, lambda handler: handler.json({"error": "busy"}, status))) as server:
        assert post(server.url) == {"ok": 3}


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 501])
def test_what_will_not_pass_is_not(status: int) -> None:
    with serving(failing_first(1, lambda handler: handler.json({"error": {"message": "never"}}, status))) as server:
        with pytest.raises(HttpError, match="never") as caught:
            post(server.url)
        assert caught.value.status == status
        assert len(server.asked) == 1


def test_retries_end() -> None:
    with serving(failing_first(99, lambda handler: handler.json({"detail": "busy"}, 503))) as server:
        with pytest.raises(HttpError, match=r"503.*busy.*tried 3 times"):
            post(server.url)
        assert len(server.asked) == 3


def test_a_call_says_how_many_retries() -> None:
    with serving(failing_first(99, lambda handler: handler.json({}, 503))) as server:
        with pytest.raises(HttpError):
            post(server.url, retries=0)
        assert len(server.asked) == 1


def test_the_wait_that_a_server_asks_for_is_kept() -> None:
    with serving(failing_first(1, lambda handler: handler.json({}, 429, retry_after="0.3"))) as server:
        began = time.monotonic()
        post(server.url)
        assert time.monotonic() - began >= 0.3


def test_a_connection_that_breaks_is_tried_again() -> None:
    with serving(failing_first(1, lambda handler: handler.drop())) as server:
        assert post(server.url) == {"ok": 2}


def test_a_server_that_always_breaks() -> None:
    with (
        serving(failing_first(99, lambda handler: handler.drop())) as server,
        pytest.raises(HttpError, match="connection broke"),
    ):
        post(server.url)


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(HttpError, match="is the server running"):
        post(f"http://127.0.0.1:{port}")


def test_a_slow_server_is_given_up_and_not_asked_again() -> None:
    release = threading.Event()

    def slow(handler: Handler, path: str, body: Any) -> None:
        release.wait(10)
        handler.json({})

    with serving(slow) as server:
        with pytest.raises(HttpError, match=r"no answer within 0\.2 s"):
            post(server.url, HttpSettings(timeout=0.2, retries=2, backoff=0.01))
        assert len(server.asked) == 1
        release.set()


@pytest.mark.parametrize("content", [b"<html>", b'{"a": ', b"[" * 100_000])
def test_no_json(content: bytes) -> None:
    with serving(lambda handler, path, body: handler.raw(content)) as server:
        with pytest.raises(HttpError, match="no JSON"):
            post(server.url)
        assert len(server.asked) == 1


def test_a_key_is_sent_and_never_shown() -> None:
    with serving(lambda handler, path, body: handler.json({"error": "wrong key"}, 401)) as server:
        with pytest.raises(HttpError, match="is the api_key right") as caught:
            post(server.url)
        assert server.headers[0]["authorization"] == "Bearer secret-key"
        assert "secret" not in str(caught.value)


def test_no_url() -> None:
    with pytest.raises(BackendError, match="no URL"):
        HttpClient("localhost:3000", {}, QUICK)


def test_events() -> None:
    def answer(handler: Handler, path: str, body: Any) -> None:
        handler.start_events()
        handler.wfile.write(b": a comment\r\n\r\ndata: 1\r\n\r\n")
        handler.event({"two": "ä\u2028"})
        handler.wfile.write(b"event: x\ndata: [3,\ndata: 4]\n\n")
        handler.event("[DONE]")
        handler.event("never read")

    with serving(answer) as server:
        assert events(server.url) == ([1, {"two": "ä\u2028"}, [3, 4]], None)


def test_a_stream_that_is_cut_is_an_error_and_not_asked_again() -> None:
    def answer(handler: Handler, path: str, body: Any) -> None:
        handler.start_events()
        handler.event(1)

    with serving(answer) as server:
        seen, error = events(server.url)
        assert seen == [1] and isinstance(error, StreamCut)
        assert len(server.asked) == 1, "what was heard is not said twice"


def test_a_stream_that_never_begins_is_asked_again() -> None:
    def answer(handler: Handler, path: str, body: Any) -> None:
        handler.start_events()
        if len(handler.state.asked) > 1:
            handler.event("[DONE]")

    with serving(answer) as server:
        assert events(server.url) == ([], None)
        assert len(server.asked) == 2


def test_cancelling_hangs_up() -> None:
    def endless(handler: Handler, path: str, body: Any) -> None:
        handler.start_events()
        while True:
            handler.event("1" * 1000)
            time.sleep(0.001)

    with serving(endless) as server:
        began, ended = threading.Event(), threading.Event()
        client = HttpClient(server.url, {}, QUICK)

        async def work() -> None:
            async for _ in client.events("/x", {}):
                began.set()

        loop = LoopThread("test")
        outcomes: list[object] = []
        cancel = loop.start(work(), lambda outcome: (outcomes.append(outcome), ended.set()))
        assert began.wait(10)
        cancel()
        assert ended.wait(10) and server.hung_up.wait(10)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        loop.close()


def test_cancelling_at_once() -> None:
    loop, ended, outcomes = LoopThread("test"), threading.Event(), []
    cancel = loop.start(asyncio.sleep(60), lambda outcome: (outcomes.append(outcome), ended.set()))
    cancel()
    assert ended.wait(10) and isinstance(outcomes[0], asyncio.CancelledError)
    loop.close()
    cancel()


def test_a_closed_loop_refuses() -> None:
    loop = LoopThread("test")

    async def work() -> int:
        return 1

    assert loop.wait(work()) == 1
    loop.close()
    with pytest.raises(BackendError, match="closed"):
        loop.wait(work())
