"""SGLang's meta_info out of the engine's own results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...runtime.results import Generation, TokenLogprobs, Usage
from ..sampling import Sampling
from .meta import Logprob, aborted, cut, meta_info, stopped

Spell = Callable[[int], str]  # one token's text


def usage_of(usage: Usage) -> dict[str, int]:
    """The engine's counts by name."""
    return asdict(usage)


def generation_meta(answer: Generation, sampling: Sampling, spell: Spell) -> dict[str, Any]:
    """The meta_info of one answer; log-probabilities where they were asked for."""
    texts = bool(sampling.return_text_in_logprobs)
    logprobs: dict[str, Any] = {}
    if reports_logprobs(sampling):
        told = answer.logprobs or ()
        logprobs["input_token_logprobs"] = _prompt(answer, texts)
        logprobs["output_token_logprobs"] = [_entry(one, texts) for one in told]
        if sampling.top_logprobs_num:
            logprobs["input_top_logprobs"] = [_top(one, texts) for one in answer.prompt_logprobs or ()]
            logprobs["output_top_logprobs"] = [_top(one, texts) for one in told]
    if answer.next_token is not None and sampling.top_logprobs_num:
        best = answer.next_token.top(sampling.top_logprobs_num)
        logprobs["output_top_logprobs"] = [[[value, token, spell(token) if texts else None] for token, value in best]]
    meta = meta_info(usage_of(answer.usage), finish(answer), **logprobs)
    meta["timings"] = asdict(answer.timings)
    return meta


def reports_logprobs(sampling: Sampling) -> bool:
    """Whether anybody wants log-probabilities: asking for the top ones is asking for them."""
    return bool(sampling.return_logprob) or bool(sampling.top_logprobs_num)


def finish(answer: Generation) -> Mapping[str, Any]:
    """Why it ended, as SGLang says it."""
    if answer.finish_reason == "length":
        return cut(len(answer.token_ids))
    return stopped(answer.stop_matched) if answer.finish_reason == "stop" else aborted()


def _prompt(answer: Generation, texts: bool) -> list[Logprob]:
    told = answer.prompt_logprobs or ()
    first = len(answer.prompt_token_ids) - len(told)
    return [
        [None, answer.prompt_token_ids[first + index], None] if one is None else _entry(one, texts)
        for index, one in enumerate(told)
    ]


def _entry(one: TokenLogprobs, texts: bool) -> Logprob:
    return [one.chosen.logprob, one.chosen.token, one.chosen.text if texts else None]


def _top(one: TokenLogprobs | None, texts: bool) -> Sequence[Logprob] | None:
    if one is None:
        return None
    return [[entry.logprob, entry.token, entry.text if texts else None] for entry in one.top]
