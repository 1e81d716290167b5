"""API speculation never changes the text: off and on over a server whose text depends on the prompt alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import ramify as sgl
from hypothesis import given, settings
from hypothesis import strategies as st
from ramify.lang.backends.api import ApiBackend, Heard
from ramify.lang.backends.base import GenerateCall, Outcome
from ramify.lang.backends.meta import cut, meta_info, stopped
from ramify.lang.backends.openai import OpenAI
from ramify.lang.backends.speculation import Surplus, can_speculate, cut_out, first_stop, settings_of
from ramify.lang.backends.transcript import Transcript
from ramify.lang.sampling import Constraint, Sampling

from .conftest import waited
from .servers import STORY, next_text, openai, serving

Step = str | Sampling  # a constant, or a gen


class Local(ApiBackend):
    """The servers' model without a network. Its tokens are characters, or, if `pairs`, two of them."""

    name = "local"
    speculates = True

    def __init__(self, told: bool = True, pairs: bool = False) -> None:
        super().__init__()
        self.calls = 0
        self.told = told
        self.size = 2 if pairs else 1

    async def complete(self, said: Transcript, call: GenerateCall, heard: Heard | None) -> Outcome:
        self.calls += 1
        sampling = call.sampling
        stops = [sampling.stop] if isinstance(sampling.stop, str) else list(sampling.stop or ())
        text, reason = next_text(said.text(), self.size * (sampling.max_new_tokens or 10_000), stops)
        if heard is not None:
            heard(text)
        usage = {"completion_tokens": -(-len(text) // self.size)} if self.told else {}
        return Outcome((text,), (meta_info(usage, stopped() if reason == "stop" else cut(len(text))),))


@pytest.fixture(scope="module")
def local() -> Local:
    return Local()


def run(backend: ApiBackend, steps: Sequence[Step], speculate: int | None) -> list[str]:
    """The texts of the gens."""
    stream = backend.stream()
    texts = []
    for step in steps:
        if isinstance(step, str):
            stream.append(step)
        else:
            heard: list[str] = []
            call = GenerateCall(step, speculate=speculate, stream=True)
            outcome = waited(lambda done: stream.generate(call, done, heard.append))  # noqa: B023 - it is waited for
            assert "".join(heard) == outcome.texts[0]
            texts.append(outcome.texts[0])
    return texts


LINE = Sampling(max_new_tokens=64, temperature=0.0, stop="\n")
FORM: list[Step] = ["Name:", LINE, "\nBorn:", LINE, "\nDied:", LINE]


def test_one_call_answers_a_whole_form(local: Local) -> None:
    local.calls = 0
    assert run(local, FORM, None) == [" Ada", " 1815", " 1852"] and local.calls == 3
    local.calls = 0
    assert run(local, FORM, 60) == [" Ada", " 1815", " 1852"] and local.calls == 1


def test_a_constant_that_disagrees_costs_a_call_and_changes_nothing(local: Local) -> None:
    steps: list[Step] = ["Name:", LINE, "\nDied:", LINE, "\nName:", LINE]
    local.calls = 0
    assert run(local, steps, 60) == run(local, steps, None)
    assert local.calls == 3 + 2, "the second gen asked anew; its surplus answered the third"


PIECES = ["Name:", "\nBorn:", "\nDied:", "\n", " ", "Ada", " Alan", "\nName: Alan\n", "15", "zzz"]
GENS = st.builds(
    Sampling,
    max_new_tokens=st.sampled_from([None, 1, 2, 3, 5, 8, 16, 40]),
    stop=st.sampled_from([None, "\n", ("\n", "1"), "15", ("18", "81"), "Ada", " ", ("a\n", "\n"), ""]),
    temperature=st.sampled_from([0.0, 0.7]),
    frequency_penalty=st.sampled_from([None, 0.0, 0.5]),
    seed=st.sampled_from([None, 7]),
)


@settings(max_examples=300)
@given(
    st.lists(st.one_of(st.sampled_from(PIECES), GENS), min_size=2, max_size=8),
    st.sampled_from([1, 4, 16, 60, 500]),
    st.booleans(),
    st.booleans(),
)
def test_off_and_on_give_the_same_text(steps: list[Step], speculate: int, told: bool, pairs: bool) -> None:
    backend = _local(told, pairs)
    assert run(backend, ["Name:", *steps], speculate) == run(backend, ["Name:", *steps], None)


_LOCALS: dict[tuple[bool, bool], Local] = {}


def _local(told: bool, pairs: bool) -> Local:
    return _LOCALS.setdefault((told, pairs), Local(told, pairs))


def test_the_comparison_would_see_a_wrong_surplus(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a surplus that is used where the constant disagrees changes the text."""
    monkeypatch.setattr(Surplus, "after", lambda self, constant: self)
    assert run(local, FORM, 60) != run(local, FORM, None)


def test_the_comparison_would_see_tokens_beyond_the_limit(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramify.lang.backends.speculation._fits", lambda *_: True)
    steps: list[Step] = ["Name:", replace(LINE, max_new_tokens=2)]
    assert run(local, steps, 60) != run(local, steps, None)


def test_over_http_both_apis() -> None:
    with serving(openai) as server:
        for chat in (False, True):
            backend = OpenAI("m", is_chat_model=chat, base_url=server.url, continues=True)
            server.asked.clear()
            off = _over(backend, chat, None)
            assert len(server.asked) == 3
            server.asked.clear()
            assert _over(backend, chat, 60) == off == [" Ada", " 1815", " 1852"]
            assert len(server.asked) == 1, "one request for the whole form"
            backend.close()


def test_a_chat_that_cannot_go_on_needs_speculation() -> None:
    with serving(openai) as server:
        backend = OpenAI("m", is_chat_model=True, base_url=server.url)
        stream = backend.stream()
        stream.start_role("user")
        stream.append("Tell me of them. Name:")
        stream.end_role("user")
        stream.start_role("assistant")
        first = waited(lambda done: stream.generate(GenerateCall(LINE, speculate=60), done))
        assert first.texts == (" Ada",)
        stream.append("\nBorn:")
        assert waited(lambda done: stream.generate(GenerateCall(LINE, speculate=60), done)).texts == (" 1815",)
        assert len(server.asked) == 1
        error = waited(lambda done: stream.generate(GenerateCall(LINE), done), error=False)
        assert error.texts == ("",), "the surplus begins with the stop"
        stream.append(" never said ")
        refused = waited(lambda done: stream.generate(GenerateCall(LINE), done), error=True)
        assert "num_api_spec_tokens" in str(refused)
        refused = waited(lambda done: stream.generate(GenerateCall(LINE, speculate=60), done), error=True)
        assert "does not follow the program" in str(refused)
        backend.close()


def test_a_program_says_how_far_to_speculate() -> None:
    def form(s: sgl.ProgramState) -> None:
        s += sgl.user("Tell me. Name:")
        with s.assistant():
            s += sgl.gen("name", stop="\n", temperature=0) + "\nBorn:" + sgl.gen("born", stop="\n", temperature=0)

    with serving(openai) as server:
        backend = OpenAI("m", base_url=server.url, continues=True)
        plain = sgl.function(form).run(backend=backend)
        assert (plain["name"], plain["born"], len(server.asked)) == (" Ada", " 1815", 2)
        ahead = sgl.function(num_api_spec_tokens=60)(form).run(backend=backend)
        assert ahead.text() == plain.text() and len(server.asked) == 2 + 1
        assert ahead.get_meta_info("born")["usage"]["speculated_tokens"] == 5
        backend.close()


def _over(backend: OpenAI, chat: bool, speculate: int | None) -> list[str]:
    stream = backend.stream()
    if chat:
        stream.start_role("user")
        stream.append("Tell me.")
        stream.end_role("user")
        stream.start_role("assistant")
    texts = []
    for step in FORM:
        if isinstance(step, str):
            stream.append(step)
        else:
            call = GenerateCall(step, speculate=speculate)
            texts.append(waited(lambda done: stream.generate(call, done)).texts[0])  # noqa: B023 - it is waited for
    return texts


def test_forks_do_not_share_a_surplus(local: Local) -> None:
    stream = local.stream()
    stream.append("Name:")
    waited(lambda done: stream.generate(GenerateCall(LINE, speculate=60), done))
    stream.append("\nBorn:")
    (child,) = stream.fork(1)
    local.calls = 0
    waited(lambda done: child.generate(GenerateCall(LINE), done))
    assert local.calls == 1, "forks are independent answers"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1, "temperature": 0.5}, {"min_new_tokens": 3}, {"n": 2}, {"stop_regex": "x"}, {"stop_token_ids": (1,)},
        {"frequency_penalty": 0.1}, {"presence_penalty": 0.1}, {"repetition_penalty": 1.2}, {"return_logprob": True},
        {"ignore_eos": True}, {"max_new_tokens": 0},
    ],
)  # fmt: skip
def test_what_looks_at_tokens_is_not_speculated(change: dict[str, object]) -> None:
    assert can_speculate(GenerateCall(LINE))
    assert not can_speculate(GenerateCall(replace(LINE, **change)))  # type: ignore[arg-type]
    assert not can_speculate(GenerateCall(LINE, Constraint("regex", "a")))
    assert not can_speculate(GenerateCall(LINE, tools=(print,)))


def test_other_settings_do_not_use_the_surplus() -> None:
    surplus = Surplus(" 1815\n", False, 6, 1.0, settings_of(LINE))
    assert cut_out(surplus, LINE) is not None
    assert cut_out(surplus, replace(LINE, temperature=0.5)) is None
    assert cut_out(surplus, replace(LINE, stop="\n", max_new_tokens=4)) is None, "five characters may be five tokens"


def test_the_first_stop_to_be_complete_ends_the_text() -> None:
    assert first_stop("abcd", ("bcd", "c")) == (2, "c")
    assert first_stop("abcd", ("cd", "bcd")) == (1, "bcd"), "both end here, the longer one began before"
    assert first_stop("abcd", "x") is None and first_stop("abcd", ("", "b")) == (1, "b")
    assert STORY
