"""Requests to servers that may be slow, busy, broken or gone: what may pass is tried again, or a clear error."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import httpx

from ...errors import BackendError

MAX_BODY = 1 << 28  # bytes of one answer
MAX_LINE = 1 << 26  # bytes of one event
LONGEST_WAIT = 60.0  # seconds between two tries, whatever a server asks for
_MAY_PASS = frozenset((408, 425, 429, 500, 502, 503, 504, 529))


class HttpError(BackendError):
    """A server refused or failed. `status` is its answer's, None without one."""

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.may_pass = status in _MAY_PASS


class StreamCut(HttpError):
    """A stream of events ended without its [DONE]."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How patient a client is."""

    timeout: float = 600.0  # seconds without a byte
    connect_timeout: float = 10.0
    retries: int = 3  # after the first try
    backoff: float = 0.5  # seconds before the second try; doubled for each further one, with jitter
    connections: int = 256  # at once; further calls wait for their turn


class HttpClient:
    """JSON over HTTP to one base URL. All methods run on one event loop. An API key never appears in a message."""

    def __init__(
        self, base_url: str, headers: Mapping[str, str], settings: HttpSettings, *, verify: bool | str = True
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise BackendError(f"{base_url!r:.100} is no URL of a server: it must begin with http:// or https://")
        self.base_url = base_url.rstrip("/")
        self._settings = settings
        self._headers = dict(headers)
        self._verify: ssl.SSLContext | str | bool = verify if self.base_url.startswith("https://") else False
        # One connection each, the latest used first: what a pool of httpx costs a request grows with its connections.
        self._idle: list[httpx.AsyncClient] = []
        self._made: list[httpx.AsyncClient] = []
        self._turn: asyncio.Semaphore | None = None

    async def get(self, path: str, *, retries: int | None = None) -> Any:
        """A JSON document; None for an empty body."""
        return await self._json("GET", path, None, retries)

    async def post(self, path: str, body: Any, *, retries: int | None = None) -> Any:
        """A JSON answer; None for an empty body."""
        return await self._json("POST", path, body, retries)

    async def tell(self, path: str, body: Any) -> None:
        """Something to which the answer, of whatever kind, says nothing."""
        async with self._opened("POST", path, body) as response:
            await _read(response, MAX_BODY, self._where("POST", path))

    async def events(self, path: str, body: Any, *, retries: int | None = None) -> AsyncIterator[Any]:
        """The JSON of each server-sent event up to [DONE]. Tried again only while nothing has come.

        Raises StreamCut when the stream ends without [DONE], HttpError when it holds something else than JSON.
        """
        come = False
        for attempt in self._attempts(retries):
            try:
                async with self._opened("POST", path, body) as response:
                    async for data in _sse(response, self._where("POST", path)):
                        if data == "[DONE]":
                            return
                        come = True
                        yield _parsed(data, self._where("POST", path))
                cut = StreamCut(f"{self._where('POST', path)}: the stream ended in the middle of the answer")
                cut.may_pass = True
                raise cut
            except HttpError as error:
                if come or not await self._again(error, attempt, retries):
                    raise

    async def close(self) -> None:
        """Hang up everywhere."""
        made, self._made, self._idle = self._made, [], []
        for client in made:
            await client.aclose()

    # -- one try, and the next ------------------------------------------------------------------------------------

    async def _json(self, method: str, path: str, body: Any, retries: int | None) -> Any:
        for attempt in self._attempts(retries):
            try:
                async with self._opened(method, path, body) as response:
                    content = await _read(response, MAX_BODY, self._where(method, path))
                return _parsed(content, self._where(method, path)) if content.strip() else None
            except HttpError as error:
                if not await self._again(error, attempt, retries):
                    raise
        raise AssertionError("the last try returns or raises")

    def _attempts(self, retries: int | None) -> range:
        return range(1 + (self._settings.retries if retries is None else retries))

    async def _again(self, error: HttpError, attempt: int, retries: int | None) -> bool:
        """Whether to try again, after the wait that the server asked for or that is due."""
        if not error.may_pass or attempt + 1 >= len(self._attempts(retries)):
            if attempt:
                error.args = (f"{error.args[0]} (tried {attempt + 1} times)",)
            return False
        due = self._settings.backoff * 2**attempt * (0.5 + random.random())
        await asyncio.sleep(min(LONGEST_WAIT, max(due, error.retry_after or 0.0)))
        return True

    @asynccontextmanager
    async def _opened(self, method: str, path: str, body: Any) -> AsyncIterator[httpx.Response]:
        """An answer whose status is fine, not read yet. Everything that goes wrong is an HttpError."""
        where = self._where(method, path)
        if self._turn is None:
            self._turn = asyncio.Semaphore(self._settings.connections)
        content = None if body is None else json.dumps(body).encode()
        async with self._turn:
            client = self._idle.pop() if self._idle else self._new()
            try:
                async with client.stream(method, self.base_url + path, content=content) as response:
                    if response.status_code >= 300:  # a redirect is not followed: it could lead anywhere
                        raise await _refusal(response, where)
                    yield response
            except httpx.TimeoutException as error:
                connecting = isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
                seconds = self._settings.connect_timeout if connecting else self._settings.timeout
                failed = HttpError(
                    f"{where}: no answer within {seconds:g} s; is the server there, or is it overloaded?"
                )
                failed.may_pass = connecting
                raise failed from error
            except (httpx.TransportError, httpx.StreamError) as error:
                failed = HttpError(f"{where}: {_spelled(error)}")
                failed.may_pass = isinstance(error, httpx.TransportError) and not isinstance(
                    error, httpx.UnsupportedProtocol | httpx.LocalProtocolError
                )
                raise failed from error
            finally:
                self._idle.append(client)

    def _new(self) -> httpx.AsyncClient:
        if isinstance(self._verify, bool) and self.base_url.startswith("https://"):
            self._verify = httpx.create_ssl_context(verify=self._verify)  # costs milliseconds: made once for all
        settings = self._settings
        client = httpx.AsyncClient(
            headers={"content-type": "application/json", **self._headers},
            timeout=httpx.Timeout(settings.timeout, connect=settings.connect_timeout, pool=None),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            verify=self._verify,
        )
        self._made.append(client)
        return client

    def _where(self, method: str, path: str) -> str:
        return f"{method} {self.base_url}{path}"


async def _read(response: httpx.Response, most: int, where: str) -> bytes:
    pieces, size = [], 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > most:
            raise HttpError(f"{where}: an answer of more than {most >> 20} MiB")
        pieces.append(piece)
    return b"".join(pieces)


async def _sse(response: httpx.Response, where: str) -> AsyncIterator[str]:
    """The data of each event; several data lines of one event are joined, as the format says."""
    data: list[str] = []
    async for line in _lines(response, where):
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


async def _lines(response: httpx.Response, where: str) -> AsyncIterator[str]:
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode(errors="replace")
        if len(rest) > MAX_LINE:
            raise HttpError(f"{where}: a line of more than {MAX_LINE >> 20} MiB")
    if rest:
        yield rest.decode(errors="replace")


def _parsed(content: bytes | str, where: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        text = content.decode(errors="replace") if isinstance(content, bytes) else content
        raise HttpError(f"{where}: the answer is no JSON, it begins {text[:120]!r}") from None


async def _refusal(response: httpx.Response, where: str) -> HttpError:
    body = (await _read(response, 1 << 20, where)).decode(errors="replace")
    status = f"{response.status_code} {response.reason_phrase}".strip()
    hint = {
        401: "; is the api_key right?",
        403: "; is the api_key right?",
        404: "; is this the right base_url and model?",
    }.get(response.status_code, "")
    return HttpError(f"{where}: {status}: {_message(body)}{hint}", response.status_code, _retry_after(response.headers))


def _message(body: str) -> str:
    """What a refusal says, wherever servers put it."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return body.strip()[:300] or "no reason given"
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return (found if isinstance(found, str) else json.dumps(found))[:300]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time())
        except (TypeError, ValueError):
            return None


def _spelled(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError):
        return f"no connection ({error}); is the server running?"
    return f"the connection broke ({type(error).__name__}: {error})"
