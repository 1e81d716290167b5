"""ramify's own grammars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ramify import grammars

from .protocol import Engine, Words


class Ramify(Engine):
    def __init__(self, tokenizer: Path) -> None:
        super().__init__(tokenizer)
        self.vocabulary = grammars.Vocabulary.of(self.tokenizer)
        grammars.json_value().matcher(
            self.vocabulary
        ).mask()  # the vocabulary is read and compiled once, as for the others

    def compile(self, kind: str, grammar: Any) -> Any:
        if kind == "json_schema":
            return grammars.json_schema(grammar)
        if kind == "regex":
            return grammars.regex(grammar)
        return grammars.gbnf(grammar)

    def start(self, compiled: Any) -> Any:
        return compiled.matcher(self.vocabulary)

    def mask(self, state: Any) -> Words | None:
        return state.mask()

    def accept(self, state: Any, token: int) -> bool:
        return state.accept(token)

    def complete(self, state: Any) -> bool:
        return state.accepting

    def forced(self, state: Any) -> str | list[int] | None:
        return state.forced().decode("utf-8", "ignore")


ENGINE = Ramify
