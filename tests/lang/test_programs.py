"""Programs: what is appended, made, read and said, with backends that need no model."""

from __future__ import annotations

import warnings

import pytest
import ramify as sgl
from ramify.errors import InvalidRequest, ProgramError
from ramify.lang.backends.base import Backend

from .manual import Manual, eventually


def run(body, *args, backend: Backend | None = None, **kwargs):  # type: ignore[no-untyped-def]
    return sgl.function(body).run(*args, backend=backend or sgl.Mock(), **kwargs)


def test_texts_and_gens_become_one_text_in_order() -> None:
    def qa(s, q):  # type: ignore[no-untyped-def]
        s += "Q: " + q
        s += "\nA:" + sgl.gen("a") + "." + sgl.gen("b")
        return s["a"] + s["b"]

    state = run(qa, "why", backend=sgl.Mock([" so", " because"]))
    assert state.text() == "Q: why\nA: so. because"
    assert (state["a"], state["b"], state.ret_value) == (" so", " because", " so because")
    assert "a" in state and "c" not in state


def test_what_a_gen_does_not_say_is_as_run_says() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("a") + sgl.gen("b", max_tokens=7, stop=["x", "y"], temperature=0.5, top_k=3)

    backend = sgl.Mock()
    run(body, backend=backend, max_new_tokens=11, stop="z", top_p=0.5, seed=3).sync()
    first, second = (call.call.sampling for call in backend.calls)
    assert (first.max_new_tokens, first.stop, first.temperature, first.top_p, first.seed) == (11, "z", 1.0, 0.5, 3)
    assert (second.max_new_tokens, second.stop, second.temperature, second.top_k) == (7, ("x", "y"), 0.5, 3)
    run(body, backend=backend).sync()
    assert backend.calls[-2].call.sampling.max_new_tokens == 128


def test_roles_nest_texts_and_make_messages() -> None:
    def chat(s):  # type: ignore[no-untyped-def]
        s += sgl.system("Be brief.")
        s += sgl.user("Hi " + "there")
        with s.assistant():
            s += sgl.gen("a")
        s.user("And?")
        s += sgl.assistant_begin() + "Well" + sgl.gen("b")

    state = run(chat, backend=sgl.Mock([" Hello", ", no"]))
    assert state.messages() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi there"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "Well, no"},
    ]
    assert state.text() == "SYSTEM: Be brief.\nUSER: Hi there\nASSISTANT: Hello\nUSER: And?\nASSISTANT:Well, no"


def test_a_backend_that_knows_its_template_gives_the_text_of_roles() -> None:
    def chat(s):  # type: ignore[no-untyped-def]
        s += sgl.user("Hi")

    assert run(chat, backend=Manual()).text() == "<user>Hi</user>"


def test_n_gives_lists_and_the_text_goes_on_from_the_first() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "a" + sgl.gen("x", n=3) + "b"

    state = run(body, backend=sgl.Mock(["1", "2", "3"]))
    assert state["x"] == ["1", "2", "3"] and state.text() == "a1b"
    assert [meta["finish_reason"]["type"] for meta in state.get_meta_info("x")] == ["stop"] * 3


def test_select_chooses_and_reports() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "It is " + sgl.select("x", ["red", "green"]) + sgl.gen("y", choices=["a", "b"]) + "!"

    state = run(body, backend=sgl.Mock(["green", "b"]))
    assert state["x"] == "green" and state.text() == "It is greenb!"
    meta = state.get_meta_info("x")
    assert len(meta["normalized_prompt_logprobs"]) == 2 and "input_token_logprobs" in meta


def test_variables_are_set_kept_and_scoped() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s["k"] = 3
        s.set_var("l", [1])
        with s.var_scope("all"):
            s += "x" + sgl.gen("x")
            with s.var_scope("inner"):
                s += "y"
        s += "z"

    state = run(body, backend=sgl.Mock(["1"]))
    assert (state["k"], state.get_var("l"), state["all"], state["inner"]) == (3, [1], "x1y", "y")


def test_the_value_is_that_of_the_latest_gen_of_a_name() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        seen = []
        for _ in range(3):
            s += sgl.gen("x")
            seen.append(s["x"])
        return seen

    assert run(body, backend=sgl.Mock(["1", "2", "3"])).ret_value == ["1", "2", "3"]


