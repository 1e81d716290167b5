"""Stopping: against a brute-force reading of the whole text, however it is cut into tokens; nothing shown too early."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ramify.errors import InvalidRequest
from ramify.runtime.sampling.params import SamplingParams
from ramify.runtime.scheduling.finish import Finish
from ramify.runtime.text.detokenizer import Detokenizer
from ramify.runtime.text.stop_regex import MAX_STATES, RegexSearch, compile_stop_regex
from ramify.runtime.text.stop_strings import StringSearch
from ramify.runtime.text.stopping import Stopping

EOS = 1_000_000


class Spelled:
    """A tokenizer that is a list of the bytes of each token; everything beyond it is special and has no text."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces
        self.special_ids = frozenset([EOS])

    def token_bytes(self, token: int, /) -> bytes:
        return self.pieces[token]

    def decode(self, tokens: Sequence[int], /, *, skip_special_tokens: bool = True) -> str:
        return b"".join(self.pieces[token] for token in tokens if token != EOS).decode("utf-8", "replace")


def stopping(pieces: Sequence[str | bytes], room: int = 10**6, **params: Any) -> Stopping:
    spelled = Spelled([piece.encode() if isinstance(piece, str) else piece for piece in pieces])
    return Stopping(SamplingParams(**params), Detokenizer(spelled), eos_tokens=[EOS], room=room)


class Outcome(NamedTuple):
    text: str
    finish: Finish | None
    shown: list[str]  # after each token


def run(one: Stopping, tokens: Sequence[int]) -> Outcome:
    """Feed the tokens until the end, taking the text after each."""
    shown = []
    finish = None
    for token in tokens:
        finish = one.push([token])
        shown.append(one.take())
        if finish is not None:
            break
    if finish is None:
        one.close()
        shown.append(one.take())
    assert one.take() == ""
    return Outcome("".join(shown), finish, shown)


def whole(pieces: Sequence[str | bytes], **params: Any) -> Outcome:
    return run(stopping(pieces, **params), range(len(pieces)))


def expected(pieces: Sequence[str], strings: Sequence[str], regex: str | None, minimum: int, include: bool) -> Outcome:
    """The definition itself: of all matches that end in the text of token `minimum` or later, the first to end."""
    text = "".join(pieces)
    first_end = len("".join(pieces[: max(0, minimum - 1)]))
    for end in range(first_end + 1, len(text) + 1):
        starts = [end - len(string) for string in strings if text[:end].endswith(string)]
        if regex is not None:
            starts += [start for start in range(end) if re.compile(regex).fullmatch(text, start, end)]
        if starts:
            start = min(starts)
            return Outcome(text[: end if include else start], Finish("stop", matched=text[start:end]), [])
    return Outcome(text, None, [])


LETTERS = st.text("ab", max_size=3)
PIECES = st.lists(LETTERS, max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)
REGEXES = st.recursive(
    st.sampled_from(["a", "b", "[ab]", ".", "[^a]", "(?i:A)"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?", "{2,}"])).map(
            lambda two: f"({two[0]}){two[1]}"
        ),
    ),
    max_leaves=5,
).filter(lambda regex: not re.fullmatch(regex, ""))


@settings(max_examples=300, deadline=None)
@given(PIECES, STOPS, st.none() | REGEXES, st.integers(0, 6), st.booleans())
def test_against_brute_force(
    pieces: list[str], stops: list[str], regex: str | None, minimum: int, include: bool
) -> None:
    params = {"stop": stops, "stop_regex": regex, "min_tokens": minimum, "include_stop": include}
    outcome = whole(pieces, **params)
    wanted = expected(pieces, tuple(dict.fromkeys(stops)), regex, minimum, include)
    assert (outcome.text, outcome.finish) == (wanted.text, wanted.finish)


@settings(max_examples=200, deadline=None)
@given(PIECES, PIECES, STOPS, st.none() | REGEXES)
def test_what_is_shown_stays_true_whatever_follows(
    pieces: list[str], others: list[str], stops: list[str], regex: str | None
) -> None:
    """Text taken before the end is the beginning of the final text for every continuation, and not too little."""
    one = stopping([*pieces, *others], stop=stops, stop_regex=regex)
    taken = ""
    for index in range(len(pieces)):
        finish = one.push([index])
        taken += one.take()
        if finish is not None:
            return
    assert expected([*pieces, *others], stops, regex, 0, False).text.startswith(taken)
    if regex is None:
        text = "".join(pieces)
        held = [size for stop in stops for size in range(len(stop)) if text.endswith(stop[:size])]
        assert taken == text[: len(text) - max(held, default=0)], "exactly what can still become a stop is held back"


