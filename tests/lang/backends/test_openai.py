"""The OpenAI backend against a server that behaves like the API: chat, completions, constraints, tools, selects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ramify.errors import BackendError
from ramify.lang.backends.base import BackendStream, GenerateCall, Outcome, ScoreCall
from ramify.lang.backends.openai import OFFICIAL, OpenAI
from ramify.lang.backends.openai_select import best_option
from ramify.lang.choices import decide, score_call, token_length_normalized, unconditional_likelihood_normalized
from ramify.lang.nodes import Media
from ramify.lang.sampling import Constraint, Sampling

from .conftest import waited
from .servers import Handler, Server, openai, serving, word_logprob

LINE = Sampling(max_new_tokens=64, temperature=0.0, stop="\n")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serving(openai) as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.asked.clear()
    running.headers.clear()
    return running


@pytest.fixture
def backend(server: Server) -> Iterator[OpenAI]:
    made = OpenAI("story", base_url=server.url, api_key="key", backoff=0.01)
    yield made
    made.close()


@pytest.fixture
def official(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAI]:
    """As if the server were OpenAI's own."""
    monkeypatch.setattr("ramify.lang.backends.openai.OFFICIAL", server.url)
    made = OpenAI("gpt-4o-mini", base_url=server.url, api_key="key")
    assert made.strict
    yield made
    made.close()


def generate(stream: BackendStream, sampling: Sampling = LINE, **call: Any) -> Outcome:
    return waited(lambda done: stream.generate(GenerateCall(sampling, **call), done))


def asking(backend: OpenAI, text: str = "Name:") -> BackendStream:
    stream = backend.stream()
    stream.start_role("user")
    stream.append(text)
    stream.end_role("user")
    stream.start_role("assistant")
    return stream


def test_without_roles_it_completes(server: Server, backend: OpenAI) -> None:
    stream = backend.stream()
    stream.append("Name:")
    outcome = generate(stream)
    assert outcome.texts == (" Ada",)
    assert outcome.metas[0]["finish_reason"] == {"type": "stop", "matched": None}
    assert outcome.metas[0]["usage"] == {"prompt_tokens": 7, "completion_tokens": 4, "cached_tokens": 2}
    assert server.asked == [
        (
            "/completions",
            {"model": "story", "prompt": "Name:", "max_tokens": 64, "temperature": 0.0, "stop": ["\n"]},
        )
    ]
    assert server.headers[0]["authorization"] == "Bearer key"


def test_with_roles_it_chats(server: Server, backend: OpenAI) -> None:
    stream = backend.stream()
    stream.start_role("system")
    stream.append("Be ")
    stream.append("brief.")
    stream.end_role("system")
    stream.append("Outside. ")
    stream.start_role("user")
    stream.append("Name:")
    stream.end_role("user")
    stream.start_role("assistant")
    assert generate(stream).texts == (" Ada",)
    stream.end_role("assistant")
    stream.start_role("user")
    stream.append("\nBorn:")
    stream.end_role("user")
    assert generate(stream).texts == (" 1815",)
    first, second = server.bodies("/chat/completions")
    assert first["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Outside. "},
        {"role": "user", "content": "Name:"},
    ]
    assert second["messages"][3:] == [
        {"role": "assistant", "content": " Ada"},
        {"role": "user", "content": "\nBorn:"},
    ]


def test_the_choice_can_be_made_by_hand(server: Server) -> None:
    completing = OpenAI("story", is_chat_model=False, base_url=server.url)
    assert generate(asking(completing)).texts[0] is not None
    assert server.asked[-1][1]["prompt"] == "USER: Name:\nASSISTANT:"
    chatting = OpenAI("story", is_chat_model=True, base_url=server.url)
    stream = chatting.stream()
    stream.append("Name:")
    generate(stream)
    assert server.asked[-1][1]["messages"] == [{"role": "user", "content": "Name:"}]
    empty = chatting.stream()
    error = waited(lambda done: empty.generate(GenerateCall(LINE), done), error=True)
    assert "something to answer" in str(error)
    completing.close()
    chatting.close()


def test_streaming(backend: OpenAI) -> None:
    for stream in (asking(backend), backend.stream()):
        if stream.prompt == "":  # type: ignore[attr-defined]
            stream.append("Name:")
        heard: list[str] = []
        call = GenerateCall(LINE, stream=True)
        outcome = waited(lambda done, s=stream, c=call, h=heard: s.generate(c, done, h.append))
        assert outcome.texts == (" Ada",) and heard == [" Ad", "a"]
        assert outcome.metas[0]["completion_tokens"] == 4
        assert outcome.metas[0]["finish_reason"]["type"] == "stop"


def test_n_and_logprobs(server: Server, backend: OpenAI) -> None:
    outcome = generate(asking(backend), Sampling(max_new_tokens=3, n=2, return_logprob=True, top_logprobs_num=2))
    assert outcome.texts == (" Ad", " Ad")
    assert outcome.metas[1]["finish_reason"] == {"type": "length", "length": 3}
    assert outcome.metas[0]["output_token_logprobs"] == [[-0.1, None, letter] for letter in " Ad"]
    assert server.asked[0][1] | {"messages": None} == {
        "model": "story", "messages": None, "max_tokens": 3, "n": 2, "logprobs": True, "top_logprobs": 2,
    }  # fmt: skip


