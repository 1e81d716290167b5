"""What a mock says when nobody told it what to say: words that depend on the prompt alone, and obey what is asked."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from functools import lru_cache

from ...errors import BackendError
from ...grammars.compiling import compile_grammar
from ...grammars.grammar import Grammar
from ...grammars.machine.matcher import Matcher
from ...grammars.vocabulary import Vocabulary
from ..sampling import Constraint, Sampling

_WORDS = (
    *(
        "amber",
        "bridge",
        "cloud",
        "delta",
        "ember",
        "field",
        "grove",
        "harbor",
        "island",
        "juniper",
        "kettle",
        "lantern",
    ),
    *(
        "meadow",
        "north",
        "orchard",
        "pebble",
        "quiet",
        "river",
        "stone",
        "timber",
        "under",
        "valley",
        "willow",
        "yonder",
    ),
)
_MOST_BYTES = 4_096  # of a text that a constraint shapes
_TOKENS = re.compile(r"\s*\S+|\s+$")


def tokens(text: str) -> list[str]:
    """A text cut into a mock's tokens: words with the space before them."""
    return _TOKENS.findall(text)


def token_id(token: str) -> int:
    """A stable id for a mock's token."""
    return int.from_bytes(hashlib.blake2b(token.encode(errors="replace"), digest_size=3).digest(), "big")


def dice(*seeds: object) -> random.Random:
    """A generator of random numbers that depends on nothing but `seeds`."""
    digest = hashlib.blake2b(repr(seeds).encode(errors="replace"), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


def pseudo_text(prompt: str, sampling: Sampling, constraint: Constraint | None, index: int) -> str:
    """A deterministic text for this prompt, seed and index of n."""
    throw = dice(prompt, sampling.seed, index)
    if constraint is not None:
        return obeying(constraint, throw)
    most = 128 if sampling.max_new_tokens is None else sampling.max_new_tokens
    least = sampling.min_new_tokens or 0
    count = min(most, max(least, throw.randint(3, 9)))
    return "".join(f" {throw.choice(_WORDS)}" for _ in range(count))


def obeying(constraint: Constraint, throw: random.Random) -> str:
    """A text that the constraint allows, found by walking its grammar byte by byte."""
    if constraint.kind == "choices":
        return str(throw.choice(list(constraint.source)))
    matcher = _compiled(constraint).matcher(_bytes_vocabulary())
    written = bytearray()
    for _ in range(_MOST_BYTES):
        if matcher.accepting and (matcher.finished or throw.random() < 0.25):
            return written.decode(errors="replace")
        byte = _next_byte(matcher, throw, 0.5 + len(written) / 400)
        if byte is None:
            break
        written.append(byte)
    if matcher.accepting:
        return written.decode(errors="replace")
    raise BackendError(
        f"Mock: found no text of {_MOST_BYTES} bytes that the {constraint.kind} allows; give the mock a reply for it"
    )


def _next_byte(matcher: Matcher, throw: random.Random, eagerness: float) -> int | None:
    """A byte that is allowed, rather a letter, or, with this probability, one that closes something."""
    allowed = [token for token in _allowed(matcher) if token < 256]
    plain = [byte for byte in allowed if 0x20 <= byte < 0x7F]
    letters = [byte for byte in plain if chr(byte).isalnum()]
    closing = [byte for byte in plain if chr(byte) in '"}]),:']
    if closing and throw.random() < eagerness:
        quotes = letters and [byte for byte in closing if chr(byte) == '"']  # the end of a string, not its beginning
        options = quotes or [byte for byte in closing if chr(byte) != '"'] or closing
    else:
        options = letters or plain or allowed
    if not options:
        return None
    byte = throw.choice(options)
    return byte if matcher.accept(byte) else None


def _allowed(matcher: Matcher) -> Sequence[int]:
    few = matcher.allowed(512)
    assert few is not None
    return [int(token) for token in few]


@lru_cache(maxsize=1)
def _bytes_vocabulary() -> Vocabulary:
    return Vocabulary([*(bytes([byte]) for byte in range(256)), None], end_tokens=[256])


def _compiled(constraint: Constraint) -> Grammar:
    if isinstance(constraint.source, Grammar):
        return constraint.source
    return compile_grammar(constraint.kind, constraint.source)
