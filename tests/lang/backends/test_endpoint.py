"""RuntimeEndpoint against a server that behaves like SGLang: the wire, streams, selects, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ramify as sgl
from ramify.errors import BackendError
from ramify.lang.backends.base import BackendStream, GenerateCall, Outcome, ScoreCall
from ramify.lang.backends.endpoint import RuntimeEndpoint
from ramify.lang.backends.endpoint_wire import read_scores
from ramify.lang.choices import decide, score_call, token_length_normalized, unconditional_likelihood_normalized
from ramify.lang.sampling import Constraint, Sampling

from .conftest import waited
from .servers import Handler, Server, serving, sglang, word_logprob

PROMPT = "So Name: Ada\nBorn:"  # three tokens of the server's: words with the space before them
QUICK: dict[str, Any] = {"backoff": 0.01, "retries": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(sglang) as running:
        yield running


@pytest.fixture
def endpoint(server: Server) -> Iterator[RuntimeEndpoint]:
    server.asked.clear()
    made = RuntimeEndpoint(server.url, **QUICK)
    yield made
    made.close()


def generate(stream: BackendStream, sampling: Sampling | None = None, **call: Any) -> Outcome:
    made = GenerateCall(sampling or Sampling(max_new_tokens=99, stop="\n"), **call)
    return waited(lambda done: stream.generate(made, done))


def test_it_asks_for_the_model_at_once(server: Server, endpoint: RuntimeEndpoint) -> None:
    assert server.asked == [("/get_model_info", None)]
    assert endpoint.get_model_name() == "tests/story"
    assert endpoint.get_server_info()["model_path"] == "tests/story"


def test_the_newer_name_of_the_servers_info() -> None:
    def newer(handler: Handler, path: str, body: Any) -> None:
        sglang(handler, "/unknown" if path == "/get_server_info" else path, body)

    with serving(newer) as other:
        endpoint = RuntimeEndpoint(other.url, **QUICK)
        assert endpoint.server_info()["model_path"] == "tests/story"
        endpoint.close()


def test_a_program(server: Server, endpoint: RuntimeEndpoint) -> None:
    stream = endpoint.stream()
    stream.append("Name:")
    assert generate(stream).texts == (" Ada",)
    stream.append("\nBorn:")
    outcome = generate(stream)
    assert outcome.texts == (" 1815",)
    assert outcome.metas[0]["prompt_tokens"] == 2 and outcome.metas[0]["usage"]["cached_tokens"] == 3
    assert server.bodies("/generate")[-1] == {
        "text": "Name: Ada\nBorn:",
        "sampling_params": {"max_new_tokens": 99, "stop": "\n"},
    }


def test_every_setting_has_its_name_on_the_wire(server: Server, endpoint: RuntimeEndpoint) -> None:
    stream = endpoint.stream()
    stream.append("Name:")
    sampling = Sampling(
        max_new_tokens=5, min_new_tokens=1, n=2, stop=("a", "b"), stop_token_ids=(1,), stop_regex="x", temperature=0.5,
        top_p=0.9, top_k=3, min_p=0.1, frequency_penalty=0.1, presence_penalty=0.2, repetition_penalty=1.1,
        logit_bias={5: 1.0}, ignore_eos=True, seed=7, return_logprob=True, logprob_start_len=0, top_logprobs_num=2,
        return_text_in_logprobs=True, timeout=5.0, retries=0,
    )  # fmt: skip
    outcome = generate(stream, sampling, constraint=Constraint("json_schema", {"type": "object"}))
    assert len(outcome.texts) == 2
    (body,) = server.bodies("/generate")
    assert body == {
        "text": "Name:",
        "sampling_params": {
            "max_new_tokens": 5, "min_new_tokens": 1, "n": 2, "stop": ["a", "b"], "stop_token_ids": [1],
            "stop_regex": "x", "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "frequency_penalty": 0.1,
            "presence_penalty": 0.2, "repetition_penalty": 1.1, "logit_bias": {"5": 1.0}, "ignore_eos": True,
            "sampling_seed": 7, "json_schema": '{"type": "object"}',
        },
        "return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": 2, "return_text_in_logprobs": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("constraint", "sent"),
    [
        (Constraint("regex", "a+"), {"regex": "a+"}),
        (Constraint("ebnf", 'root ::= "a"'), {"ebnf": 'root ::= "a"'}),
        (Constraint("choices", ("a.b", "c")), {"regex": r"(a\.b|c)"}),
    ],
)
def test_constraints_on_the_wire(
    server: Server, endpoint: RuntimeEndpoint, constraint: Constraint, sent: dict[str, str]
) -> None:
    stream = endpoint.stream()
    stream.append("Name:")
    generate(stream, Sampling(), constraint=constraint)
    assert server.bodies("/generate")[0]["sampling_params"] == sent


def test_streaming(endpoint: RuntimeEndpoint) -> None:
    stream = endpoint.stream()
    stream.append("Name:")
    heard: list[str] = []
    call = GenerateCall(Sampling(max_new_tokens=99, stop="\n"), stream=True)
    outcome = waited(lambda done: stream.generate(call, done, heard.append))
    assert outcome.texts == (" Ada",) and heard == list(" Ada")


def test_roles_and_forks(server: Server, endpoint: RuntimeEndpoint) -> None:
    stream = endpoint.stream()
    assert stream.start_role("user") == "USER: "
    stream.append("Hi")
    assert stream.end_role("user") == "\n"
    one, two = stream.fork(2)
    one.append("A")
    two.append("B")
    generate(one)
    generate(two)
    assert [body["text"] for body in server.bodies("/generate")] == ["USER: Hi\nA", "USER: Hi\nB"]


def test_a_template_given_or_told_or_found(server: Server, tmp_path: Path) -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    given = RuntimeEndpoint(server.url, chat_template=template, **QUICK)
    told = lambda handler, path, body: handler.json({"chat_template": template})  # noqa: E731
    with serving(told) as other:
        for endpoint in (given, RuntimeEndpoint(other.url, **QUICK)):
            stream = endpoint.stream()
            assert stream.start_role("user") == "<user>"
            stream.append("Hi")
            assert stream.end_role("user") == "</>"
            endpoint.close()


def test_warming_is_a_call_for_no_tokens(server: Server, endpoint: RuntimeEndpoint) -> None:
    stream = endpoint.stream()
    stream.append("Name:")
    waited(stream.warm)
    assert server.bodies("/generate") == [
        {"text": "Name:", "sampling_params": {"max_new_tokens": 0, "temperature": 0.0}}
    ]
    assert stream.warm(lambda _: None) is None
    endpoint.cache_prefix("Name:")
    endpoint.flush_cache()
    assert [path for path, _ in server.asked[-2:]] == ["/generate", "/flush_cache"]


# -- select -------------------------------------------------------------------------------------------------------


def test_a_select_is_one_warm_call_and_one_batched(server: Server, endpoint: RuntimeEndpoint) -> None:
    stream = endpoint.stream()
    stream.append(PROMPT)
    options = (" 1815", " 1912 or so")
    told = waited(lambda done: stream.score(score_call(options, token_length_normalized), done))
    warm, batch = server.bodies("/generate")
    assert warm == {"text": PROMPT, "sampling_params": {"max_new_tokens": 0, "temperature": 0.0}}
    assert batch == {
        "text": [PROMPT + " 1815", PROMPT + " 1912 or so"],
        "sampling_params": {"max_new_tokens": 0, "temperature": 0.0},
        "return_logprob": True, "return_text_in_logprobs": True, "logprob_start_len": 1,
    }  # fmt: skip
    assert [len(row.token_ids) for row in told.scores] == [1, 3], "only the options' own tokens"
    assert told.scores[0].logprobs == (word_logprob(PROMPT, " 1815"),)
    assert decide(options, token_length_normalized, told.scores).text == " 1815"


def test_an_option_that_joins_the_last_token(endpoint: RuntimeEndpoint) -> None:
    """The server's tokens are words, so an option without a space joins the last one."""
    stream = endpoint.stream()
    stream.append("Name: Ada Bo")
    told = waited(lambda done: stream.score(ScoreCall(("rn: 1815", " x")), done))
    assert [len(row.token_ids) for row in told.scores] == [2, 2], "both from the word that one of them changes"