ENDINGS = ["".join(letters) for size in range(4) for letters in itertools.product("abc", repeat=size)]


@pytest.mark.parametrize("regex", ["abca?b", "a(b|cc)+a", "aab|bc{2}a", "[ab]c.b", "ab.*ca", "(aab|b)c"])
def test_what_a_regex_holds_back(regex: str) -> None:
    """From the first place where some ending could complete a match: no character less, and none more."""
    compiled = compile_stop_regex(regex)
    chance = random.Random(0)
    for _ in range(100):
        search, text = RegexSearch(compiled), ""
        for letter in chance.choices("abc", k=12):
            text += letter
            if search.feed(letter) is not None:
                break
            alive = [i for i in range(len(text)) if any(re.fullmatch(regex, text[i:] + end) for end in ENDINGS)]
            assert search.held == len(text) - min(alive, default=len(text))


@settings(max_examples=100, deadline=None)
@given(PIECES, STOPS, st.none() | REGEXES)
def test_several_tokens_at_once_end_at_the_same_one(pieces: list[str], stops: list[str], regex: str | None) -> None:
    single, batch = (stopping(pieces, stop=stops, stop_regex=regex) for _ in range(2))
    outcome = run(single, range(len(pieces)))
    finish = batch.push(range(len(pieces)))
    batch.close()
    assert (batch.take(), finish, batch.count) == (outcome.text, outcome.finish, single.count)


def test_the_brute_force_notices_a_search_inside_tokens_only() -> None:
    pieces = ["a", "b"]
    naive = next((piece.partition("ab")[0] for piece in pieces if "ab" in piece), "".join(pieces))
    assert naive != expected(pieces, ["ab"], None, 0, False).text == whole(pieces, stop="ab").text


def test_across_and_inside_tokens() -> None:
    outcome = whole(["Hel", "lo", " wo", "rld", "!"], stop="lo wor")
    assert outcome == Outcome("Hel", Finish("stop", matched="lo wor"), ["He", "l", "", ""])
    assert whole(["Hello world"], stop=" ").text == "Hello"
    assert whole(["ab", "cd"], stop=["bc"], include_stop=True).text == "abc"


def test_a_false_start_is_shown_later() -> None:
    assert whole(["x<", "/", "en", "x"], stop="</end>").shown == ["x", "", "", "</enx", ""]


def test_ends_by_token() -> None:
    pieces = ["a", "b"]
    assert run(stopping(pieces), [0, EOS, 1]) == Outcome("a", Finish("stop"), ["a", ""])
    assert run(stopping(pieces, stop_token_ids=[1]), [0, 1]) == Outcome("a", Finish("stop", matched=1), ["a", ""])
    assert run(stopping(pieces, stop_token_ids=[1], include_stop=True), [0, 1]).text == "ab"
    assert run(stopping(pieces, ignore_eos=True), [0, EOS, 1]).finish is None
    assert run(stopping(pieces, ignore_eos=True, stop_token_ids=[EOS]), [0, EOS]).finish == Finish("stop", matched=EOS)


def test_ends_by_length() -> None:
    assert run(stopping(["a"] * 9, max_tokens=3), range(9)) == Outcome("aaa", Finish("length"), ["a"] * 3)
    assert run(stopping(["a"] * 9, max_tokens=5, room=2), range(9)).text == "aa"
    assert run(stopping(["a"] * 9, room=2), range(9)).finish == Finish("length")
    assert stopping(["a"], max_tokens=0).push([]) == Finish("length")
    assert stopping(["a"]).push([]) is None
    assert run(stopping(["a", "b"], max_tokens=2, stop="b"), range(2)).finish == Finish("stop", matched="b")


def test_what_is_held_back_comes_with_the_end() -> None:
    assert run(stopping(["a<", b"\xf0\x9f"], max_tokens=2, stop="<end>"), range(2)).text == "a<\ufffd"
    assert run(stopping(["a<", b"\xf0\x9f"], stop="<end>"), [0, 1, EOS]).text == "a<\ufffd"
    aborted = run(stopping(["a<", b"\xf0\x9f"], stop="<end>"), [0, 1])
    assert aborted == Outcome("a<\ufffd", None, ["a", "", "<\ufffd"])


