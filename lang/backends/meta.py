"""What a backend reports about a call: SGLang's `meta_info`, and a `usage` that counts what the call cost.

{"prompt_tokens": 12, "completion_tokens": 5, "cached_tokens": 8,
 "finish_reason": {"type": "stop", "matched": "\\n"},        or "length" (with "length": 128), "abort", None: unknown
 "output_token_logprobs": [[logprob, token_id, text or None], ...],       where they were asked for, as are
 "output_top_logprobs": [[[logprob, token_id, text or None], ...], ...],  input_token_logprobs, input_top_logprobs
 "usage": {"prompt_tokens", "completion_tokens", "cached_tokens", "forced_tokens", "speculated_tokens",
           "computed_tokens"}}                                         those that the backend knows
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Logprob = list[Any]  # [logprob, token_id, text or None], as SGLang writes them


def meta_info(
    usage: Mapping[str, int], finish_reason: Mapping[str, Any] | None = None, **logprobs: Any
) -> dict[str, Any]:
    """A meta_info of these parts; counts that `usage` does not know are 0."""
    return {
        "prompt_tokens": usage.get("prompt_tokens", 0),
        "completion_tokens": usage.get("completion_tokens", 0),
        "cached_tokens": usage.get("cached_tokens", 0),
        "finish_reason": None if finish_reason is None else dict(finish_reason),
        **{name: value for name, value in logprobs.items() if value is not None},
        "usage": dict(usage),
    }


def stopped(matched: str | int | None = None) -> dict[str, Any]:
    """It ended by itself (a stop, the end token, a finished grammar)."""
    return {"type": "stop", "matched": matched}


def cut(length: int) -> dict[str, Any]:
    """It was cut at so many tokens."""
    return {"type": "length", "length": length}


def aborted(message: str = "cancelled") -> dict[str, Any]:
    """It was cancelled, and this is what there was."""
    return {"type": "abort", "message": message}
