"""The bytes of a byte-level tokenizer's tokens."""

from __future__ import annotations

from .protocol import Engine


def spelled_tokens(engine: Engine) -> list[bytes | None]:
    """By id; None for special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}
    tokens: list[bytes | None] = [None] * engine.size
    special = set(engine.special)
    for text, token in engine.tokenizer.get_vocab().items():
        if token in special:
            continue
        known = all(letter in letters for letter in text)
        tokens[token] = bytes(letters[letter] for letter in text) if known else text.encode()
    return tokens
