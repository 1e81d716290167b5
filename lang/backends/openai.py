"""Programs on any OpenAI-compatible API: chat and completions, with what each kind of server offers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...errors import BackendError
from ..chat import plain_format
from ..chat_templates import of_template
from ..nodes import Media
from ..sampling import Sampling
from .api import ApiBackend, Heard
from .base import GenerateCall, Outcome, ScoreCall, ScoreOutcome
from .http import HttpClient, HttpSettings, StreamCut
from .meta import meta_info
from .openai_messages import conversation
from .openai_select import Row, aligned, chosen, chosen_by_answer, echoed_row, first_touched, matched, option_score
from .openai_wire import (
    constraint_body,
    finish_of,
    read_chat,
    read_completion,
    read_usage,
    sampling_body,
    tools_body,
)
from .transcript import Transcript

OFFICIAL = "https://api.openai.com/v1"
COMPLETION_MODELS = frozenset(("gpt-3.5-turbo-instruct", "babbage-002", "davinci-002"))
_TRIES = 3  # of a whole turn that is to follow a template


class OpenAI(ApiBackend):
    """A model behind an OpenAI-compatible URL.

        OpenAI("gpt-4o-mini")                                              # key from OPENAI_API_KEY
        OpenAI("qwen3", base_url="http://localhost:8000/v1")               # vLLM, SGLang, llama.cpp, Ollama, ramify ...

    `is_chat_model`: use chat (True) or completions (False). None: OpenAI's own models by their names; on other servers
    programs with roles use chat, programs without them completions. `continues`: the server goes on with an answer that
    has begun (vLLM and SGLang do), so that a gen may follow a constant within an assistant's turn; without it such a
    program needs `num_api_spec_tokens`. `dialect`, "sglang" or "vllm", is how regex, ebnf and choices are sent to
    servers that are not OpenAI's own. Timeouts, retries and connections are HttpSettings' fields.
    """

    name = "openai"
    speculates = True

    def __init__(
        self,
        model_name: str,
        is_chat_model: bool | None = None,
        chat_template: str | None = None,
        is_azure: bool = False,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        default_headers: Mapping[str, str] | None = None,
        continues: bool = False,
        dialect: str = "sglang",
        max_retries: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if is_azure:
            raise BackendError(
                "is_azure: give Azure's compatible URL instead: base_url='https://<resource>.openai.azure.com/openai/v1'"
            )
        if dialect not in ("sglang", "vllm"):
            raise BackendError(f"dialect={dialect!r:.40}: expected 'sglang' or 'vllm'")
        url = (base_url or os.environ.get("OPENAI_BASE_URL") or OFFICIAL).rstrip("/")
        key = api_key or os.environ.get("OPENAI_API_KEY")
        self.strict = url == OFFICIAL
        if self.strict and not key:
            raise BackendError(
                "OpenAI: no key; set OPENAI_API_KEY, or give api_key=..., or base_url=... of another server"
            )
        named = {"openai-organization": organization, "openai-project": project}
        headers = {name: value for name, value in named.items() if value} | dict(default_headers or {})
        if key:
            headers["authorization"] = f"Bearer {key}"
        if max_retries is not None:
            settings["retries"] = max_retries
        try:
            patience = HttpSettings(**settings)
        except TypeError:
            raise BackendError(
                f"OpenAI takes {', '.join(HttpSettings.__slots__)}, not {', '.join(sorted(settings))}"
            ) from None
        self.model_name = model_name
        self.continues = continues
        self.dialect = dialect
        self.chat = plain_format() if chat_template is None else of_template(chat_template)
        self._is_chat = (
            is_chat_model if is_chat_model is not None or not self.strict else model_name not in COMPLETION_MODELS
        )
        self._http = HttpClient(url, headers, patience)
        self.loop.at_end(self._http.close)
        reasons = self.strict and model_name.startswith(("o1", "o3", "o4", "gpt-5"))
        self._limit_name = "max_completion_tokens" if reasons else "max_tokens"

    def uses_chat(self, said: Transcript) -> bool:
        """Whether this stream goes to the chat API."""
        return bool(said.roles) if self._is_chat is None else self._is_chat

    async def complete(self, said: Transcript, call: GenerateCall, heard: Heard | None) -> Outcome:
        if not self.uses_chat(said):
            body = self._body(call, chat=False) | {"prompt": said.text(self.chat)}
            return await self._ask("/completions", body, call, heard)
        messages, started = conversation(said)
        if not messages:
            raise BackendError("OpenAI: a chat model needs something to answer: say it in a role, s += sgl.user(...)")
        body = self._body(call, chat=True) | {"messages": messages}
        if not started:
            return await self._ask("/chat/completions", body, call, heard)
        if self.continues:
            body["messages"] = [*messages, {"role": "assistant", "content": started}]
            body |= {"continue_final_message": True, "add_generation_prompt": False}
            return await self._ask("/chat/completions", body, call, heard)
        if call.speculate and call.constraint is None:
            return await self._whole_turn(body, call, started)
        raise BackendError(
            "OpenAI: this chat API cannot go on within an assistant's turn. Let the gen be the first in its turn, or "
            "use @sgl.function(num_api_spec_tokens=...), or OpenAI(..., continues=True) where the server can"
        )

    async def _whole_turn(self, body: dict[str, Any], call: GenerateCall, started: str) -> Outcome:
        """Ask for the whole turn; what it says must begin as the program does."""
        said = ""
        for _ in range(_TRIES if call.sampling.temperature else 1):
            outcome = await self._ask("/chat/completions", body, call, None)
            said = outcome.texts[0]
            for text in (said, said.lstrip()):
                if text.startswith(started):
                    return replace(outcome, texts=(text[len(started) :],))
        raise BackendError(
            f"OpenAI: the answer does not follow the program: it should begin {started[:60]!r}, but began "
            f"{said[:60]!r}; show the model the form in the prompt"
        )

    # -- requests -------------------------------------------------------------------------------------------------

    def _body(self, call: GenerateCall, *, chat: bool) -> dict[str, Any]:
        limit = self._limit_name if chat else "max_tokens"
        body = {"model": self.model_name} | sampling_body(
            call.sampling, strict=self.strict, chat=chat, limit_name=limit
        )
        if chat and call.tools:
            return body | tools_body(call)
        if call.constraint is not None:
            body |= constraint_body(call.constraint, strict=self.strict, dialect=self.dialect)
        return body

    async def _ask(self, path: str, body: dict[str, Any], call: GenerateCall, heard: Heard | None) -> Outcome:
        chat, retries = path == "/chat/completions", call.sampling.retries
        unwraps = self.strict and call.constraint is not None and call.constraint.kind == "choices"
        if heard is None or call.tools or unwraps or (call.sampling.n or 1) > 1:
            answer = await self._http.post(path, body, retries=retries)
            outcome = read_chat(answer, call) if chat else read_completion(answer, call)
            return replace(outcome, texts=tuple(map(chosen, outcome.texts))) if unwraps else outcome
        return await self._stream(path, body, call, heard, chat)

    async def _stream(self, path: str, body: dict[str, Any], call: GenerateCall, heard: Heard, chat: bool) -> Outcome:
        texts: list[str] = []
        finish: dict[str, Any] | None = None
        usage: dict[str, int] = {}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        try:
            async for event in self._http.events(path, body, retries=call.sampling.retries):
                if not isinstance(event, Mapping) or "error" in event:
                    raise BackendError(f"OpenAI: the server failed in the middle of the answer: {str(event)[:300]}")
                usage = read_usage(event) or usage
                for choice in event.get("choices") or ():
                    piece = (choice.get("delta") or {}).get("content") if chat else choice.get("text")
                    if piece:
                        texts.append(piece)
                        heard(piece)
                    finish = finish_of(choice.get("finish_reason"), choice, call.sampling) or finish
        except StreamCut:
            if finish is None:
                raise
        return Outcome(texts=("".join(texts),), metas=(meta_info(usage, finish),))

    # -- select ---------------------------------------------------------------------------------------------------

    def chooses(self, said: Transcript) -> bool:
        return self.uses_chat(said) or self.strict

    async def choice(self, said: Transcript, options: tuple[str, ...]) -> Outcome:
        if not self.uses_chat(said):
            greedy = Sampling(temperature=0.0, max_new_tokens=16 + max(map(len, options)))
            return matched(await self.complete(said, GenerateCall(greedy), None), options)

        async def ask(messages: list[dict[str, Any]], call: GenerateCall) -> Outcome:
            body = self._body(call, chat=True) | {"messages": messages}
            return await self._ask("/chat/completions", body, call, None)

        return await chosen_by_answer(ask, said, options)

    async def option_scores(self, said: Transcript, call: ScoreCall) -> ScoreOutcome:
        """By echoing prompt and option with log-probabilities, which vLLM, SGLang, llama.cpp and ramify offer."""
        prompt = said.text(self.chat)
        rows = await self._echoed([prompt + option for option in call.options])
        start = min(first_touched(row, len(prompt)) for row in rows)
        told = [[entry for entry in row if entry[2] >= start] for row in rows]
        alone: list[tuple[float, ...]] = [()] * len(rows)
        if call.alone:
            by_themselves = await self._echoed(list(call.options))
            alone = [aligned(one, row) for one, row in zip(by_themselves, told, strict=True)]
        return ScoreOutcome(tuple(option_score(row, u) for row, u in zip(told, alone, strict=True)))

    async def _echoed(self, texts: list[str]) -> list[Row]:
        """For each text its tokens: text, log-probability (0 for the first of all), place of its first character."""
        body = {
            "model": self.model_name,
            "prompt": texts,
            "echo": True,
            "logprobs": 1,
            "max_tokens": 1,
            "temperature": 0,
        }
        answer = await self._http.post("/completions", body)
        outcome = read_completion(answer, GenerateCall(Sampling()))
        if len(outcome.texts) != len(texts):
            raise BackendError(f"OpenAI: {len(texts)} texts were sent to be scored, {len(outcome.texts)} came back")
        return [echoed_row(text, meta) for text, meta in zip(texts, outcome.metas, strict=True)]

    def check_media(self, media: Media) -> None:
        if media.kind != "image" or self._is_chat is False:
            raise self.cannot(f"take {media.kind}s" if self._is_chat is not False else "take images for completions")

    def server_info(self) -> Mapping[str, Any]:
        return {"backend": self.name, "model_path": self.model_name, "base_url": self._http.base_url}
