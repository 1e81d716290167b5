"""Jumps by token truth: whatever a text goes on to be, its tokens are the tokenizer's own, and no choice is taken."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from ramify.grammars import Grammar, Vocabulary, choices, regex
from ramify.runtime.text.jump_forward import Jump, JumpForward, ends_within_a_character, whole_characters
from ramify.runtime.text.tokenizer import Tokenizer
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

TEXT = (
    'order orderId orderIds ordering name names {"order": 1, "orderId": 2} naïve café 日本語 🙂 🙂😀 the there then '
    "theretruethere renaïve 12 123 1234 true false (x) don't it's -- ... \n  \n    return\n\n\t\tindent yes no maybe "
)
# few letters in all orders: merges that overlap, so that a later letter changes tokens far before it
TANGLE = ["".join(random.Random(seed).choices("ethrn", k=3 + seed % 5)) for seed in range(80)]
WORDS = [*TEXT.split(" "), " ", "  ", " \n", "\n  ", "", '": ', '"', "or", "d", "\u00a0", "\u2003 ", *TANGLE[:30]]


def byte_level(splits: str, vocabulary: int = 700) -> Tokenizer:
    """A byte-pair tokenizer with one of the pre-tokenizers that models use."""
    backend = Backend(models.BPE())
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splits == "gpt2")
    backend.pre_tokenizer = {
        "gpt2": byte,
        "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte]),
        "none": byte,  # merges run across words and blanks
    }[splits]
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        [TEXT, *TANGLE] * 4,
        trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=["<eos>"]),
    )
    return Tokenizer(backend, name=splits, eos_ids=[0])


@pytest.fixture(scope="module", params=["gpt2", "digits", "none"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return byte_level(request.param)


class Scribe:
    """Writes a given text under a grammar as a model would that always chooses the tokenizer's next token."""

    def __init__(self, tokenizer: Tokenizer, jumps: JumpForward | None = None) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary.of(tokenizer)
        self.jumps = jumps or JumpForward(tokenizer, self.vocabulary.tokens)
        self.chosen = self.forced = self.narrowed = 0

    def write(self, grammar: Grammar, text: str) -> list[int]:
        """The tokens; raises AssertionError as soon as a jump makes them others than the text's own."""
        matcher, output = grammar.matcher(self.vocabulary), list[int]()
        right = self.tokenizer.encode_continuation(text)
        while not matcher.finished:
            jump = self.jumps.plan(matcher, output, 10_000)
            opening = None if jump is None else jump.opening
            if jump is not None and jump.tokens:
                before = self.spell(output)
                output = [*output[: len(output) - jump.drop], *jump.tokens]
                assert self.spell(output) == before + jump.data
                assert matcher.accept_bytes(jump.data) and matcher.finished == jump.ends
                assert output == right[: len(output)], (text, output, right)
                self.forced += len(jump.tokens) - jump.drop
            if len(output) == len(right):
                break
            token = right[len(output)]
            if opening is not None:
                self.narrowed += 1
                kept = self.jumps.narrowed(opening, np.array([token], np.int32))
                assert len(kept), f"{text!r}: {self.tokenizer.token_bytes(token)!r} was left out"
            assert matcher.accept(token), f"{text!r}: {self.tokenizer.token_bytes(token)!r} was taken from the model"
            output.append(token)
            self.chosen += 1
        assert output == right and matcher.accepting
        return output

    def spell(self, tokens: Sequence[int]) -> bytes:
        return b"".join(map(self.tokenizer.token_bytes, tokens))


def random_options(chooser: random.Random) -> list[str]:
    """Texts that share beginnings at every kind of place."""
    stem = "".join(chooser.choice(WORDS) for _ in range(chooser.randint(0, 4)))
    options = {
        stem + "".join(chooser.choice(WORDS) + chooser.choice(["", " "]) for _ in range(chooser.randint(1, 5)))
        for _ in range(chooser.randint(1, 6))
    }
    return sorted(options - {""}) or ["a"]


def many_texts(tokenizer: Tokenizer, count: int, jumps: JumpForward | None = None) -> Scribe:
    chooser = random.Random(count)
    scribe = Scribe(tokenizer, jumps)
    for _ in range(count):
        options = random_options(chooser)
        grammar = choices(options)
        for text in options:
            scribe.write(grammar, text)
    return scribe


def test_tokens_are_the_tokenizers_own_whichever_way_a_text_goes_on(tokenizer: Tokenizer) -> None:
    scribe = many_texts(tokenizer, 300)
    assert scribe.forced > scribe.chosen and scribe.narrowed > 20  # so that the test is about something


@pytest.mark.slow
def test_tokens_are_the_tokenizers_own_in_thousands_of_texts(tokenizer: Tokenizer) -> None:
    many_texts(tokenizer, 3_000)


