"""How a vocabulary spells bytes: read off the tokenizer's decoder, so that every token's exact bytes are known."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

TokenSpelling: TypeAlias = Callable[[str], bytes]
"""A token as the vocabulary spells it -> its bytes."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_alphabet() -> dict[str, int]:
    """GPT-2's way of writing bytes as printable characters: those that are printable stay, others move up from 256."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    alphabet = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}


def spelling_of(decoder: Mapping[str, Any]) -> TokenSpelling:
    """The spelling behind a decoder's definition (as in tokenizer.json); of an empty one, tokens are plain text."""
    steps = decoder.get("decoders", [decoder])
    kinds = {step.get("type") for step in steps}
    if "ByteLevel" in kinds:
        return _byte_level
    spaces = [str(step.get("replacement", "▁")) for step in steps if step.get("type") == "Metaspace"]
    for step in steps:
        pattern = step.get("pattern")
        if step.get("type") == "Replace" and isinstance(pattern, dict) and step.get("content") == " ":
            spaces.append(str(pattern.get("String")))
    fallback = "ByteFallback" in kinds

    def spelling(token: str) -> bytes:
        byte = _BYTE_TOKEN.fullmatch(token) if fallback else None
        if byte:
            return bytes([int(byte[1], 16)])
        for space in spaces:
            token = token.replace(space, " ")
        return token.encode()

    return spelling


_ALPHABET = byte_alphabet()


def _byte_level(token: str) -> bytes:
    try:
        return bytes([_ALPHABET[character] for character in token])
    except KeyError:  # not written in the alphabet, so it is what it says
        return token.encode()
