"""Anthropic and LiteLLM over stand-ins with the shapes of the real packages; what VertexAI advises."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import ramify as sgl
from ramify.errors import BackendError
from ramify.lang.backends.anthropic import Anthropic
from ramify.lang.backends.base import BackendStream, GenerateCall
from ramify.lang.backends.litellm import LiteLLM
from ramify.lang.sampling import Constraint, Sampling

from .conftest import waited
from .servers import next_text

LINE = Sampling(max_new_tokens=40, stop="B")


def weather(city: str) -> str:
    """The weather somewhere."""
    return city


def asking(backend: Any, start: str = "") -> BackendStream:
    stream = backend.stream()
    for role, content in (("system", "Be kind"), ("user", "Name:")):
        stream.start_role(role)
        stream.append(content)
        stream.end_role(role)
    stream.start_role("assistant")
    stream.append(start)
    return stream


def generate(stream: BackendStream, sampling: Sampling = LINE, **call: Any) -> Any:
    heard: list[str] = []
    made = GenerateCall(sampling, stream=True, **call)
    outcome = waited(lambda done: stream.generate(made, done, heard.append))
    assert "".join(heard) in ("", outcome.texts[0])
    return outcome


class Messages:
    """anthropic.AsyncAnthropic().messages, over the story."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def create(self, **body: Any) -> Any:
        self.asked.append(body)
        prompt = "|".join(message["content"] for message in body["messages"])
        text, reason = next_text(prompt, body["max_tokens"], body.get("stop_sequences", []))
        stop = body["stop_sequences"][0] if reason == "stop" and body.get("stop_sequences") else None
        content: list[Any] = [SimpleNamespace(type="text", text=text)]
        if tools := body.get("tools"):
            properties = tools[0]["input_schema"]["properties"]
            values = {name: (schema.get("enum") or ["Rome"])[-1] for name, schema in properties.items()}
            content = [SimpleNamespace(type="tool_use", name=tools[0]["name"], input=values)]
        reason = (
            "tool_use" if tools else "stop_sequence" if stop else {"stop": "end_turn", "length": "max_tokens"}[reason]
        )
        usage = SimpleNamespace(input_tokens=3, output_tokens=4)
        return SimpleNamespace(content=content, stop_reason=reason, stop_sequence=stop, usage=usage)

    def stream(self, **body: Any) -> Any:
        messages = self

        class Streaming:
            async def __aenter__(self) -> Any:
                self.message = await messages.create(**body)
                return self

            async def __aexit__(self, *_: object) -> None:
                pass

            @property
            async def text_stream(self) -> AsyncIterator[str]:
                for character in self.message.content[0].text:
                    yield character

            async def get_final_message(self) -> Any:
                return self.message

        return Streaming()


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Messages:
    made = Messages()

    class AsyncAnthropic:
        def __init__(self, **given: Any) -> None:
            assert given == {"api_key": "k"}
            self.messages = made

        async def close(self) -> None:
            pass

    package = ModuleType("anthropic")
    package.AsyncAnthropic = AsyncAnthropic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "anthropic", package)
    return made


def test_anthropic(messages: Messages) -> None:
    backend = Anthropic("claude", api_key="k")
    outcome = generate(asking(backend))
    assert outcome.texts == (" Ada\n",) and outcome.metas[0]["finish_reason"] == {"type": "stop", "matched": "B"}
    assert messages.asked == [
        {
            "model": "claude", "system": "Be kind", "messages": [{"role": "user", "content": "Name:"}],
            "max_tokens": 40, "stop_sequences": ["B"],
        }
    ]  # fmt: skip
    assert generate(asking(backend), Sampling(max_new_tokens=2)).metas[0]["finish_reason"]["type"] == "length"
    assert generate(asking(backend), Sampling(n=2, stop="B")).texts == (" Ada\n", " Ada\n")
    generate(asking(backend), Sampling(temperature=0.0, top_p=0.5, top_k=3))
    assert messages.asked[-1]["extra_body"] == {"temperature": 0.0, "top_p": 0.5, "top_k": 3}
    backend.close()


