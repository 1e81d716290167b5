"""HTTP servers for tests, on real sockets: one that behaves like SGLang, one like OpenAI's API, and broken ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler", str, Any], None]


@dataclass
class Server:
    """A running server: where it is, and what it was asked."""

    url: str
    asked: list[tuple[str, Any]] = field(default_factory=list)  # path and body
    headers: list[dict[str, str]] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)  # a client left in the middle of a stream

    def bodies(self, path: str) -> list[Any]:
        return [body for asked, body in self.asked if asked == path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Answer
    state: Server

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        self._serve(json.loads(content) if content else None)

    def _serve(self, body: Any) -> None:
        self.state.asked.append((self.path, body))
        self.state.headers.append({name.lower(): value for name, value in self.headers.items()})
        try:
            type(self).answer(self, self.path, body)
        except (BrokenPipeError, ConnectionResetError):
            self.state.hung_up.set()
            self.close_connection = True

    # -- what answers are made of ----------------------------------------------------------------------------------

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.raw(json.dumps(value).encode(), status, **headers)

    def raw(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def start_events(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, value: Any) -> None:
        data = value if isinstance(value, str) else json.dumps(value)
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def drop(self, announced: int = 1000, sent: bytes = b'{"te') -> None:
        """Promise an answer, send its beginning, and hang up."""
        self.send_response(200)
        self.send_header("content-length", str(announced))
        self.end_headers()
        self.wfile.write(sent)
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512  # many may come at once


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    """A server on a free port, for as long as the block runs."""
    state = Server("")
    kind = type("Serving", (Handler,), {"answer": staticmethod(answer), "state": state})
    server = _Server(("127.0.0.1", 0), kind)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


# -- a model -------------------------------------------------------------------------------------------------------

STORY = (
    "Name: Ada\nBorn: 1815\nDied: 1852\nName: Alan\nBorn: 1912\nDied: 1954\nName: Grace\nBorn: 1906\nDied: 1992\n"
    "And so on, the end."
)


def next_text(prompt: str, most: int, stops: list[str]) -> tuple[str, str]:
    """A deterministic model whose tokens are characters: it knows one story by heart, and goes on with it.

    It goes on from the longest end of the prompt that is in the story, else begins it. Returns text and finish reason.
    """
    start = 0
    for length in range(min(40, len(prompt)), 0, -1):
        if (at := STORY.find(prompt[-length:])) >= 0:
            start = at + length
            break
    text = ""
    while True:
        for stop in stops:
            if stop and text.endswith(stop):
                return text[: -len(stop)], "stop"
        if start >= len(STORY):
            return text, "stop"
        if len(text) >= most:
            return text, "length"
        text += STORY[start]
        start += 1


def stops_of(body: dict[str, Any]) -> list[str]:
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else list(stop)


# -- SGLang --------------------------------------------------------------------------------------------------------


def sglang(handler: Handler, path: str, body: Any) -> None:
    """SGLang's wire, as far as its own client uses it. Its tokens are words with the space before them."""
    if path in ("/get_model_info", "/get_server_info", "/server_info"):
        handler.json({"model_path": "tests/story"})
    elif path == "/flush_cache":
        handler.raw(b"Cache flushed.\n")
    elif path == "/generate" and body.get("stream"):
        handler.start_events()
        whole = _sglang_one(body["text"], body)
        for end in range(1, len(whole["text"]) + 1):
            handler.event({"text": whole["text"][:end], "meta_info": whole["meta_info"]})
        handler.event("[DONE]")
    elif path == "/generate":
        prompts = body["text"] if "text" in body else [_spelled(ids) for ids in body["input_ids"]]
        count = body["sampling_params"].get("n", 1)
        one = isinstance(prompts, str) and count == 1
        listed = [prompts] * count if isinstance(prompts, str) else prompts
        answers = [_sglang_one(prompt, body) for prompt in listed]
        handler.json(answers[0] if one else answers)
    else:
        handler.json({"error": {"message": f"no such path {path}"}}, 404)


def words(text: str) -> list[str]:
    """The tokens of the server: words with one space before them."""
    found = [""]
    for character in text:
        if character == " ":
            found.append("")
        found[-1] += character
    return [word for word in found if word]


IDS: dict[str, int] = {}


def word_id(word: str) -> int:
    return IDS.setdefault(word, len(IDS))


