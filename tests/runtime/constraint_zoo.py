"""Constraints of every kind, each with a judge of its own that knows nothing of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema_rs
from ramify.runtime.sampling.params import SamplingParams

PROMPT = "The quick brown fox jumps over the lazy dog"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["fox", "dog", "日本"]}, "maxItems": 3},
        "quick": {"type": "boolean"},
    },
    "required": ["name", "age", "tags", "quick"],
    "additionalProperties": False,
}
FREE = SamplingParams(temperature=1.0, max_tokens=200)
Judge = Callable[[str], bool]


def schema(wanted: Any, **more: Any) -> tuple[dict[str, Any], Judge]:
    validator = jsonschema_rs.validator_for(wanted)
    return {"json_schema": wanted, **more}, lambda text: validator.is_valid(json.loads(text))


def pattern(wanted: str) -> tuple[dict[str, Any], Judge]:
    return {"regex": wanted}, lambda text: re.fullmatch(wanted, text) is not None


def options(*wanted: str) -> tuple[dict[str, Any], Judge]:
    return {"choices": wanted}, lambda text: text in wanted


CONSTRAINTS: list[tuple[dict[str, Any], Judge]] = [
    schema(PERSON),
    schema(PERSON, whitespace="compact"),
    schema({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 4}),
    pattern(r"[a-z]{2,5}-\d{3}( (fox|fo|dog)){0,2}"),
    pattern(r"(order|orderId|日本語|🙂+)!?"),
    options("yes", "no", "quick brown", "quick brown fox", "naïve"),
    options("jumps over the lazy dog"),
]
