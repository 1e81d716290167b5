"""Programs on a server that speaks SGLang's `/generate`: a ramify server or SGLang's own."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import BackendError, RamifyError
from ...runtime.text.tokenizer import tokenizer_of_directory
from ..chat import ChatFormat, plain_format
from ..chat_templates import of_template
from .api import ApiBackend, Heard
from .base import GenerateCall, OptionScore, Outcome, ScoreCall, ScoreOutcome
from .endpoint_wire import PREFILL, generate_body, read_meta, read_outcome, read_scores
from .http import HttpClient, HttpError, HttpSettings, StreamCut
from .transcript import Transcript


class RuntimeEndpoint(ApiBackend):
    """A running server: `RuntimeEndpoint("http://localhost:30000")`.

    Asks the server for its model at once; raises BackendError where there is none. Roles are written in the format of
    `chat_template` (a Jinja template's text), else of the server's model where that is known here, else plainly.
    Timeouts, retries and connections are HttpSettings' fields.
    """

    name = "endpoint"

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        verify: bool | str | None = None,
        chat_template: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        try:
            patience = HttpSettings(**settings)
        except TypeError:
            known = ", ".join(HttpSettings.__slots__)
            raise BackendError(f"RuntimeEndpoint takes {known}, not {', '.join(settings)}") from None
        self._http = HttpClient(base_url, headers, patience, verify=True if verify is None else verify)
        self.loop.at_end(self._http.close)
        self.base_url = self._http.base_url
        try:
            info = self.loop.wait(self._http.get("/get_model_info"))
        except BaseException:
            self.loop.close()
            raise
        self.model_info: Mapping[str, Any] = info if isinstance(info, Mapping) else {}
        self.chat = of_template(chat_template) if chat_template is not None else _format_of(self.model_info)

    def get_model_name(self) -> str:
        """The model's path, as the server says it."""
        return str(self.model_info.get("model_path", "unknown"))

    def server_info(self) -> Mapping[str, Any]:
        try:
            info = self.loop.wait(self._http.get("/get_server_info"))
        except HttpError as error:
            if error.status != 404:
                raise
            info = self.loop.wait(self._http.get("/server_info"))  # its newer name
        return {"backend": self.name, **(info if isinstance(info, Mapping) else {})}

    get_server_info = server_info

    def flush_cache(self) -> None:
        self.loop.wait(self._http.tell("/flush_cache", {}))

    def cache_prefix(self, prefix: str) -> None:
        """Have the server compute a text, so that what begins with it starts faster."""
        self.loop.wait(self._http.post("/generate", {"text": prefix, "sampling_params": dict(PREFILL)}))

    # -- calls ----------------------------------------------------------------------------------------------------

    async def complete(self, said: Transcript, call: GenerateCall, heard: Heard | None) -> Outcome:
        body = generate_body(said.text(self.chat), call)
        if heard is None or (call.sampling.n or 1) > 1:
            return read_outcome(await self._http.post("/generate", body, retries=call.sampling.retries))
        last: Any = None
        shown = ""
        events = self._http.events("/generate", {**body, "stream": True}, retries=call.sampling.retries)
        try:
            async for event in events:
                if isinstance(event, Mapping) and "error" in event:
                    raise BackendError(f"POST {self.base_url}/generate: {_said_wrong(event['error'])}")
                last = event
                text = read_outcome(event).texts[0]
                if text.startswith(shown) and len(text) > len(shown):
                    heard(text[len(shown) :])
                    shown = text
        except StreamCut:
            if last is None or not read_outcome(last).metas[0].get("finish_reason"):
                raise
        if last is None:
            raise BackendError(f"POST {self.base_url}/generate: the stream ended before it began")
        return read_outcome(last)

    async def prefill(self, said: Transcript) -> Outcome:
        answer = await self._http.post("/generate", {"text": said.text(self.chat), "sampling_params": dict(PREFILL)})
        return read_outcome(answer)

    async def option_scores(self, said: Transcript, call: ScoreCall) -> ScoreOutcome:
        prompt = said.text(self.chat)
        warm = read_outcome(await self._http.post("/generate", {"text": prompt, "sampling_params": dict(PREFILL)}))
        prompt_tokens = int(warm.metas[0]["prompt_tokens"])
        answers = await self._http.post(
            "/generate",
            {
                "text": [prompt + option for option in call.options],
                "sampling_params": dict(PREFILL),
                "return_logprob": True,
                "return_text_in_logprobs": True,
                "logprob_start_len": max(prompt_tokens - 2, 0),
            },
        )
        scores = read_scores(answers, call.options, prompt_tokens)
        if call.alone:
            scores = await self._with_alone(scores)
        usages = [read_meta(answer["meta_info"])["usage"] for answer in answers]
        usage = {name: sum(one.get(name, 0) for one in usages) for name in ("prompt_tokens", "cached_tokens")}
        return ScoreOutcome(tuple(scores), usage)

    async def _with_alone(self, scores: list[OptionScore]) -> list[OptionScore]:
        """The same tokens without the text before them. The first of a text has no log-probability: it counts as 0."""
        answers = await self._http.post(
            "/generate",
            {
                "input_ids": [list(score.token_ids) for score in scores],
                "sampling_params": dict(PREFILL),
                "return_logprob": True,
                "logprob_start_len": 0,
            },
        )
        if not isinstance(answers, list) or len(answers) != len(scores):
            raise BackendError("RuntimeEndpoint: the server did not score the options alone")
        made = []
        for score, answer in zip(scores, answers, strict=True):
            told = [entry[0] or 0.0 for entry in answer["meta_info"]["input_token_logprobs"]]
            told = [0.0] * (len(score.token_ids) - len(told)) + told[-len(score.token_ids) :]
            made.append(OptionScore(score.token_ids, score.logprobs, tuple(told)))
        return made

    def cannot(self, what: str) -> Exception:
        return BackendError(f"RuntimeEndpoint({self.base_url!r}) cannot {what}")


def _format_of(info: Mapping[str, Any]) -> ChatFormat:
    """The chat format of a server's model: told by the server, or found where its files are on this machine too."""
    template = info.get("chat_template")
    if isinstance(template, str) and template:
        return of_template(template, bos=str(info.get("bos_token") or ""), eos=str(info.get("eos_token") or ""))
    for key in ("tokenizer_path", "model_path"):
        path = info.get(key)
        with contextlib.suppress(RamifyError, OSError, ValueError):
            if isinstance(path, str) and path and Path(path).is_dir():
                tokenizer = tokenizer_of_directory(Path(path), Path(path).name)
                if tokenizer.chat_template is not None:
                    spell = tokenizer.token_bytes
                    bos = "" if tokenizer.bos_id is None else spell(tokenizer.bos_id).decode(errors="replace")
                    eos = spell(tokenizer.eos_ids[0]).decode(errors="replace") if tokenizer.eos_ids else ""
                    return of_template(tokenizer.chat_template, bos=bos, eos=eos)
    return plain_format()


def _said_wrong(error: Any) -> str:
    return str(error.get("message", error))[:300] if isinstance(error, Mapping) else str(error)[:300]