def word_logprob(before: str, word: str) -> float:
    """What the model thinks of a word: likes what the story says next."""
    return -0.5 if (before[-12:] + word) in STORY else -3.0 - len(word) / 10


def _spelled(ids: list[int]) -> str:
    by_id = {number: word for word, number in IDS.items()}
    return "".join(by_id[number] for number in ids)


def _sglang_one(prompt: str, body: dict[str, Any]) -> dict[str, Any]:
    sampling = body["sampling_params"]
    text, reason = next_text(prompt, sampling.get("max_new_tokens", 128), stops_of(sampling))
    finish = {"type": "stop", "matched": None} if reason == "stop" else {"type": "length", "length": len(text)}
    tokens = words(prompt)
    meta: dict[str, Any] = {
        "prompt_tokens": len(tokens), "completion_tokens": len(text), "cached_tokens": 3, "finish_reason": finish,
    }  # fmt: skip
    if body.get("return_logprob"):
        start = body.get("logprob_start_len", -1)
        rows, before = [], ""
        for position, token in enumerate(tokens):
            if 0 <= start <= position:
                told = word_logprob(before, token) if position > start else None
                rows.append([told, word_id(token), token if body.get("return_text_in_logprobs") else None])
            before += token
        meta |= {"input_token_logprobs": rows, "output_token_logprobs": []}
    return {"text": text, "meta_info": meta}


# -- OpenAI --------------------------------------------------------------------------------------------------------


def openai(handler: Handler, path: str, body: Any) -> None:
    """The chat and completion APIs over the same model. Goes on with an assistant's message that comes last."""
    chat = path.endswith("/chat/completions")
    if not chat and not path.endswith("/completions"):
        handler.json({"error": {"message": f"no such path {path}"}}, 404)
        return
    prompts = [chat_prompt(body["messages"])] if chat else body["prompt"]
    listed = [prompts] if isinstance(prompts, str) else prompts
    if body.get("stream"):
        _openai_stream(handler, body, listed[0], chat)
        return
    choices = []
    for prompt in listed:
        for _ in range(body.get("n", 1)):
            choices.append(_openai_choice(body, prompt, chat, len(choices)))
    usage = {"prompt_tokens": 7, "completion_tokens": sum(choice.pop("size") for choice in choices)}
    usage |= {"prompt_tokens_details": {"cached_tokens": 2}}  # type: ignore[dict-item]
    handler.json({"choices": choices, "usage": usage})


def chat_prompt(messages: list[dict[str, Any]]) -> str:
    return "|".join(str(message["content"]) for message in messages)


def _openai_choice(body: dict[str, Any], prompt: str, chat: bool, index: int) -> dict[str, Any]:
    most = body.get("max_tokens", body.get("max_completion_tokens", 128))
    text, reason = next_text(prompt, most, stops_of(body))
    wanted = body.get("response_format")
    if wanted:
        schema = wanted["json_schema"]["schema"]
        options = schema["properties"].get("choice", {}).get("enum", ["x"])
        text, reason = json.dumps({"choice": options[-1]}), "stop"
    choice: dict[str, Any] = {"index": index, "finish_reason": reason, "size": len(text)}
    if body.get("tools"):
        call = {"function": {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Rome"}'}}
        return choice | {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    if body.get("echo"):
        before, tokens = "", words(prompt + " x")
        logprobs: list[float | None] = []
        for token in tokens:
            logprobs.append(word_logprob(before, token) if before else None)
            before += token
        return choice | {"text": prompt + " x", "logprobs": {"tokens": tokens, "token_logprobs": logprobs}}
    if chat:
        content = [{"token": character, "logprob": -0.1, "top_logprobs": []} for character in text]
        logprobs_field = {"logprobs": {"content": content}} if body.get("logprobs") else {}
        return choice | {"message": {"role": "assistant", "content": text}} | logprobs_field
    return choice | {"text": text}


def _openai_stream(handler: Handler, body: dict[str, Any], prompt: str, chat: bool) -> None:
    handler.start_events()
    choice = _openai_choice(body, prompt, chat, 0)
    text = choice["message"]["content"] if chat else choice["text"]
    for start in range(0, len(text), 3):
        piece = text[start : start + 3]
        handler.event({"choices": [{"index": 0, "delta": {"content": piece}} if chat else {"index": 0, "text": piece}]})
    handler.event({"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    handler.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(text)}})
    handler.event("[DONE]")
