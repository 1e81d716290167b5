"""The bodies and answers of OpenAI's chat and completion APIs, in the dialects of the servers that offer them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import BackendError
from ..sampling import Constraint, Sampling
from ..tools import tools_of
from .base import GenerateCall, Outcome
from .endpoint_wire import choices_pattern, unpacked
from .meta import aborted, cut, meta_info, stopped

_SAME = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "n")
_BEYOND: Mapping[str, tuple[str, tuple[Any, ...]]] = {  # not OpenAI's: the name on other servers, and what is neutral
    "top_k": ("top_k", (-1, 0)),
    "min_p": ("min_p", (0,)),
    "repetition_penalty": ("repetition_penalty", (1,)),
    "min_new_tokens": ("min_tokens", (0,)),
    "stop_token_ids": ("stop_token_ids", ((),)),
    "stop_regex": ("stop_regex", ((),)),
    "ignore_eos": ("ignore_eos", (False,)),
}


def sampling_body(sampling: Sampling, *, strict: bool, chat: bool, limit_name: str) -> dict[str, Any]:
    """Sampling settings. `strict`: the server takes OpenAI's own fields only; raises BackendError for others."""
    body: dict[str, Any] = {name: value for name in _SAME if (value := getattr(sampling, name)) is not None}
    if body.get("n") == 1:
        del body["n"]
    if sampling.max_new_tokens is not None:
        body[limit_name] = sampling.max_new_tokens
    if sampling.stop:
        body["stop"] = [sampling.stop] if isinstance(sampling.stop, str) else list(sampling.stop)
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.return_logprob or sampling.top_logprobs_num:
        top = sampling.top_logprobs_num or 0
        body |= ({"logprobs": True} | ({"top_logprobs": top} if top else {})) if chat else {"logprobs": top}
    for name, (theirs, neutral) in _BEYOND.items():
        value = getattr(sampling, name)
        if value is None or value in neutral:
            continue
        if strict:
            raise BackendError(f"OpenAI's API has no {name}; leave it out, or run the program on another backend")
        body[theirs] = list(value) if isinstance(value, tuple) else value
    return body