def test_options_alone(server: Server, endpoint: RuntimeEndpoint) -> None:
    stream = endpoint.stream()
    stream.append(PROMPT)
    options = (" 1815", " 1912 or so")
    call = score_call(options, unconditional_likelihood_normalized)
    told = waited(lambda done: stream.score(call, done))
    assert [len(row.alone) for row in told.scores] == [1, 3]
    assert [row.alone[0] for row in told.scores] == [0.0, 0.0], "the first of a text has no log-probability"
    assert server.bodies("/generate")[-1]["input_ids"] == [list(row.token_ids) for row in told.scores]


def test_scores_without_texts_fall_back_to_places() -> None:
    rows = [[[None, 1, None], [-1.0, 2, None], [-2.0, 3, None]], [[None, 1, None], [-1.0, 2, None], [-4.0, 5, None]]]
    answers = [{"meta_info": {"prompt_tokens": 9, "input_token_logprobs": row}} for row in rows]
    assert [score.logprobs for score in read_scores(answers, ("a", "b"), 8)] == [(-2.0,), (-4.0,)]


@pytest.mark.parametrize("answer", [[], {"text": ""}, [{"text": "", "meta_info": {}}], [None], "x"])
def test_a_server_that_cannot_score(answer: Any) -> None:
    with pytest.raises(BackendError, match="RuntimeEndpoint"):
        read_scores(answer, ("a",), 3)


