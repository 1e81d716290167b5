"""llguidance with ramify's separators, ", " and ": ": the same text to jump over."""

from __future__ import annotations

import json
from typing import Any

from llguidance import LLMatcher

from .llguidance_engine import LLGuidance

FIXED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class LLGuidanceFixed(LLGuidance):
    def json_schema(self, schema: Any) -> str:
        return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=FIXED))


ENGINE = LLGuidanceFixed
