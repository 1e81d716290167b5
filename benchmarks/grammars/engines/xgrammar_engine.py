"""xgrammar; `loose` is its strict_mode=False, in which additional properties and items are allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xgrammar
from transformers import PreTrainedTokenizerFast

from .protocol import Engine, NotOffered, Words


class XGrammar(Engine):
    strict = True

    def __init__(self, tokenizer: Path) -> None:
        super().__init__(tokenizer)
        fast = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), eos_token=self.tokenizer.id_to_token(self.end))
        info = xgrammar.TokenizerInfo.from_huggingface(fast, vocab_size=self.size, stop_token_ids=[self.end])
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.bitmask = xgrammar.allocate_token_bitmask(1, self.size)
        self.words = self.bitmask.numpy()[0].view(np.uint32)

    def compile(self, kind: str, grammar: Any) -> Any:
        if kind == "json_schema":
            return self.compiler.compile_json_schema(json.dumps(grammar), strict_mode=self.strict)
        if kind == "regex":
            return self.compiler.compile_regex(grammar)
        if kind == "gbnf":
            return self.compiler.compile_grammar(grammar)
        raise NotOffered(kind)

    def start(self, compiled: Any) -> Any:
        return xgrammar.GrammarMatcher(compiled)

    def mask(self, state: Any) -> Words | None:
        self.bitmask.fill_(-1) if not state.fill_next_token_bitmask(self.bitmask) else None
        return self.words

    def accept(self, state: Any, token: int) -> bool:
        return bool(state.accept_token(token))

    def complete(self, state: Any) -> bool:
        words = self.mask(state)
        assert words is not None
        return bool(state.is_terminated() or words[self.end >> 5] >> (self.end & 31) & 1)

    def forced(self, state: Any) -> str | list[int] | None:
        return str(state.find_jump_forward_string())


ENGINE = XGrammar