# -- what goes wrong ----------------------------------------------------------------------------------------------


def breaking(fail: Any) -> Any:
    """A server whose /generate fails."""

    def answer(handler: Handler, path: str, body: Any) -> None:
        if path == "/generate":
            fail(handler, body)
        else:
            sglang(handler, path, body)

    return answer


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (lambda handler, body: handler.drop(), "connection broke"),
        (lambda handler, body: handler.raw(b"not json"), "no JSON"),
        (lambda handler, body: handler.json({"no": "text"}), "has no text"),
        (lambda handler, body: handler.json([]), "empty list"),
        (lambda handler, body: handler.json({"error": {"message": "bad regex"}}, 400), "bad regex"),
    ],
)
def test_failures_are_clear_and_the_backend_lives_on(fail: Any, message: str) -> None:
    broken = [True]

    def answer(handler: Handler, body: Any) -> None:
        if broken[0]:
            fail(handler, body)
        else:
            sglang(handler, "/generate", body)

    with serving(breaking(answer)) as server:
        endpoint = RuntimeEndpoint(server.url, **QUICK)
        stream = endpoint.stream()
        stream.append("Name:")
        error = waited(lambda done: stream.generate(GenerateCall(Sampling()), done), error=True)
        assert isinstance(error, BackendError) and message in str(error)
        error = waited(lambda done: stream.score(ScoreCall(("a",)), done), error=True)
        assert isinstance(error, BackendError)
        broken[0] = False
        assert generate(stream).texts == (" Ada",)
        endpoint.close()


def test_a_stream_that_dies_in_the_middle() -> None:
    def dying(handler: Handler, body: Any) -> None:
        handler.start_events()
        handler.event({"text": " A", "meta_info": {}})

    with serving(breaking(dying)) as server:
        endpoint = RuntimeEndpoint(server.url, **QUICK)
        stream = endpoint.stream()
        stream.append("Name:")
        heard: list[str] = []
        call = GenerateCall(Sampling(), stream=True)
        error = waited(lambda done: stream.generate(call, done, heard.append), error=True)
        assert heard == [" A"] and "in the middle" in str(error)
        endpoint.close()


