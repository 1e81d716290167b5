"""lm-format-enforcer, whose state is the list of tokens so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lmformatenforcer import JsonSchemaParser, RegexParser, TokenEnforcer, TokenEnforcerTokenizerData

from .protocol import Engine, NotOffered, Words


class State:
    def __init__(self, enforcer: Any) -> None:
        self.enforcer = enforcer
        self.tokens: list[int] = []
        self.allowed: frozenset[int] | None = None


class LMFormatEnforcer(Engine):
    def __init__(self, tokenizer: Path) -> None:
        super().__init__(tokenizer)
        # as its integration for transformers does it, which cannot be imported beside transformers 5
        zero = self.encode("0")[-1]
        tokens = []
        for token in range(self.size):
            if token not in self.special:
                behind, alone = self.decoded([zero, token])[1:], self.decoded([token])
                tokens.append((token, behind, len(behind) > len(alone)))
        self.data = TokenEnforcerTokenizerData(tokens, self.text_so_far, self.end, False, self.size)

    def decoded(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=False))

    def text_so_far(self, tokens: list[int]) -> str:
        return self.decoded(tokens).rstrip("\N{REPLACEMENT CHARACTER}")

    def compile(self, kind: str, grammar: Any) -> Any:
        if kind == "json_schema":
            return lambda: JsonSchemaParser(grammar)
        if kind == "regex":
            return lambda: RegexParser(grammar)
        raise NotOffered(kind)

    def start(self, compiled: Any) -> Any:
        return State(TokenEnforcer(self.data, compiled()))

    def mask(self, state: Any) -> Words | None:
        found = state.enforcer.get_allowed_tokens(state.tokens)
        state.allowed = frozenset(getattr(found, "allowed_tokens", found))
        return None

    def bits(self, state: Any) -> Any:
        self.mask(state)
        bits = np.zeros(self.size, bool)
        bits[[token for token in state.allowed if token < self.size]] = True
        return bits

    def accept(self, state: Any, token: int) -> bool:
        if state.allowed is None:
            self.mask(state)
        there = token in state.allowed
        state.tokens.append(token)
        state.allowed = None
        return there

    def complete(self, state: Any) -> bool:
        if state.allowed is None:
            self.mask(state)
        return self.end in state.allowed


ENGINE = LMFormatEnforcer
