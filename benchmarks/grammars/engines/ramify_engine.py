"""ramify's own grammars."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ramify import grammars
from ramify.runtime.text.jump_forward import JumpForward
from ramify.runtime.text.tokenizer import Tokenizer

from .protocol import Engine, Words


class Ramify(Engine):
    order: Literal["schema", "any"] = "schema"

    def __init__(self, tokenizer: Path) -> None:
        super().__init__(tokenizer)
        self.vocabulary = grammars.Vocabulary.of(self.tokenizer)
        self.jumps = JumpForward(Tokenizer(self.tokenizer, name=tokenizer.name), self.vocabulary.tokens)
        grammars.json_value().matcher(
            self.vocabulary
        ).mask()  # the vocabulary is read and compiled once, as for the others

    def compile(self, kind: str, grammar: Any) -> Any:
        if kind == "json_schema":
            return grammars.json_schema(grammar, order=self.order)
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

    def jump(self, state: Any, output: list[int]) -> list[int] | None:
        """As the runtime does it, which asks the grammar what the tokens at the end of forced text may still become."""
        jump = self.jumps.plan(state, output, len(output) + 100_000)
        return output if jump is None else [*output[: len(output) - jump.drop], *jump.tokens]


ENGINE = Ramify
