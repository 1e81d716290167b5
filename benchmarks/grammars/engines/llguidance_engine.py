"""llguidance, as it is by default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llguidance
import llguidance.numpy as packed
import numpy as np
from llguidance import LLMatcher

from .protocol import Engine, NotOffered, Words


class LLGuidance(Engine):
    def __init__(self, tokenizer: Path) -> None:
        super().__init__(tokenizer)
        self.inner = llguidance.LLTokenizer(str(tokenizer), eos_token=self.end)
        self.bitmask = packed.allocate_token_bitmask(1, self.size)
        self.words = self.bitmask[0].view(np.uint32)

    def json_schema(self, schema: Any) -> str:
        return str(LLMatcher.grammar_from_json_schema(json.dumps(schema)))

    def compile(self, kind: str, grammar: Any) -> Any:
        if kind == "json_schema":
            found = self.json_schema(grammar)
        elif kind == "regex":
            found = LLMatcher.grammar_from_regex(grammar)
        elif kind == "lark":
            found = LLMatcher.grammar_from_lark(grammar)
        else:
            raise NotOffered(kind)
        first = LLMatcher(self.inner, found, log_level=0)
        if first.is_error():
            raise ValueError(first.get_error())
        return first

    def start(self, compiled: Any) -> Any:
        return compiled.deep_copy()

    def mask(self, state: Any) -> Words | None:
        packed.fill_next_token_bitmask(state, self.bitmask, 0)
        return self.words

    def accept(self, state: Any, token: int) -> bool:
        return bool(state.consume_token(token)) and not state.is_error()

    def complete(self, state: Any) -> bool:
        return bool(state.is_accepting())

    def forced(self, state: Any) -> str | list[int] | None:
        return list(state.compute_ff_tokens())


ENGINE = LLGuidance
