"""Options as a tree of tokens: every number is asked for, once, in as few requests as there are forks and endings."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import ramify
from hypothesis import given
from hypothesis import strategies as st
from ramify.lang.backends.base import ScoreCall
from ramify.lang.backends.engine import EngineBackend
from ramify.lang.backends.option_trie import OptionTrie

from .conftest import waited

OPTIONS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=12)


def logprob(before: Sequence[int], token: int) -> float:
    """What a model might think: depends on everything before."""
    return -(hash((*before, token)) % 1000) / 100


def answered(options: Sequence[Sequence[int]]) -> tuple[OptionTrie, int]:
    """The tree, its questions answered by the model, and how many tokens that took."""
    trie = OptionTrie(options)
    questions = trie.questions()
    for question in questions:
        tokens = question.tokens
        start = len(tokens) - len(question.stretch)
        stretch = [logprob(tokens[:at], tokens[at]) for at in range(start, len(tokens))]
        question.answer(
            stretch, {token: logprob(tokens, token) for token in range(10_000 if len(options) > 20 else 10)}
        )
    return trie, len(questions)


@given(OPTIONS)
def test_every_option_gets_its_numbers(options: list[list[int]]) -> None:
    trie, requests = answered(options)
    assert trie.rows() == [tuple(logprob(one[:at], one[at]) for at in range(len(one))) for one in options]
    assert requests <= 1 + len({tuple(one) for one in options}) + sum(len(one) > 1 for one in options)


@given(OPTIONS)
def test_no_number_is_asked_for_twice(options: list[list[int]]) -> None:
    trie = OptionTrie(options)
    told = []
    for question in trie.questions():
        told += [id(place) for place in question.stretch]
        told += [id(below) for below in question.place.below.values()]
    assert len(told) == len(set(told))
    assert len(told) == len({tuple(one[:end]) for one in options for end in range(1, len(one) + 1)})


def test_what_is_shared_is_asked_once() -> None:
    digits = [[9, number // 100, number // 10 % 10, number % 10] for number in range(1000)]
    assert answered(digits)[1] == 1 + 1 + 10 + 100, "one for each place where options part, and not 1000"
    assert answered([[1, 2, 3], [1, 2, 4], [1, 5]])[1] == 3
    assert answered([[1], [2], [3]])[1] == 1, "single tokens are all judged by the prompt's own last numbers"
    assert answered([[1, 2, 3, 4, 5]])[1] == 2


@pytest.mark.parametrize("options", [("a", "ab", "abc", "abd", "a b"), (" fox jumps", " fox", " dog", " fox jumped")])
def test_the_engine_gives_the_same_as_one_by_one(options: tuple[str, ...], tiny: ramify.Engine) -> None:
    stream = EngineBackend(tiny).stream()
    stream.append("The quick brown")
    told = waited(lambda done: stream.score(ScoreCall(options, True), done))
    for option, score in zip(options, told.scores, strict=True):
        alone = waited(lambda done, one=option: stream.score(ScoreCall((one,), True), done)).scores[0]
        assert score.token_ids[-len(alone.token_ids) :] == alone.token_ids
        assert score.logprobs[-len(alone.logprobs) :] == pytest.approx(alone.logprobs, abs=1e-5)


def test_cancelling_ends_the_call_with_an_error(tiny: ramify.Engine) -> None:
    stream = EngineBackend(tiny).stream()
    stream.append("The quick brown fox jumps over the lazy dog " * 8)
    options = tuple(f" {number} and {number * 7}" for number in range(300))
    cancels = []

    def start(done: object) -> None:
        cancels.append(stream.score(ScoreCall(options), done))  # type: ignore[arg-type]
        cancels[0]()

    assert "cancelled" in str(waited(start, error=True))
    assert len(waited(lambda done: stream.score(ScoreCall(options[:3]), done)).scores) == 3