def test_min_tokens_puts_off_every_stop() -> None:
    assert run(stopping(["a", "b"], min_tokens=3), [EOS, EOS, EOS, EOS]).shown == [""] * 4
    one = stopping(["a", "b"], min_tokens=2, stop_token_ids=[1])
    assert [one.push([token]) for token in (1, EOS, 1)] == [None, None, Finish("stop", matched=1)]
    assert whole(["a", "a", "b", "a"], min_tokens=3, stop="a").text == "aab"
    assert whole(["a", "b", "c"], min_tokens=2, stop="ab").text == "", "a stop may begin before"


CLASSES = [r"\d", r"\W", r"[^\w\s]", r"[a-fx\-\]^]", ".", r"(?s:.)", "(?i:ß)", "(?i:[à-ü])", r"(?a:\w)", "[^\n]", "İ"]


@pytest.mark.parametrize("regex", CLASSES)
def test_characters_are_those_of_re(regex: str) -> None:
    characters = [chr(code) for code in (*range(0x300), 0x660, 0x1E9E, 0x2028, 0x4E00, 0x1F600)]
    for character in characters:
        found = RegexSearch(compile_stop_regex(regex)).feed(character)
        assert (found is not None) == bool(re.fullmatch(regex, character)), repr(character)


REFUSED = {
    "look-ahead": "a(?=b)",
    "look-behind": "(?<!a)b",
    "start": "^a",
    "end": "a$",
    "word boundary": r"\ba",
    "back-reference": r"(a)\1",
    "conditional": r"(a)?(?(1)b|c)",
    "atomic": "(?>a|ab)c",
    "possessive": "a++b",
    "empty": "a*",
    "empty branch": "a|",
    "unclosed": "(a",
    "count": "a{999999999}",
    "count beyond numbers": "a{99999999999999999999}",
    "count of counts": "(((a{100}){100}){100}){100}",
    "unknown escape": r"\q",
}


@pytest.mark.parametrize("regex", REFUSED.values(), ids=REFUSED)
def test_refused_expressions(regex: str) -> None:
    with pytest.raises(InvalidRequest, match="stop_regex"):
        SamplingParams(stop_regex=regex)


@pytest.mark.parametrize("depth", [50, 300, 499])
def test_deep_nesting_is_served_or_refused(depth: int) -> None:
    try:
        assert whole(["xaa"], stop_regex="(" * depth + "a" + ")" * depth).text == "x"
    except InvalidRequest:
        assert depth > 100


HARD = ["(a+)+c", "(a|a)*c", "(a?){99}a{99}c", "(.*)*c", "a.*b.*c.*d", "(a|b)*a(a|b){20}c", "[ab]{1,200}c"]


@pytest.mark.parametrize("regex", HARD)
def test_no_expression_explodes(regex: str) -> None:
    """Expressions that hang a backtracking search, or have millions of deterministic states, stay small here."""
    compiled = compile_stop_regex(regex)
    search = RegexSearch(compiled)
    for _ in range(40):
        assert search.feed("ab" * 5) is None
        assert len(search._threads) <= MAX_STATES
    assert search.feed("a" * 300 + "c d") is not None


def test_near_matches_forever() -> None:
    """10,000 tokens that all but match a stop string: every character is compared a constant number of times."""
    stop = "a" * 999 + "b"
    one = stopping(["aaaa"], stop=[stop, *("a" * size + "c" for size in range(1, 20))])
    taken = 0
    for _ in range(10_000):
        assert one.push([0]) is None
        taken += len(one.take())
    assert taken == 40_000 - 999
    assert one._searches[0].held == 999


def test_failure_links_are_as_few_steps_as_they_should_be() -> None:
    class Counting(str):
        __slots__ = ("looks",)

        def __getitem__(self, index: Any) -> str:
            self.looks = getattr(self, "looks", 0) + 1
            return super().__getitem__(index)

    search = StringSearch(["a" * 50 + "b"])
    counted = Counting(search._strings[0])
    search._strings = (counted,)
    for _ in range(100):
        search.feed("a" * 49 + "c")
    assert counted.looks <= 4 * 100 * 50