def test_what_other_servers_know(server: Server, backend: OpenAI) -> None:
    sampling = Sampling(
        max_new_tokens=3, top_k=5, min_p=0.1, repetition_penalty=1.2, min_new_tokens=2, stop_token_ids=(3,),
        stop_regex="x", ignore_eos=True, logit_bias={3: 1.0}, seed=4, frequency_penalty=0.1, presence_penalty=0.2,
    )  # fmt: skip
    generate(asking(backend), sampling)
    assert server.asked[0][1] | {"messages": None} == {
        "model": "story", "messages": None, "max_tokens": 3, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2,
        "min_tokens": 2, "stop_token_ids": [3], "stop_regex": "x", "ignore_eos": True, "logit_bias": {"3": 1.0},
        "seed": 4, "frequency_penalty": 0.1, "presence_penalty": 0.2,
    }  # fmt: skip


def test_openai_itself_is_sent_only_what_it_knows(server: Server, official: OpenAI) -> None:
    generate(asking(official), Sampling(max_new_tokens=3, top_k=-1, min_p=0.0, repetition_penalty=1.0, n=1))
    assert server.asked[0][1] | {"messages": None} == {"model": "gpt-4o-mini", "messages": None, "max_tokens": 3}
    stream = asking(official)
    error = waited(lambda done: stream.generate(GenerateCall(Sampling(top_k=5)), done), error=True)
    assert "has no top_k" in str(error), "nothing is dropped silently"


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("constraint", "dialect", "sent"),
    [
        (Constraint("regex", "a+"), "sglang", {"regex": "a+"}),
        (Constraint("ebnf", "r"), "sglang", {"ebnf": "r"}),
        (Constraint("choices", ("a", "b")), "sglang", {"regex": "(a|b)"}),
        (Constraint("regex", "a+"), "vllm", {"structured_outputs": {"regex": "a+"}}),
        (Constraint("ebnf", "r"), "vllm", {"structured_outputs": {"grammar": "r"}}),
        (Constraint("choices", ("a", "b")), "vllm", {"structured_outputs": {"choice": ["a", "b"]}}),
        (
            Constraint("json_schema", json.dumps(SCHEMA)),
            "sglang",
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
                }
            },
        ),
    ],
)
def test_constraints(server: Server, constraint: Constraint, dialect: str, sent: dict[str, Any]) -> None:
    backend = OpenAI("story", base_url=server.url, dialect=dialect)
    generate(asking(backend), Sampling(), constraint=constraint)
    body = server.asked[0][1]
    assert {name: body[name] for name in body if name not in ("model", "messages")} == sent
    backend.close()


def test_constraints_of_openai_itself(server: Server, official: OpenAI) -> None:
    outcome = generate(asking(official), Sampling(), constraint=Constraint("choices", ("yes", "no")))
    assert outcome.texts == ("no",), "the choice, and not the JSON around it"
    stream = asking(official)
    call = GenerateCall(Sampling(), Constraint("regex", "a+"))
    assert "cannot hold" in str(waited(lambda done: stream.generate(call, done), error=True))


def test_tools(server: Server, backend: OpenAI) -> None:
    def weather(city: str) -> str:
        """The weather somewhere."""
        return city

    outcome = generate(asking(backend), Sampling(), tools=(weather,))
    assert outcome.tool_calls == (("weather", {"city": "Rome"}),)
    assert json.loads(outcome.texts[0]) == {"name": "weather", "arguments": {"city": "Rome"}}
    body = server.asked[0][1]
    assert body["tool_choice"] == "required"
    assert body["tools"][0]["function"]["name"] == "weather"
    assert body["tools"][0]["function"]["parameters"]["required"] == ["city"]


def test_images(server: Server, backend: OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "dot.png"
    path.write_bytes(b"\x89PNG....")
    stream = backend.stream()
    stream.start_role("user")
    stream.append("What is this?")
    stream.media(Media("image", str(path)))
    stream.media(Media("image", "https://example.org/a.jpg"))
    stream.end_role("user")
    generate(stream)
    assert server.asked[0][1]["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORy4uLi4="}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.jpg"}},
    ]
    with pytest.raises(BackendError, match="cannot take videos"):
        stream.media(Media("video", "x.mp4"))
    stream.media(Media("image", "nowhere.png"))
    error = waited(lambda done: stream.generate(GenerateCall(LINE), done), error=True)
    assert "no file" in str(error)


# -- select -------------------------------------------------------------------------------------------------------

PROMPT = "So Name: Ada\nBorn:"


