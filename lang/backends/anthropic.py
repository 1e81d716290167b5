"""Programs on Anthropic's models, through the `anthropic` package where it is installed."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...errors import BackendError
from ..nodes import Media
from ..sampling import Sampling
from ..tools import tools_of
from .api import ApiBackend, Heard
from .base import GenerateCall, Outcome
from .endpoint_wire import unpacked
from .meta import aborted, cut, meta_info, stopped
from .openai_messages import conversation, image_url
from .openai_select import chosen_by_answer
from .openai_wire import choice_schema
from .speculation import first_stop
from .transcript import Transcript

_ANSWER = "answer"  # the tool by which a schema is held
_UNKNOWN: Mapping[str, tuple[Any, ...]] = {  # what the API has no field for, and what is neutral
    "min_new_tokens": (0,),
    "min_p": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "stop_token_ids": ((),),
    "stop_regex": ((),),
    "seed": (),
    "ignore_eos": (False,),
    "return_logprob": (False,),
    "top_logprobs_num": (0,),
}


class Anthropic(ApiBackend):
    """A model of Anthropic's: `Anthropic("claude-...")`; keywords (api_key, timeout ...) go to their client.

    Raises BackendError where the package is not installed. A gen may follow a constant within an assistant's turn.
    """

    name = "anthropic"
    speculates = True

    def __init__(self, model_name: str, **client: Any) -> None:
        super().__init__()
        try:
            package = importlib.import_module("anthropic")
        except ImportError:
            raise BackendError("Anthropic needs its package: pip install anthropic") from None
        self.model_name = model_name
        try:
            self._client = package.AsyncAnthropic(**client)
        except Exception as error:
            raise BackendError(f"Anthropic: the client could not be made: {error}") from error
        self.loop.at_end(self._client.close)

    async def complete(self, said: Transcript, call: GenerateCall, heard: Heard | None) -> Outcome:
        messages, started = conversation(said)
        spaces = started[len(started.rstrip()) :]
        if started.strip():  # the API refuses spaces at the end, and the model brings its own
            messages.append({"role": "assistant", "content": started.rstrip()})
        stops = _blank_stops(call.sampling)
        if not spaces and not stops:
            return await self._ask(messages, call, heard)
        outcome = await self._ask(messages, call)
        ends = [_ended(text.removeprefix(spaces), stops) for text in outcome.texts]
        if heard is not None and ends[0][0]:
            heard(ends[0][0])
        metas = tuple(
            {**meta, "finish_reason": stopped(stop)} if stop is not None else meta
            for meta, (_, stop) in zip(outcome.metas, ends, strict=True)
        )
        return replace(outcome, texts=tuple(text for text, _ in ends), metas=metas)

    async def _ask(self, messages: list[dict[str, Any]], call: GenerateCall, heard: Heard | None = None) -> Outcome:
        body = self._body(messages, call)
        count = call.sampling.n or 1
        if heard is not None and count == 1 and "tools" not in body:
            async with self._client.messages.stream(**body) as stream:
                async for text in stream.text_stream:
                    heard(text)
                answers = [await stream.get_final_message()]
        else:
            answers = await asyncio.gather(*(self._client.messages.create(**body) for _ in range(count)))
        read = [_read(answer, call) for answer in answers]
        calls = tuple(made for _, _, made in read if made is not None) if call.tools else ()
        return Outcome(tuple(text for text, _, _ in read), tuple(meta for _, meta, _ in read), calls)

    def _body(self, messages: list[dict[str, Any]], call: GenerateCall) -> dict[str, Any]:
        system = [message["content"] for message in messages if message["role"] == "system"]
        if any(not isinstance(content, str) for content in system):
            raise BackendError("Anthropic: the system's words cannot hold images")
        turns = [
            {"role": message["role"], "content": _content(message["content"])}
            for message in messages
            if message["role"] != "system"
        ]
        if not turns:
            raise BackendError("Anthropic needs something to answer: say it in a role, s += sgl.user(...)")
        body: dict[str, Any] = {"model": self.model_name, "messages": turns} | _sampling(call.sampling)
        if system:
            body["system"] = "\n\n".join(system)
        if call.tools:
            described = [tool.described()["function"] for tool in tools_of(call.tools)]
            body["tools"] = [
                {"name": one["name"], "description": one["description"], "input_schema": one["parameters"]}
                for one in described
            ]
            body["tool_choice"] = {"type": "any"}
        elif call.constraint is not None:
            body["tools"] = [{"name": _ANSWER, "description": "Give the answer.", "input_schema": _schema(call)}]
            body["tool_choice"] = {"type": "tool", "name": _ANSWER}
        return body

    def chooses(self, said: Transcript) -> bool:
        return True

    async def choice(self, said: Transcript, options: tuple[str, ...]) -> Outcome:
        async def ask(messages: list[dict[str, Any]], call: GenerateCall) -> Outcome:
            return await self._ask(messages, replace(call, sampling=replace(call.sampling, temperature=None)))

        return await chosen_by_answer(ask, said, options)

    def check_media(self, media: Media) -> None:
        if media.kind != "image":
            raise self.cannot(f"take {media.kind}s")

    def server_info(self) -> Mapping[str, Any]:
        return {"backend": self.name, "model_path": self.model_name}


def _sampling(sampling: Sampling) -> dict[str, Any]:
    for name, neutral in _UNKNOWN.items():
        value = getattr(sampling, name)
        if value is not None and value not in neutral:
            raise BackendError(f"Anthropic's API has no {name}; leave it out, or run the program on another backend")
    body: dict[str, Any] = {"max_tokens": max(1, sampling.max_new_tokens or 1024)}
    beside: dict[str, Any] = {}  # newer packages know these no more, newer models refuse them, older ones take them
    if sampling.temperature is not None and sampling.temperature != 1:
        beside["temperature"] = min(1.0, sampling.temperature)
    if sampling.top_p is not None and sampling.top_p < 1:
        beside["top_p"] = sampling.top_p
    if sampling.top_k is not None and sampling.top_k > 0:
        beside["top_k"] = sampling.top_k
    if beside:
        body["extra_body"] = beside
    stops = (sampling.stop,) if isinstance(sampling.stop, str) else sampling.stop or ()
    if any(stop.strip() for stop in stops):
        body["stop_sequences"] = [stop for stop in stops if stop.strip()]
    return body


def _blank_stops(sampling: Sampling) -> tuple[str, ...]:
    """Stops of white space alone, which the API refuses: the text is cut there when it has come."""
    stops = (sampling.stop,) if isinstance(sampling.stop, str) else sampling.stop or ()
    return tuple(stop for stop in stops if not stop.strip())


def _ended(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    found = first_stop(text, stops)
    return (text, None) if found is None else (text[: found[0]], found[1])


def _schema(call: GenerateCall) -> Any:
    assert call.constraint is not None
    kind, source = unpacked(call.constraint)
    if kind == "choices":
        return choice_schema(source)
    if kind != "json_schema":
        raise BackendError(f"Anthropic's API cannot hold an answer to a {kind}; use json_schema, or another backend")
    return json.loads(source) if isinstance(source, str) else source


def _content(content: Any) -> Any:
    """OpenAI's parts as Anthropic's."""
    if isinstance(content, str):
        return content
    return [_image(part["image_url"]["url"]) if part["type"] == "image_url" else part for part in content]


def _image(url: str) -> dict[str, Any]:
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": image_url(url)}}
    kind, _, data = url[5:].partition(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _read(answer: Any, call: GenerateCall) -> tuple[str, dict[str, Any], tuple[str, Any] | None]:
    """Text, meta_info and tool call of one answer."""
    usage = {"prompt_tokens": answer.usage.input_tokens, "completion_tokens": answer.usage.output_tokens}
    reasons = {"end_turn": stopped(), "tool_use": stopped(), "max_tokens": cut(call.sampling.max_new_tokens or 1024)}
    if answer.stop_reason == "stop_sequence":
        finish = stopped(answer.stop_sequence)
    else:
        finish = reasons.get(answer.stop_reason) or aborted(str(answer.stop_reason))
    meta = meta_info(usage, finish)
    made = next((block for block in answer.content if block.type == "tool_use"), None)
    if made is None:
        return "".join(block.text for block in answer.content if block.type == "text"), meta, None
    if call.tools:
        return json.dumps({"name": made.name, "arguments": made.input}), meta, (made.name, made.input)
    if call.constraint is not None and call.constraint.kind == "choices":
        return str(made.input.get("choice", "")), meta, None
    return json.dumps(made.input), meta, None