def constraint_body(constraint: Constraint, *, strict: bool, dialect: str) -> dict[str, Any]:
    """A constraint: JSON schemas as OpenAI wants them, others in the dialect of "sglang" or "vllm"."""
    kind, source = unpacked(constraint)
    if kind == "json_schema":
        schema = json.loads(source) if isinstance(source, str) else source
        wanted = {"name": "answer", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": wanted}}
    if kind == "choices" and strict:
        return constraint_body(Constraint("json_schema", choice_schema(source)), strict=strict, dialect=dialect)
    if strict:
        raise BackendError(f"OpenAI's API cannot hold an answer to a {kind}; use json_schema, or another backend")
    if kind == "structural_tag":
        return {"response_format": {**source, "type": "structural_tag"}}
    if dialect == "vllm":
        field = {"regex": "regex", "ebnf": "grammar", "choices": "choice"}.get(kind)
        if field is not None:
            return {"structured_outputs": {field: list(source) if kind == "choices" else source}}
    elif kind in ("regex", "ebnf"):
        return {kind: source}
    elif kind == "choices":
        return {"regex": choices_pattern(source)}
    raise BackendError(f"this API cannot hold an answer to a {kind!r}; use regex, json_schema, choices or ebnf")


def choice_schema(options: Any) -> dict[str, Any]:
    """A schema whose only answers are `{"choice": <one of the options>}`."""
    return {
        "type": "object",
        "properties": {"choice": {"type": "string", "enum": list(options)}},
        "required": ["choice"],
        "additionalProperties": False,
    }


def tools_body(call: GenerateCall) -> dict[str, Any]:
    """Functions that the model must call one of."""
    if not call.tools:
        return {}
    return {"tools": [tool.described() for tool in tools_of(call.tools)], "tool_choice": "required"}


def read_chat(answer: Any, call: GenerateCall) -> Outcome:
    """A whole answer of the chat API."""
    texts, metas, calls = [], [], []
    choices, usage = _choices(answer), read_usage(answer)
    for choice in choices:
        message = choice.get("message") or {}
        text = message.get("content") or ""
        if not isinstance(text, str):
            raise BackendError(f"OpenAI: the answer's content is no text: {str(text)[:100]}")
        if call.tools:
            made = read_tool_call(message, text)
            calls.append(made)
            text = json.dumps({"name": made[0], "arguments": made[1]})
        texts.append(text)
        entries = (choice.get("logprobs") or {}).get("content")
        metas.append(_meta(choice, usage, call.sampling, _chat_logprobs(entries)))
    return Outcome(texts=tuple(texts), metas=tuple(metas), tool_calls=tuple(calls))


def read_completion(answer: Any, call: GenerateCall) -> Outcome:
    """A whole answer of the completion API."""
    choices, usage = _choices(answer), read_usage(answer)
    texts, metas = [], []
    for choice in choices:
        if not isinstance(choice.get("text"), str):
            raise BackendError(f"OpenAI: the answer has no text: {str(choice)[:100]}")
        texts.append(choice["text"])
        metas.append(_meta(choice, usage, call.sampling, _completion_logprobs(choice.get("logprobs"))))
    return Outcome(texts=tuple(texts), metas=tuple(metas))


def read_usage(answer: Mapping[str, Any]) -> dict[str, int]:
    """What the server counted."""
    told = answer.get("usage") or {}
    usage = {name: told[name] for name in ("prompt_tokens", "completion_tokens") if isinstance(told.get(name), int)}
    cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens")
    return usage | ({"cached_tokens": cached} if isinstance(cached, int) else {})


def finish_of(reason: object, choice: Mapping[str, Any], sampling: Sampling) -> dict[str, Any] | None:
    """Why it ended, in SGLang's form."""
    if reason in ("stop", "tool_calls", "function_call"):
        return stopped(choice.get("matched_stop", choice.get("stop_reason")))
    if reason == "length":
        return cut(sampling.max_new_tokens or 0)
    return None if reason is None else aborted(str(reason))


def read_tool_call(message: Mapping[str, Any], text: str) -> tuple[str, Any]:
    """The first call in a message: the function's name and its arguments."""
    try:
        function = message["tool_calls"][0]["function"]
        arguments = function["arguments"]
        return function["name"], json.loads(arguments) if isinstance(arguments, str) else arguments
    except (KeyError, IndexError, TypeError, ValueError):
        raise BackendError(f"OpenAI: the model was to call a function, but said {text[:100]!r}") from None


def _choices(answer: Any) -> list[Mapping[str, Any]]:
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(one, Mapping) for one in choices):
        raise BackendError(f"OpenAI: the answer has no choices: {str(answer)[:200]}")
    return sorted(choices, key=lambda one: one.get("index") or 0)


def _meta(
    choice: Mapping[str, Any], usage: Mapping[str, int], sampling: Sampling, logprobs: Mapping[str, Any]
) -> dict[str, Any]:
    return meta_info(usage, finish_of(choice.get("finish_reason"), choice, sampling), **logprobs)


def _chat_logprobs(entries: Any) -> dict[str, Any]:
    """[logprob, None, text]: the chat API does not tell token ids."""
    if not isinstance(entries, list):
        return {}
    told = {"output_token_logprobs": [[one["logprob"], None, one["token"]] for one in entries]}
    if any(one.get("top_logprobs") for one in entries):
        told["output_top_logprobs"] = [
            [[top["logprob"], None, top["token"]] for top in one.get("top_logprobs") or ()] for one in entries
        ]
    return told


def _completion_logprobs(told: Any) -> dict[str, Any]:
    if not isinstance(told, Mapping) or not told.get("tokens"):
        return {}
    pairs = zip(told["token_logprobs"], told["tokens"], strict=False)
    found: dict[str, Any] = {"output_token_logprobs": [[logprob, None, token] for logprob, token in pairs]}
    if told.get("top_logprobs"):
        found["output_top_logprobs"] = [
            [[logprob, None, token] for token, logprob in (one or {}).items()] for one in told["top_logprobs"]
        ]
    return found