class Naive(JumpForward):
    """What other engines did: the forced text encoded by itself, all of it."""

    def plan(self, matcher, output, room):  # type: ignore[no-untyped-def]
        text = whole_characters(matcher.forced())
        tokens = tuple(self._tokenizer.encode_continuation(text))
        after = matcher.copy()
        after.accept_bytes(text.encode())
        return Jump(0, tokens, text.encode(), after.finished) if text else None


class KeepsAll(JumpForward):
    """Joined with what is there, but nothing held back."""

    def _places(self, matcher, before, data):  # type: ignore[no-untyped-def]
        return [], False


class TrustsTheTokensBefore(JumpForward):
    """Held back by what could span the end, without asking how the text is encoded up to there."""

    def _encode(self, tail, text):  # type: ignore[no-untyped-def]
        whole = self.__dict__.setdefault("_whole", [])
        if whole and self._bytes(whole[-1]).startswith(self._bytes(tail) + text.encode()):
            size, kept = 0, []
            for token in whole[-1]:
                size += len(self._tokenizer.token_bytes(token))
                if size <= len(self._bytes(tail) + text.encode()):
                    kept.append(token)
            return kept
        whole.append(super()._encode(tail, text))
        return whole[-1]


class KeepsBlanks(JumpForward):
    """Does not know that a run of blanks is cut by what follows it."""

    def _places(self, matcher, before, data):  # type: ignore[no-untyped-def]
        places, _ = super()._places(matcher, before, data)
        return [place for place in places if self._spans(matcher, (before + data)[place + len(before) :])], False


class WritesOneWay(JumpForward):
    """Leaves the model only the way in which the text is encoded when nothing follows."""

    def _really_spans(self, text, start):  # type: ignore[no-untyped-def]
        return False


@pytest.mark.parametrize("wrong", [Naive, KeepsAll, TrustsTheTokensBefore, KeepsBlanks, WritesOneWay])
def test_each_weaker_rule_is_caught(wrong: type[JumpForward]) -> None:
    with pytest.raises(AssertionError):
        for splits in ("gpt2", "none"):
            tokenizer = byte_level(splits)
            many_texts(tokenizer, 1_000, wrong(tokenizer, Vocabulary.of(tokenizer).tokens))


def test_order_is_not_forced_while_order_id_is_one_token(tokenizer: Tokenizer) -> None:
    """The distortion that others met: forcing `order` takes `orderId` away from a model that would write it whole."""
    scribe = Scribe(tokenizer)
    whole = tokenizer.encode_continuation("orderId")
    grammar = regex(r'order(Id)?": 1')
    matcher = grammar.matcher(scribe.vocabulary)
    jump = scribe.jumps.plan(matcher, [], 100)
    assert jump is None or not jump.tokens or len(whole) > 1
    assert matcher.accept(whole[0])
    for text in ('order": 1', 'orderId": 1'):
        scribe.write(grammar, text)


def test_characters_of_several_bytes_stay_whole_for_the_tokenizer(tokenizer: Tokenizer) -> None:
    scribe = Scribe(tokenizer)
    for options in (["é", "è"], ["🙂 a", "😀 b"], ["日本語", "日本酒"], ["naïve", "naïf", "na🙂"]):
        for text in options:
            scribe.write(choices(options), text)


def test_after_half_a_character_nothing_is_forced(tokenizer: Tokenizer) -> None:
    scribe = Scribe(tokenizer)
    matcher = choices(["🤖x", "🤗y"]).matcher(scribe.vocabulary)
    halves = "🤖".encode()
    tokens = [next(i for i, token in enumerate(scribe.vocabulary.tokens) if token == bytes([one])) for one in halves]
    output: list[int] = []
    for token in tokens[:-1]:
        assert matcher.accept(token)
        output.append(token)
        assert scribe.jumps.plan(matcher, output, 100) is None
    assert matcher.accept(tokens[-1])
    assert scribe.jumps.plan(matcher, [*output, tokens[-1]], 100) is not None


def test_the_room_is_kept(tokenizer: Tokenizer) -> None:
    scribe = Scribe(tokenizer)
    text = "return\n\n\t\tindent maybe naïve"
    matcher = choices([text]).matcher(scribe.vocabulary)
    tokens = tokenizer.encode_continuation(text)
    assert scribe.jumps.plan(matcher, [], len(tokens) - 1) is None
    jump = scribe.jumps.plan(matcher, [], len(tokens))
    assert jump is not None and jump.ends and list(jump.tokens) == tokens


def test_whole_characters() -> None:
    for text in ("", "a", "é", "日本", "🙂"):
        data = text.encode()
        for end in range(len(data) + 1):
            whole = whole_characters(data[:end])
            assert data.startswith(whole.encode()) and len(data[:end]) - len(whole.encode()) < 4
            assert ends_within_a_character(data[:end]) == (bool(end) and whole.encode() != data[:end])
    assert whole_characters(b"\xff\xfe\xfd\xfc\xfb") == ""