def test_anthropic_stops_at_white_space_and_goes_on_within_a_turn(messages: Messages) -> None:
    backend = Anthropic("claude", api_key="k")
    outcome = generate(asking(backend), Sampling(max_new_tokens=40, stop="\n"))
    assert outcome.texts == (" Ada",) and outcome.metas[0]["finish_reason"] == {"type": "stop", "matched": "\n"}
    assert "stop_sequences" not in messages.asked[-1], "the API refuses stops of white space alone"
    outcome = generate(asking(backend, " Ada\nBorn: "), Sampling(max_new_tokens=40, stop="D"))
    assert outcome.texts == ("1815\n",)
    assert messages.asked[-1]["messages"][-1] == {"role": "assistant", "content": " Ada\nBorn:"}
    backend.close()


def test_anthropic_schemas_tools_and_selects(messages: Messages) -> None:
    backend = Anthropic("claude", api_key="k")
    schema = {"type": "object", "properties": {"a": {"enum": ["q"]}}}
    assert generate(asking(backend), constraint=Constraint("json_schema", schema)).texts == ('{"a": "q"}',)
    assert generate(asking(backend), constraint=Constraint("choices", ("u", "v"))).texts == ("v",)
    outcome = generate(asking(backend), tools=(weather,))
    assert outcome.tool_calls == (("weather", {"city": "Rome"}),)
    assert json.loads(outcome.texts[0]) == {"name": "weather", "arguments": {"city": "Rome"}}
    stream = asking(backend)
    assert waited(lambda done: stream.choose(("yes", " no"), done)).texts == (" no",)
    for bad in (GenerateCall(Sampling(), Constraint("regex", "a")), GenerateCall(Sampling(seed=1))):
        error = waited(lambda done, call=bad: asking(backend).generate(call, done), error=True)
        assert isinstance(error, BackendError) and "Anthropic's API" in str(error)
    backend.close()


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What litellm.acompletion was asked."""
    asked: list[dict[str, Any]] = []

    async def acompletion(**body: Any) -> Any:
        asked.append(body)
        text, reason = next_text(body["messages"][-1]["content"], body.get("max_tokens", 99), body.get("stop", []))
        if body.get("response_format"):
            if body["model"] == "plain":
                raise type("BadRequestError", (Exception,), {"status_code": 400})("no response_format here")
            text = json.dumps({"choice": "no"})
        if body.get("stream"):
            return _chunks(text, reason)
        message = {"content": text}
        if body.get("tools"):
            message["tool_calls"] = [{"function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]  # type: ignore
        dumped = {"choices": [{"message": message, "finish_reason": reason}], "usage": {"completion_tokens": len(text)}}
        return SimpleNamespace(model_dump=lambda: dumped)

    package = ModuleType("litellm")
    package.acompletion = acompletion  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litellm", package)
    return asked


async def _chunks(text: str, reason: str) -> AsyncIterator[Any]:
    for character in text:
        dumped = {"choices": [{"delta": {"content": character}}]}
        yield SimpleNamespace(model_dump=lambda dumped=dumped: dumped)
    yield SimpleNamespace(model_dump=lambda: {"choices": [{"delta": {}, "finish_reason": reason}]})


def test_litellm(litellm: list[dict[str, Any]]) -> None:
    backend = LiteLLM("x/m", api_key="k", max_retries=2, default_headers={"a": "b"})
    outcome = generate(asking(backend))
    assert outcome.texts == (" Ada\n",) and outcome.metas[0]["finish_reason"]["type"] == "stop"
    assert litellm[0]["num_retries"] == 2 and litellm[0]["extra_headers"] == {"a": "b"} and litellm[0]["api_key"] == "k"
    assert generate(asking(backend), tools=(weather,)).tool_calls == (("weather", {"city": "Rome"}),)
    stream = asking(backend)
    assert waited(lambda done: stream.choose(("yes", "no"), done)).texts == ("no",)
    started = asking(backend, "It is")
    error = waited(lambda done: started.generate(GenerateCall(LINE), done), error=True)
    assert "within an assistant's turn" in str(error)
    plain = LiteLLM("plain")
    stream = asking(plain)
    error = waited(lambda done: stream.choose(("yes", "no"), done), error=True)
    assert "none of the options" in str(error), "asked plainly, the story goes on instead"
    assert len(litellm) == 5
    backend.close()
    plain.close()


def test_without_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(BackendError, match="pip install anthropic"):
        Anthropic("claude")
    with pytest.raises(BackendError, match="pip install litellm"):
        LiteLLM("x/m")


def test_vertexai_names_the_way() -> None:
    with pytest.raises(BackendError, match="vertex_ai/gemini-x"):
        sgl.VertexAI("gemini-x")