def test_completions_score_options_by_an_echo(server: Server, backend: OpenAI) -> None:
    stream = backend.stream()
    stream.append(PROMPT)
    options = (" 1815", " 1912 or so")
    assert stream.choose(options, lambda _: None) is None, "there are scores to be had"
    told = waited(lambda done: stream.score(score_call(options, token_length_normalized), done))
    assert told.scores[0].logprobs == (word_logprob(PROMPT, " 1815"),)
    assert [len(row.logprobs) for row in told.scores] == [1, 3]
    assert decide(options, token_length_normalized, told.scores).text == " 1815"
    (body,) = server.bodies("/completions")
    assert body["prompt"] == [PROMPT + option for option in options] and body["echo"] is True
    call = score_call(options, unconditional_likelihood_normalized)
    told = waited(lambda done: stream.score(call, done))
    assert [len(row.alone) for row in told.scores] == [1, 3]


def test_an_option_that_joins_the_last_token(backend: OpenAI) -> None:
    stream = backend.stream()
    stream.append("So Name: Ada\nBo")
    told = waited(lambda done: stream.score(ScoreCall(("rn: 1815", " x")), done))
    assert [len(row.logprobs) for row in told.scores] == [2, 2], "both from the word that one of them changes"


def test_a_server_without_echo() -> None:
    def answer(handler: Handler, path: str, body: Any) -> None:
        choices = [{"text": "x", "index": at} for at in range(len(body["prompt"]))]
        handler.json({"choices": choices})

    with serving(answer) as server:
        backend = OpenAI("story", base_url=server.url)
        stream = backend.stream()
        error = waited(lambda done: stream.score(ScoreCall(("a", "b")), done), error=True)
        assert "does not echo" in str(error) and "is_chat_model=True" in str(error)
        backend.close()


def test_chat_is_held_to_an_option(server: Server, backend: OpenAI) -> None:
    stream = asking(backend)
    outcome = waited(lambda done: stream.choose(("yes", " no", "yes"), done))
    assert outcome.texts == (" no",), "as the program spells it"
    schema = server.asked[0][1]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["choice"]["enum"] == ["yes", "no"]


def test_chat_that_cannot_be_held_is_asked() -> None:
    def answer(handler: Handler, path: str, body: Any) -> None:
        if "response_format" in body:
            handler.json({"error": {"message": "response_format is not supported"}}, 400)
        else:
            handler.json({"choices": [{"message": {"content": "**No way**."}, "finish_reason": "stop"}]})

    with serving(answer) as server:
        backend = OpenAI("story", base_url=server.url)
        stream = asking(backend)
        assert waited(lambda done: stream.choose(("yes", "no", "no way"), done)).texts == ("no way",)
        error = waited(lambda done: stream.choose(("maybe", "perhaps"), done), error=True)
        assert "none of the options" in str(error)
        backend.close()


@pytest.mark.parametrize(
    ("answer", "options", "meant"),
    [
        ("New York is great", ("New", "New York"), 1), ("new", ("New", "New York"), 0), ('"B."', ("A", "B"), 1),
        ("The answer is Paris.", ("Rome", "Paris"), 1), ("It is Rome or Paris", ("Rome", "Paris"), None),
        ("", ("a",), None),
        ("I love New York", ("New", "New York"), 1),
    ],
)  # fmt: skip
def test_which_option_an_answer_means(answer: str, options: tuple[str, ...], meant: int | None) -> None:
    assert best_option(answer, options) == meant


# -- making one ---------------------------------------------------------------------------------------------------


def test_keys_and_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(BackendError, match="OPENAI_API_KEY"):
        OpenAI("gpt-4o")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert OpenAI("gpt-4o").server_info()["base_url"] == OFFICIAL
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert OpenAI("gpt-4o").server_info()["base_url"] == "http://localhost:1/v1"
    with pytest.raises(BackendError, match="openai/v1"):
        OpenAI("gpt-4o", is_azure=True)
    with pytest.raises(BackendError, match="takes timeout"):
        OpenAI("gpt-4o", tiemout=1)
    with pytest.raises(BackendError, match="dialect"):
        OpenAI("gpt-4o", dialect="x")


@pytest.mark.parametrize(
    "content", [{}, {"choices": []}, {"choices": [None]}, {"choices": [{}]}, [], {"choices": [{"text": 3}]}]
)
def test_broken_answers(content: Any) -> None:
    with serving(lambda handler, path, body: handler.json(content)) as server:
        backend = OpenAI("story", base_url=server.url)
        stream = backend.stream()
        stream.append("Name:")
        error = waited(lambda done: stream.generate(GenerateCall(LINE), done), error=True)
        assert isinstance(error, BackendError) and "OpenAI" in str(error)
        backend.close()


def test_a_stream_that_ends_without_its_mark_but_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(handler: Handler, path: str, body: Any) -> None:
        handler.start_events()
        handler.event({"choices": [{"text": "all", "finish_reason": "stop"}]})

    with serving(answer) as server:
        backend = OpenAI("story", base_url=server.url)
        stream = backend.stream()
        call = GenerateCall(LINE, stream=True)
        assert waited(lambda done: stream.generate(call, done, lambda _: None)).texts == ("all",)
        backend.close()