def test_a_stream_that_tells_of_an_error() -> None:
    def failing(handler: Handler, body: Any) -> None:
        handler.start_events()
        handler.event({"error": {"message": "out of memory"}})
        handler.event("[DONE]")

    with serving(breaking(failing)) as server:
        endpoint = RuntimeEndpoint(server.url, **QUICK)
        stream = endpoint.stream()
        call = GenerateCall(Sampling(), stream=True)
        error = waited(lambda done: stream.generate(call, done, lambda _: None), error=True)
        assert "out of memory" in str(error)
        endpoint.close()


def test_cancelling_keeps_what_there_was_and_hangs_up() -> None:
    go_on = threading.Event()

    def slow(handler: Handler, body: Any) -> None:
        handler.start_events()
        handler.event({"text": " A", "meta_info": {}})
        while not go_on.wait(0.005):
            handler.event({"text": " A", "meta_info": {}})

    with serving(breaking(slow)) as server:
        endpoint = RuntimeEndpoint(server.url, **QUICK)
        stream = endpoint.stream()
        began, ended = threading.Event(), threading.Event()
        outcomes: list[Outcome] = []
        cancel = stream.generate(
            GenerateCall(Sampling(), stream=True),
            lambda outcome: (outcomes.append(outcome), ended.set()),
            lambda _: began.set(),
        )
        assert began.wait(10)
        cancel()
        assert ended.wait(10)
        assert outcomes[0].texts == (" A",) and outcomes[0].metas[0]["finish_reason"]["type"] == "abort"
        assert server.hung_up.wait(10)
        go_on.set()
        endpoint.close()


def test_values_made_before_a_server_died_stay_readable() -> None:
    alive = [1]

    def dying(handler: Handler, body: Any) -> None:
        if alive:
            alive.pop()
            sglang(handler, "/generate", body)
        else:
            handler.drop()

    @sgl.function
    def form(s: sgl.ProgramState) -> None:
        s += "Name:" + sgl.gen("name", stop="\n") + "\nBorn:" + sgl.gen("born", stop="\n") + sgl.gen("died")

    with serving(breaking(dying)) as server:
        endpoint = RuntimeEndpoint(server.url, **QUICK)
        state = form.run(backend=endpoint)
        assert state["name"] == " Ada"
        for name in ("born", "died"):
            with pytest.raises(BackendError, match="connection broke"):
                state[name]
        assert isinstance(state.error(), BackendError) and state["name"] == " Ada"
        endpoint.close()


def test_no_server() -> None:
    with pytest.raises(BackendError, match="is the server running"):
        RuntimeEndpoint("http://127.0.0.1:9", retries=0)
    with pytest.raises(BackendError, match="no URL"):
        RuntimeEndpoint("localhost")
    with pytest.raises(BackendError, match="takes timeout"):
        RuntimeEndpoint("http://127.0.0.1:9", timeuot=3)


def test_a_closed_backend_says_so(server: Server) -> None:
    endpoint = RuntimeEndpoint(server.url, **QUICK)
    endpoint.close()
    stream = endpoint.stream()
    error = waited(lambda done: stream.generate(GenerateCall(Sampling()), done), error=True)
    assert "closed" in str(error)


def test_many_calls_at_once(server: Server, endpoint: RuntimeEndpoint) -> None:
    ended = threading.Semaphore(0)
    outcomes: list[Outcome] = []
    for _ in range(200):
        stream = endpoint.stream()
        stream.append("Name:")
        stream.generate(
            GenerateCall(Sampling(max_new_tokens=9, stop="\n")),
            lambda outcome: (outcomes.append(outcome), ended.release()),
        )
    for _ in range(200):
        assert ended.acquire(timeout=60)
    assert {outcome.texts for outcome in outcomes} == {(" Ada",)}
    assert threading.active_count() < 100 + 200, "calls are not threads of ours"
