"""What an adapter of an engine offers to the worker, and the tokenizer that all of them are given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]


class NotOffered(Exception):
    """The engine has no such kind of grammar."""


class Engine(ABC):
    """An engine with a tokenizer. States are the engine's own objects."""

    def __init__(self, tokenizer: Path) -> None:
        from tokenizers import Tokenizer

        self.file = tokenizer
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        vocabulary = self.tokenizer.get_vocab()
        self.size = max(vocabulary.values()) + 1
        self.special = sorted(self.tokenizer.get_added_tokens_decoder())
        self.end = next((vocabulary[name] for name in END_NAMES if name in vocabulary), self.special[0])

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with nothing added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    @abstractmethod
    def compile(self, kind: str, grammar: Any) -> Any:
        """A grammar of a kind (json_schema, regex, gbnf, lark). Raises whatever the engine does; NotOffered."""

    @abstractmethod
    def start(self, compiled: Any) -> Any:
        """The state before the first token."""

    @abstractmethod
    def mask(self, state: Any) -> Words | None:
        """The packed mask, as the engine gives it to a sampler; None when it works otherwise. This is what is timed."""

    def bits(self, state: Any) -> npt.NDArray[np.bool_]:
        """The same, by token."""
        words = self.mask(state)
        assert words is not None
        return np.unpackbits(words.view(np.uint8), bitorder="little")[: self.size].astype(bool)

    @abstractmethod
    def accept(self, state: Any, token: int) -> bool:
        """Go on; False when it is not allowed."""

    @abstractmethod
    def complete(self, state: Any) -> bool:
        """Whether the text may end here."""

    def forced(self, state: Any) -> str | list[int] | None:
        """Text (or tokens) that must come next, when the engine can say."""
        return None

    def jump(self, state: Any, output: list[int]) -> list[int] | None:
        """The output with the tokens behind it that need no step, when the engine itself says which."""
        return None


END_NAMES: Sequence[str] = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<|im_end|>", "<eos>")


def engine_class(name: str) -> type[Engine]:
    """The adapter by its name."""
    from importlib import import_module

    module = import_module(f"engines.{name}_engine")
    found: type[Engine] = module.ENGINE
    return found
