"""A vocabulary of single bytes and one end token: what a grammar accepts, with no tokenizer in the way."""

from __future__ import annotations

import random

from ramify.grammars import Grammar, Vocabulary

END = 256
BYTES = Vocabulary([bytes([byte]) for byte in range(256)] + [None], [END])


def accepts(grammar: Grammar, text: str | bytes) -> bool:
    """Whether this is a whole text of the grammar."""
    matcher = grammar.matcher(BYTES)
    return matcher.accept_bytes(text.encode() if isinstance(text, str) else text) and matcher.accepting


def begins(grammar: Grammar, text: str) -> bool:
    """Whether a text of the grammar may begin like this."""
    return grammar.matcher(BYTES).accept_bytes(text.encode())


def walk(grammar: Grammar, chance: random.Random, length: int = 400) -> bytes | None:
    """A random text by masks alone, ended when it may; None when it was not done after `length` bytes.

    Fails when it is stuck: nothing is allowed, and the text is not complete.
    """
    matcher = grammar.matcher(BYTES)
    text = bytearray()
    for _ in range(length):
        ids = matcher.allowed(10_000)
        assert ids is not None and len(ids), f"stuck after {bytes(text)!r}"
        token = int(chance.choice(ids)) if END not in ids or chance.random() < 0.7 else END
        assert matcher.accept(token)
        if token == END:
            return bytes(text)
        text.append(token)
    return None
