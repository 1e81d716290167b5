"""outlines-core: its regex from a schema, its index, its guide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from outlines_core import Guide, Index, Vocabulary
from outlines_core.json_schema import build_regex_from_schema

from .protocol import Engine, NotOffered, Words
from .spelling import spelled_tokens


class OutlinesCore(Engine):
    def __init__(self, tokenizer: Path) -> None:
        super().__init__(tokenizer)
        tokens: dict[bytes, list[int]] = {}
        for token, spelled in enumerate(spelled_tokens(self)):
            if spelled:
                tokens.setdefault(spelled, []).append(token)
        self.vocabulary = Vocabulary(self.end, tokens)
        self.words = np.zeros((self.size + 31) // 32, np.uint32)

    def compile(self, kind: str, grammar: Any) -> Any:
        if kind == "json_schema":
            grammar = build_regex_from_schema(json.dumps(grammar))
        elif kind != "regex":
            raise NotOffered(kind)
        return Index(grammar, self.vocabulary)

    def start(self, compiled: Any) -> Any:
        return Guide(compiled)

    def mask(self, state: Any) -> Words | None:
        state.write_mask_into(self.words.ctypes.data, self.words.size, 4)
        return self.words

    def accept(self, state: Any, token: int) -> bool:
        try:
            state.advance(token, return_tokens=False)
        except ValueError:
            return False
        return True

    def complete(self, state: Any) -> bool:
        return bool(state.is_finished() or self.end in state.get_tokens())


ENGINE = OutlinesCore
