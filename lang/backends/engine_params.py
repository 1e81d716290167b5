"""From a call of the language to the engine's sampling parameters."""

from __future__ import annotations

from typing import Any

from ...errors import BackendError
from ...grammars.grammar import Grammar
from ...runtime.sampling.params import SamplingParams
from ..sampling import Constraint, Sampling
from .base import GenerateCall
from .engine_meta import reports_logprobs

_SAME_NAME = (
    *("temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty"),
    *("logit_bias", "ignore_eos", "seed", "n", "stop", "stop_token_ids"),
)
_OTHER_NAME = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}


def params_of(call: GenerateCall) -> SamplingParams:
    """What the engine is asked for. Raises InvalidRequest for values out of range."""
    sampling = call.sampling
    given: dict[str, Any] = {"priority": call.priority, "n": 1}
    for name in _SAME_NAME:
        if (value := getattr(sampling, name)) is not None:
            given[name] = value
    for theirs, ours in _OTHER_NAME.items():
        if (value := getattr(sampling, theirs)) is not None:
            given[ours] = value
    if sampling.stop_regex is not None:
        given["stop_regex"] = one_pattern(sampling.stop_regex)
    given |= _reports(sampling)
    if call.constraint is not None:
        given |= _constrained(call.constraint)
    return SamplingParams(**given)


def one_pattern(patterns: str | tuple[str, ...]) -> str | None:
    """One regular expression that matches where any of several does."""
    if isinstance(patterns, str):
        return patterns
    return "|".join(f"(?:{pattern})" for pattern in patterns) or None


def _reports(sampling: Sampling) -> dict[str, Any]:
    if not reports_logprobs(sampling):
        return {}
    top = sampling.top_logprobs_num or 0
    start = -1 if sampling.logprob_start_len is None else sampling.logprob_start_len
    return {"logprobs": top} | ({} if start < 0 else {"prompt_logprobs": top, "prompt_logprobs_start": start})


def _constrained(constraint: Constraint) -> dict[str, Any]:
    if isinstance(constraint.source, Grammar):
        return {"grammar": constraint.source}
    if constraint.kind not in SamplingParams.__slots__:
        raise BackendError(f"this engine cannot constrain a text by {constraint.kind}")
    return {constraint.kind: constraint.source}
