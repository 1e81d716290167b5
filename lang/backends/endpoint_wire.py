"""The bodies that SGLang's own client sends to `/generate`, and what its answers say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import BackendError
from ...grammars.grammar import Grammar
from ..sampling import Constraint, Sampling
from .base import GenerateCall, OptionScore, Outcome
from .meta import meta_info

_SAMPLING = (
    *("max_new_tokens", "min_new_tokens", "n", "stop", "stop_token_ids", "stop_regex", "temperature", "top_p", "top_k"),
    *("min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "ignore_eos"),
)
_REPORTS = ("return_logprob", "logprob_start_len", "top_logprobs_num", "return_text_in_logprobs")
PREFILL: Mapping[str, Any] = {"max_new_tokens": 0, "temperature": 0.0}


def generate_body(text: str, call: GenerateCall) -> dict[str, Any]:
    """One generation."""
    sampling = sampling_params(call.sampling)
    if call.constraint is not None:
        sampling |= constraint_params(call.constraint)
    body: dict[str, Any] = {"text": text, "sampling_params": sampling}
    body |= {name: value for name in _REPORTS if (value := getattr(call.sampling, name)) is not None}
    return body


def sampling_params(sampling: Sampling) -> dict[str, Any]:
    """What is set, under the wire's names."""
    found = {name: _plain(value) for name in _SAMPLING if (value := getattr(sampling, name)) is not None}
    if sampling.seed is not None:
        found["sampling_seed"] = sampling.seed
    if sampling.logit_bias:
        found["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return found


def constraint_params(constraint: Constraint) -> dict[str, Any]:
    """A constraint under the wire's names; a compiled grammar travels as the source it was made from."""
    kind, source = unpacked(constraint)
    if kind == "choices":
        return {"regex": choices_pattern(source)}
    if kind in ("json_schema", "structural_tag"):
        return {kind: source if isinstance(source, str) else json.dumps(source)}
    if kind in ("regex", "ebnf"):
        return {kind: str(source)}
    raise BackendError(f"RuntimeEndpoint cannot send a grammar of kind {kind!r}; use regex, json_schema or ebnf")


def unpacked(constraint: Constraint) -> tuple[str, Any]:
    """Kind and source; of a compiled grammar, what it was made from."""
    source = constraint.source
    if not isinstance(source, Grammar):
        return constraint.kind, source
    return source.kind, json.loads(source.source) if source.kind == "choices" else source.source


def choices_pattern(options: Sequence[str]) -> str:
    """A regular expression for exactly these texts."""
    return "(" + "|".join(escaped(option) for option in options) + ")"


def escaped(text: str) -> str:
    """The text as a pattern that means itself in every dialect."""
    return "".join(f"\\{character}" if character in r"\.^$*+?{}[]()|/-" else character for character in text)


def read_outcome(answer: Any) -> Outcome:
    """The texts and meta_infos of an answer: a mapping, or a list of them for n."""
    listed = answer if isinstance(answer, list) else [answer]
    texts, metas = [], []
    for one in listed:
        if not isinstance(one, Mapping) or not isinstance(one.get("text"), str):
            raise BackendError(f"RuntimeEndpoint: the server's answer has no text: {str(one)[:200]}")
        texts.append(one["text"])
        metas.append(read_meta(one.get("meta_info") or {}))
    if not texts:
        raise BackendError("RuntimeEndpoint: the server answered with an empty list")
    return Outcome(texts=tuple(texts), metas=tuple(metas))


def read_meta(told: Mapping[str, Any]) -> dict[str, Any]:
    """The server's meta_info, with the keys that ours always has."""
    usage = {
        name: told[name]
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens")
        if isinstance(told.get(name), int)
    }
    return {**meta_info(usage, told.get("finish_reason")), **told}


def read_scores(answers: Any, options: Sequence[str], prompt_tokens: int) -> list[OptionScore]:
    """Each option's tokens, from answers about the prompt's last tokens and the option's.

    An answer tells of the last tokens of prompt and option. All options are scored from the first token on that any of
    them touches: where one shares a token with the prompt's end, the others are scored from that place on as well.
    """
    if not isinstance(answers, list) or len(answers) != len(options):
        raise BackendError(f"RuntimeEndpoint: {len(options)} options were sent to be scored; got {str(answers)[:100]}")
    rows, ends = [], []
    for answer in answers:
        meta = answer.get("meta_info", {}) if isinstance(answer, Mapping) else {}
        entries = meta.get("input_token_logprobs")
        if not entries or not isinstance(meta.get("prompt_tokens"), int):
            raise BackendError("RuntimeEndpoint: the server sent no input_token_logprobs; it cannot score options")
        rows.append(entries)
        ends.append(meta["prompt_tokens"])
    starts = [_touched(row, end, option, prompt_tokens) for row, end, option in zip(rows, ends, options, strict=True)]
    start = min(starts)
    for row, end in zip(rows, ends, strict=True):  # the first entry of a list has no number
        unknown = [index for index, entry in enumerate(row) if entry[0] is None]
        if unknown:
            start = max(start, end - len(row) + unknown[-1] + 1)
    scores = []
    for row, end, option in zip(rows, ends, options, strict=True):
        told = row[max(0, start - (end - len(row))) :]
        if not told:
            raise BackendError(f"RuntimeEndpoint: the server told nothing about the option {option!r:.60}")
        scores.append(OptionScore(tuple(int(entry[1]) for entry in told), tuple(float(entry[0]) for entry in told)))
    return scores


def _touched(row: Sequence[Any], end: int, option: str, prompt_tokens: int) -> int:
    """The position of the first token that has characters of the option."""
    texts = [entry[2] for entry in row if len(entry) > 2 and isinstance(entry[2], str)]
    if len(texts) == len(row) and "".join(texts).endswith(option):
        left = len(option)
        for back, text in enumerate(reversed(texts), 1):
            left -= len(text)
            if left <= 0:
                return end - back
    return min(prompt_tokens, end - 1)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
