"""Outputs rewritten at their end, as forced text does it: stops and text are those of the final bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from ramify.runtime.sampling.params import SamplingParams
from ramify.runtime.scheduling.finish import Finish
from ramify.runtime.text.detokenizer import Detokenizer
from ramify.runtime.text.stopping import Stopping


class Spelled:
    """A tokenizer that is a list of the bytes of each token."""

    special_ids: frozenset[int] = frozenset()

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces

    def token_bytes(self, token: int, /) -> bytes:
        return self.pieces[token]

    def decode(self, tokens: Sequence[int], /, *, skip_special_tokens: bool = True) -> str:
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")


ALPHABET = [b"a", b"b", b"ab", b"ba", b"aab", b"bbb", *(bytes([one]) for one in "é🙂".encode()), "é".encode(), b" "]


def stopping(params: SamplingParams) -> Stopping:
    return Stopping(params, Detokenizer(Spelled(ALPHABET)), eos_tokens=[], room=1000)


def spell(data: bytes, chooser: random.Random) -> list[int]:
    """Some tokens with these bytes."""
    tokens = []
    while data:
        fitting = [i for i, piece in enumerate(ALPHABET) if data.startswith(piece)]
        tokens.append(chooser.choice(fitting))
        data = data[len(ALPHABET[tokens[-1]]) :]
    return tokens


def outcome(one: Stopping, shown: list[str]) -> tuple[str, Finish | None]:
    one.close()
    return "".join([*shown, one.take()]), one.push([])


@pytest.mark.parametrize("seed", range(400))
def test_rewriting_is_as_if_the_final_tokens_had_come_one_by_one(seed: int) -> None:
    chooser = random.Random(seed)
    params = SamplingParams(
        stop=chooser.choice([[], ["abb"], ["é a", "bba"], ["🙂"]]),
        stop_regex=chooser.choice([None, None, "a{3}b?"]),
        include_stop=chooser.random() < 0.5,
    )
    one, output, shown = stopping(params), list[int](), list[str]()
    finish: Finish | None = None
    while finish is None and len(output) < 30:
        if output and chooser.random() < 0.5:
            drop = chooser.randint(0, min(4, len(output)))
            old = b"".join(ALPHABET[token] for token in output[len(output) - drop :])
            data = b"".join(ALPHABET[chooser.choice([0, 1, 2, 10, 11])] for _ in range(chooser.randint(1, 4)))
            tokens = spell(old + data, chooser)
            before = len(output) - drop
            finish = one.rewrite(drop, tokens, len(data))
            output = [*output[:before], *tokens[: one.count - before]]
        else:
            token = chooser.randrange(len(ALPHABET))
            output.append(token)
            finish = one.push([token])
        shown.append(one.take())
        assert one.count == len(output)
    text, _ = outcome(one, shown)

    plain, pieces = stopping(params), list[str]()
    expected: Finish | None = None
    for token in output:
        expected = expected or plain.push([token])
        pieces.append(plain.take())
    reference, _ = outcome(plain, pieces)
    assert text == reference
    assert finish == expected


def test_a_grammars_end_comes_after_stops_and_before_the_limit() -> None:
    for stop, limit, reason, matched in ((["b"], 9, "stop", "b"), ([], 2, "stop", None), ([], 9, "stop", None)):
        one = stopping(SamplingParams(stop=stop, max_tokens=limit))
        first = one.push([0, 1])
        finish = one.end(Finish("stop"))
        assert (finish.reason, finish.matched) == (reason, matched)
        assert first is None or first.reason in ("stop", "length")
        assert one.take() == ("a" if stop else "ab")
