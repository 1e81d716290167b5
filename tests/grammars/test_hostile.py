"""What comes from outside and means harm, or is just large: it works or is clearly refused, and nothing hangs."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from ramify.errors import GrammarError, GrammarTooLarge
from ramify.grammars import Grammar, Vocabulary, choices, ebnf, regex

from .bytewise import BYTES, accepts, begins, walk

CHANCE = random.Random(6)
WORDS = sorted({"".join(CHANCE.choices("abcdefgh", k=CHANCE.randint(3, 12))) for _ in range(20_000)})


@pytest.fixture(autouse=True)
def processor_time_is_limited() -> Iterator[None]:
    """A guard against running away, not a measurement: this much processor time is never needed."""

    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError("this takes more than 20 seconds of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, 20)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("(a+)+", "a" * 200, "a" * 200 + "b"),
        ("((a*)*)*b", "a" * 200 + "b", "a" * 200),
        ("(a|aa)+", "a" * 200, "a" * 199 + "b"),
        ("(x+x+)+y", "x" * 200 + "y", "x" * 200),
        (".*a.{14}", "b" * 50 + "a" + "c" * 14, "b" * 50 + "a" + "c" * 13),
        ("(.*a.{14})|(.*b.{15})", "ab" * 40 + "a", "c" * 80),
        ("(a{1,1000}){1,1000}", "a" * 3000, "a" * 3000 + "b"),
        ("((a{1,9}){1,9}){1,9}", "a" * 729, "a" * 730),
        ("a{5000}", "a" * 5000, "a" * 4999),
        ("(ab?){2,3000}", "ab" * 3000, "ab" * 3001),
        ("(" * 3000 + "a" + ")" * 3000, "a", "b"),
        ("(a" * 3000 + ")" * 3000, "a" * 3000, "a" * 2999),
        ("(" * 3000 + "a" + ")*" * 3000, "aaa", "b"),
        ("|".join(WORDS), WORDS[777], WORDS[777] + "zz"),
        (r"a\x00b", "a\0b", "ab"),
        (r"[\ud800-\udfff]?a", "a", "\u0001a"),
        (r"(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])(?!.*(.)x)[\w!]{8,64}", "aB3" + "c" * 8, "ab3" + "c" * 8),
        (r"(?!(?:a|b)*c).*", "abab", "abac"),
        (r"(?<!a)b|(?<=a)c", "b", "c"),
        (r"((?!foo).)*", "fofo", "fofoo"),
        ("", "", "a"),
    ],
    ids=range(21),
)
def test_patterns_that_work(pattern: str, good: str, bad: str) -> None:
    grammar = regex(pattern)
    assert accepts(grammar, good) and not accepts(grammar, bad)
    grammar.matcher(BYTES).mask()


def test_a_count_beyond_any_text() -> None:
    grammar = regex("a{999999999}")
    assert begins(grammar, "a" * 1000) and not accepts(grammar, "a" * 1000)
    assert grammar.matcher(BYTES).allowed(2) is not None


@pytest.mark.parametrize(
    ("pattern", "error", "says"),
    [
        ("(a|b" * 3000 + ")" * 3000, GrammarTooLarge, "nests deeper"),
        ("(a" * 3000 + ")*" * 3000, GrammarTooLarge, "nests deeper"),
        ("a" * ((1 << 20) + 1), GrammarTooLarge, "characters"),
        (r"[^\s\S]", GrammarError, "no text at all"),
        (r"a(?!)", GrammarError, "no text at all"),
        (r"\ud800", GrammarError, "no text at all"),
        (r"(a)\1", GrammarError, "back-reference"),
        (r"(?P<a>x)(?P=a)", GrammarError, "back-reference"),
        (r"(a)(?(1)b|c)", GrammarError, "conditional"),
        (r"(?R)?", GrammarError, "recursive"),
        (r"((?!\w{9}[a-f]{9}x)\w)*(?:(?<=[a-d]{30}.)\w)*y", GrammarTooLarge, "look-around"),
        ("(?:^|,)" * 300 + "a", GrammarTooLarge, "too many ways"),
    ],
    ids=range(12),
)
def test_patterns_that_are_refused(pattern: str, error: type[GrammarError], says: str) -> None:
    with pytest.raises(error, match=says):
        regex(pattern)


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(?=[ab]*c)[ab]*", r"(?!a*$)a+"])
def test_a_language_that_turns_out_empty(pattern: str) -> None:
    with pytest.raises(GrammarError, match=r"no text|empty"):
        regex(pattern).matcher(BYTES)


def test_a_language_that_no_token_can_spell() -> None:
    vocabulary = Vocabulary([b"a", b"b", None], [2])
    matcher = regex("[xy]+").matcher(vocabulary)
    with pytest.raises(GrammarError, match="no token"):
        matcher.mask()
    assert not matcher.accept(0) and not matcher.accepting


def test_thousands_of_choices() -> None:
    grammar = choices(WORDS[::5])
    assert all(accepts(grammar, word) for word in WORDS[::500])
    assert not accepts(grammar, "abc" * 20)
    assert walk(grammar, random.Random(1)) is not None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: choices([]), "at least one"),
        (lambda: choices(["a", 3]), "a str"),  # type: ignore[list-item]
        (lambda: choices(["\ud800"]), "surrogate"),
        (lambda: choices([""] * 200_001), "at most"),
        (lambda: regex(3), "is a str"),  # type: ignore[arg-type]
        (lambda: ebnf(None), "is a str"),  # type: ignore[arg-type]
    ],
)
def test_arguments_that_are_refused(make: Callable[[], Grammar], says: str) -> None:
    with pytest.raises(GrammarError, match=says):
        make()


def test_choices_of_odd_texts() -> None:
    grammar = choices(["", "a\0b", "\n", "é", "日本", "\ud800x", "a\0b"])
    for text in ("", "a\0b", "\n", "é", "日本"):
        assert accepts(grammar, text)


def test_the_callers_own_recursion_does_not_matter() -> None:
    """What is read near the limit of the caller's stack is read, or refused, but raises no RecursionError."""

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            regex("(a|(b|(c|(d|e)*)*)*)*")

    deep(max(sys.getrecursionlimit() - 400, 0))
