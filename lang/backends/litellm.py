"""Programs on any of the providers that the `litellm` package knows, where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ...errors import BackendError
from ..nodes import Media
from .api import ApiBackend, Heard
from .base import GenerateCall, Outcome
from .http import HttpError
from .meta import meta_info
from .openai_messages import conversation
from .openai_select import chosen_by_answer
from .openai_wire import constraint_body, finish_of, read_chat, read_usage, sampling_body, tools_body
from .transcript import Transcript


class LiteLLM(ApiBackend):
    """A model under litellm's name for it: `LiteLLM("vertex_ai/gemini-...")`. Keywords go to each of litellm's calls.

    Raises BackendError where the package is not installed. What a provider does not take, litellm refuses by name.
    """

    name = "litellm"

    def __init__(self, model_name: str, **client: Any) -> None:
        super().__init__()
        try:
            self._package = importlib.import_module("litellm")
        except ImportError:
            raise BackendError("LiteLLM needs its package: pip install litellm") from None
        self.model_name = model_name
        if "default_headers" in client:
            client["extra_headers"] = client.pop("default_headers")
        if "max_retries" in client:
            client["num_retries"] = client.pop("max_retries")
        self._client = client

    async def complete(self, said: Transcript, call: GenerateCall, heard: Heard | None) -> Outcome:
        messages, started = conversation(said)
        if started:
            raise BackendError(
                "LiteLLM: a chat API cannot go on within an assistant's turn; let the gen be the first in its turn"
            )
        if not messages:
            raise BackendError("LiteLLM needs something to answer: say it in a role, s += sgl.user(...)")
        if heard is None or call.tools or (call.sampling.n or 1) > 1:
            return await self._ask(messages, call)
        texts: list[str] = []
        finish: dict[str, Any] | None = None
        usage: dict[str, int] = {}
        body = self._body(call) | {"stream": True, "stream_options": {"include_usage": True}}
        async for chunk in await self._package.acompletion(model=self.model_name, messages=messages, **body):
            event = _plain(chunk)
            usage = read_usage(event) or usage
            for choice in event.get("choices") or ():
                if piece := (choice.get("delta") or {}).get("content"):
                    texts.append(piece)
                    heard(piece)
                finish = finish_of(choice.get("finish_reason"), choice, call.sampling) or finish
        return Outcome(texts=("".join(texts),), metas=(meta_info(usage, finish),))

    async def _ask(self, messages: list[dict[str, Any]], call: GenerateCall) -> Outcome:
        try:
            answer = await self._package.acompletion(model=self.model_name, messages=messages, **self._body(call))
        except Exception as error:
            status = getattr(error, "status_code", None)
            raise HttpError(f"LiteLLM: {type(error).__name__}: {str(error)[:300]}", status) from error
        return read_chat(_plain(answer), call)

    def _body(self, call: GenerateCall) -> dict[str, Any]:
        body = dict(self._client)
        body |= sampling_body(call.sampling, strict=False, chat=True, limit_name="max_tokens") | tools_body(call)
        if call.constraint is not None and not call.tools:
            body |= constraint_body(call.constraint, strict=True, dialect="")
        return body

    def chooses(self, said: Transcript) -> bool:
        return True

    async def choice(self, said: Transcript, options: tuple[str, ...]) -> Outcome:
        return await chosen_by_answer(self._ask, said, options)

    def check_media(self, media: Media) -> None:
        if media.kind != "image":
            raise self.cannot(f"take {media.kind}s")

    def server_info(self) -> Mapping[str, Any]:
        return {"backend": self.name, "model_path": self.model_name}


def _plain(answer: Any) -> Mapping[str, Any]:
    """litellm's answers as mappings."""
    dumped: Mapping[str, Any] = answer if isinstance(answer, Mapping) else answer.model_dump()
    return dumped