def test_dtypes_are_patterns_and_values_stay_texts() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("a", dtype=int, stop="!") + sgl.gen_int("b") + sgl.gen_string("c") + sgl.gen("d", dtype="bool")
        s += sgl.gen("e", dtype=float)

    backend = sgl.Mock()
    state = run(body, backend=backend)
    state.sync()
    calls = [call.call for call in backend.calls]
    assert [call.constraint.source for call in calls] == [
        r"[-+]?[0-9]+[ \n]*",
        r"[-+]?[0-9]+[ \n]*",
        r"\"[\w\d\s]*\"",
        r"(True|False)",
        r"[-+]?[0-9]*\.?[0-9]+[ \n]*",
    ]
    assert [call.sampling.stop for call in calls] == [("!", " ", "\n"), (" ", "\n"), None, None, (" ", "\n")]
    assert isinstance(state["a"], str)


def test_dtype_beats_regex_with_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match="both dtype and regex"):
        expression = sgl.gen("a", dtype=int, regex="x")
    assert expression.nodes[0].constraint.source.startswith("[-+]")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sgl.gen("a", dtype=int)


def test_typed_values_are_read_back_as_their_type() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("x", type=int) + sgl.gen("y", type=list[int])
        s += "behind"

    state = run(body, backend=sgl.Mock(["42", "[1, 2]"]))
    assert (state["x"], state["y"], state.text()) == (42, [1, 2], "42[1, 2]behind")


def test_a_value_that_is_not_of_its_type_fails_alone() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("x", type=list[int]) + sgl.gen("y")

    state = run(body, backend=sgl.Mock(["[1, 2", "fine"]))
    assert state["y"] == "fine" and state.text() == "[1, 2fine"
    with pytest.raises(ProgramError, match=r"variable 'x'.*finish_reason is 'length'"):
        state["x"]
    assert "variable 'x'" in str(state.error())


def test_tool_calls_are_made_with_typed_arguments() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("x", tools=[add])
        (call,) = s.tool_calls("x")
        return call.run()

    state = run(body, backend=sgl.Mock(['{"name": "add", "arguments": {"a": 2, "b": 3}}']))
    assert state.ret_value == 5 and state["x"].startswith('{"name"')


def test_thoughts_are_parted_and_the_text_goes_on_without_them() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.assistant(sgl.separate_reasoning(sgl.gen("x"), model_type="qwen3"))
        s += sgl.user("?") + sgl.assistant(sgl.gen("y"))

    backend = sgl.Mock(["<think>hm hm</think>\nYes.", "ok"])
    state = run(body, backend=backend)
    assert (state["x"], state["x_reasoning_content"]) == ("Yes.", "hm hm")
    assert state.messages()[0] == {"role": "assistant", "content": "Yes."}
    assert "hm" not in backend.calls[-1].prompt and "Yes." in backend.calls[-1].prompt


def test_programs_run_inside_programs() -> None:
    @sgl.function
    def inner(s, word):  # type: ignore[no-untyped-def]
        s += f"<{word}" + sgl.gen("x") + ">"
        if word == "loud":
            return s["x"].upper()
        return None

    def outer(s):  # type: ignore[no-untyped-def]
        s += "("
        first = inner(s, "loud")
        s += inner("a") + "," + inner(word="b")
        s += inner(s, "c")
        return first

    state = run(outer, backend=sgl.Mock(["1", "2", "3", "4"]))
    assert state.ret_value == "1" and state.text() == "(<loud1><a2>,<b3><c4>"


def test_a_program_that_is_called_outside_of_any_runs() -> None:
    @sgl.function
    def hello(s, word):  # type: ignore[no-untyped-def]
        s += word

    sgl.set_default_backend(sgl.NullBackend())
    try:
        assert hello("hi").text() == "hi"
    finally:
        sgl.set_default_backend(None)


@pytest.mark.parametrize("lookahead", [True, False])
def test_constants_behind_a_gen_are_offered_while_the_program_looks_at_its_value(lookahead: bool) -> None:
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        s += "a" + sgl.gen("x") + "b" + "c" + sgl.gen("y")
        s += "d"
        s += sgl.user("e")

    state = run(body, backend=backend, options=sgl.ExecutionOptions(lookahead=lookahead))
    assert backend.ahead == [], "a call that has not ended has nothing behind it"
    backend.call(0).finish("1")
    assert backend.ahead == [], "what a next gen computes itself is not computed ahead"
    backend.call(1).finish("2")
    state.sync()
    assert backend.ahead == (["a1bc2d<user>e</user>"] if lookahead else [])


@pytest.mark.parametrize("next_use", [True, False])
def test_a_program_that_looks_at_a_value_is_expected_back(next_use: bool) -> None:
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        s += "a" + sgl.gen("x")
        backend_saw.append(s["x"])
        s += "b" + sgl.gen("y")

    backend_saw: list[str] = []
    state = sgl.function(body).run(backend=backend, stream=True, options=sgl.ExecutionOptions(next_use=next_use))
    backend.call(0).finish("1")
    backend.call(1).finish("2")
    state.sync()
    assert backend_saw == ["1"]
    assert backend.hints[:1] == ([("a1", 1.0)] if next_use else [])


