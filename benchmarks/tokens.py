"""The embedded model's tokenizer, for cutting texts to exact lengths."""

from __future__ import annotations

from pathlib import Path

from ramify.runtime.text.tokenizer import tokenizer_of_gguf
from ramify.runtime.weights.gguf_file import read_gguf


class ModelTokenizer:
    """Token ids of a text: chat markers in it are recognised, nothing is added in front or behind."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = tokenizer_of_gguf(read_gguf(path), path.name)

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False, special_text=True)