def test_the_next_gen_starts_in_the_callback_of_the_one_before() -> None:
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        s += "a" + sgl.gen("x") + "b" + sgl.gen("y")

    state = run(body, backend=backend)
    assert [held.text for held in backend.calls] == ["a"]
    backend.calls[0].finish("1")
    assert [held.text for held in backend.calls] == ["a", "a1b"], "no thread of ours had to run"
    backend.calls[1].finish("2")
    assert state.text() == "a1b2"


def test_calls_say_how_many_gens_wait_behind_them() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("x") + sgl.gen("y") + sgl.gen("z")

    backend = sgl.Mock()
    run(body, backend=backend).sync()
    assert [call.call.priority for call in backend.calls] == [-2, -1, 0]
    backend = sgl.Mock()
    run(body, backend=backend, options=sgl.ExecutionOptions(priorities=False)).sync()
    assert [call.call.priority for call in backend.calls] == [0, 0, 0]


def test_without_handles_every_call_sends_its_text_anew() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.user("hi") + sgl.assistant(sgl.gen("x")) + "b"
        forks = s.fork(2)
        forks += sgl.gen("y")
        forks.join()

    prompts, texts, opened = [], [], []
    for reuse in (True, False):
        backend = sgl.Mock(lambda prompt, call: "r")
        made = backend.stream
        count = [0]

        def stream(made=made, count=count):  # type: ignore[no-untyped-def]
            count[0] += 1
            return made()

        backend.stream = stream  # type: ignore[method-assign]
        texts.append(run(body, backend=backend, options=sgl.ExecutionOptions(reuse_handles=reuse)).text())
        prompts.append([call.prompt for call in backend.calls if call.kind == "generate"])
        opened.append(count[0])
    assert prompts[0] == prompts[1] and texts[0] == texts[1]
    assert opened == [1, 4]


def test_step_by_step_waits_at_every_append() -> None:
    order = []

    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("x")
        order.append("body")

    def reply(prompt: str, call: object) -> str:
        order.append("backend")
        return "r"

    run(body, backend=sgl.Mock(reply, latency=0.02), use_thread=False)
    assert order == ["backend", "body"]


def test_run_returns_while_generations_are_in_flight() -> None:
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        s += "a" + sgl.gen("x")

    state = run(body, backend=backend)
    assert not backend.calls[0].ended and "x" in state
    backend.calls[0].finish("1")
    assert state["x"] == "1"
    assert eventually(lambda: backend.closed == ["a1"]), "an ended program's stream is given back"


def test_stats_count_by_gen() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "some words" + sgl.gen("x")
        forks = s.fork(2)
        forks += sgl.gen("y")
        forks.join()

    state = run(body, backend=sgl.Mock(["1", "2", "3"]))
    stats = state.stats()
    assert [(gen.name, gen.stream) for gen in stats.gens] == [("x", 0), ("y", 1), ("y", 2)]
    assert stats.prompt_tokens == sum(gen.prompt_tokens for gen in stats.gens) > 0
    assert "3 gens" in str(stats) and "6 gens of 2 runs" in str(sgl.stats([state, state]))


def test_the_embedded_model_is_announced_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ramify.lang import defaults

    monkeypatch.setattr(defaults, "_embedded", None)
    monkeypatch.setattr(defaults, "_of_engine", lambda engine: sgl.Mock())
    monkeypatch.setattr("ramify.runtime.engine.Engine", lambda: None)

    @sgl.function
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("x")

    body.run().sync()
    body.run().sync()
    assert capsys.readouterr().err.count("embedded model") == 1


@pytest.mark.parametrize("wrong", ["http://localhost:30000", 3, object()])
def test_what_is_no_backend_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest, match="backend="):
        sgl.set_default_backend(wrong)


def test_an_expression_shows_itself_as_it_was_written() -> None:
    shown = repr("a" + sgl.gen("x", max_tokens=3, regex="b+") + sgl.user(sgl.select("y", ["c", "d"])))
    assert shown.startswith("'a' + Gen(name='x', max_new_tokens=3, constraint=Constraint(kind='regex', source='b+'))")
    assert "RoleStart(role='user') + Select(name='y', choices=('c', 'd'), method=" in shown and "None" not in shown
    many = sgl.gen("x")
    for _ in range(100):
        many = many + "b"
    assert repr(many).endswith("'b' + … 51 more")
