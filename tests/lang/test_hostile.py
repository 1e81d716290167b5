"""When things go wrong: each case has a clear error that names the place, and nothing ever hangs."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import ramify as sgl
from ramify.errors import BackendError, BatchFailed, InvalidRequest, ProgramError, RamifyError, RequestTooLong
from ramify.lang.backends.base import BackendStream, GenerateCall, Outcome

from .manual import Manual, ManualStream, eventually

HERE = r"program 'body', .*test_hostile.py:\d+"


def run(body, *args, backend=None, **kwargs):  # type: ignore[no-untyped-def]
    return sgl.function(body).run(*args, backend=backend or sgl.Mock(lambda prompt, call: "ok"), **kwargs)


def raises(body, kind, match, **kwargs):  # type: ignore[no-untyped-def]
    with pytest.raises(kind, match=match):
        run(body, **kwargs)


# -- variables ---------------------------------------------------------------------------------------------------------


def test_an_unset_variable_is_named_with_those_that_are_set() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("a") + sgl.gen("b")
        s["c"]

    raises(body, ProgramError, HERE + ": variable 'c' was never set; variables set here: 'a', 'b'")
    raises(body, KeyError, "never set")


def test_a_variable_that_is_made_twice_in_one_expression_warns_and_is_the_last() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("a") + sgl.gen("a")
        return s["a"]

    with pytest.warns(RuntimeWarning, match=HERE + ": variable 'a' is made twice in one expression"):
        assert run(body, backend=sgl.Mock(["1", "2"])).ret_value == "2"


@pytest.mark.parametrize("name", ["", 3, b"x"])
def test_a_variables_name_is_a_text(name: object) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        sgl.gen(name)
    with pytest.raises(InvalidRequest, match="name"):
        sgl.select(name, ["a", "b"])

    def body(s):  # type: ignore[no-untyped-def]
        s[name] = 1

    raises(body, InvalidRequest, "name")


# -- choices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", [[], (), None, "abc", 3, [""], ["a", None], ["a", b"b"]])
def test_what_is_no_list_of_options(choices: object) -> None:
    with pytest.raises(InvalidRequest, match="choices"):
        sgl.select("x", choices)


def test_equal_options_are_one_option() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.select("x", ["b", "a", "b", "a"])

    backend = sgl.Mock(["a"])
    state = run(body, backend=backend)
    assert state["x"] == "a" and backend.calls[0].call.options == ("b", "a")
    assert len(state.get_meta_info("x")["normalized_prompt_logprobs"]) == 4


def test_ten_thousand_options() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.select("x", [f"option {i}" for i in range(10_000)])

    assert run(body, backend=sgl.Mock(["option 7777"]))["x"] == "option 7777"


def test_an_unknown_choices_method() -> None:
    with pytest.raises(InvalidRequest, match="choices_method='best'"):
        sgl.gen("x", choices=["a", "b"], choices_method="best")


# -- forks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, 10**6, 2.5, "2", None, True])
def test_impossible_numbers_of_branches(size: object) -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s.fork(size)

    raises(body, InvalidRequest, rf"{HERE}: fork\({size!r}\): the number of branches must be from 1 to 100,000")


def test_joining_twice() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        forks = s.fork(2)
        forks.join()
        forks.join()

    raises(body, ProgramError, HERE + r": these branches were joined at .*test_hostile.py:\d+ already")


def test_an_unknown_way_to_join() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s.fork(2).join("zip")

    raises(body, InvalidRequest, r'join\(\'zip\'\): the modes are "gather_variable" and "concate_and_append"')


def test_as_many_expressions_as_branches() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        forks = s.fork(2)
        forks += ["a", "b", "c"]

    raises(body, ProgramError, HERE + ": 3 expressions for 2 branches")


def test_an_exception_in_the_body_propagates_and_stops_its_branches() -> None:
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        forks = s.fork(2)
        forks += sgl.gen("x")
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        run(body, backend=backend)
    assert [held.cancelled for held in backend.calls] == [True, True], "though the traceback still holds them"
    del caught


# -- programs ----------------------------------------------------------------------------------------------------------


def test_programs_that_call_themselves_ten_thousand_deep() -> None:
    @sgl.function
    def deep(s, n):  # type: ignore[no-untyped-def]
        s += "x"
        if n:
            deep(s, n - 1)

    @sgl.function
    def runs(s, n):  # type: ignore[no-untyped-def]
        s += "x"
        if n:
            runs.run(n - 1, backend=backend)

    backend = sgl.NullBackend()
    assert deep.run(50, backend=backend).text() == "x" * 51
    for program in (deep, runs):
        with pytest.raises(
            ProgramError, match=r"test_hostile.py:\d+: it calls itself deeper than Python allows"
        ) as failed:
            program.run(10_000, backend=backend)
        assert len(failed.traceback) < 10  # not a thousand lines to scroll over


def test_a_program_needs_a_state() -> None:
    with pytest.raises(ProgramError, match="its first argument must be the state"):

        @sgl.function
        def body():  # type: ignore[no-untyped-def]
            pass

    with pytest.raises(InvalidRequest, match="takes a Python function"):
        sgl.function(3)


def test_a_scope_that_waits_for_itself() -> None:
    @sgl.function
    def reads(s):  # type: ignore[no-untyped-def]
        with s.var_scope("a"):
            s += "x"
            fork = s.fork(2)[1]
            return fork["a"]

    @sgl.function
    async def awaits(s):  # type: ignore[no-untyped-def]
        with s.var_scope("a"):
            return await s.get("a")

    backend = sgl.NullBackend()
    for program in (reads, reads.compile(), awaits):
        with pytest.raises(ProgramError, match="'a' is read inside its own var_scope"):
            program.run(backend=backend)
    with pytest.raises(BatchFailed, match="'a' is read inside its own var_scope"):
        reads.run_batch([{}], backend=backend)

    @sgl.function
    def slow(s):  # type: ignore[no-untyped-def]
        with s.var_scope("a"):
            begun.set()
            s += "x"
            assert going.wait(5)

    begun, going = threading.Event(), threading.Event()
    state = slow.run(backend=backend, stream=True)
    assert begun.wait(5)
    threading.Timer(0.05, going.set).start()
    assert state["a"] == "x", "somebody else may wait for it"


def test_a_body_that_would_not_run_is_refused() -> None:
    def pieces(s):  # type: ignore[no-untyped-def]
        yield s

    async def pieces_async(s):  # type: ignore[no-untyped-def]
        yield s

    for body in (pieces, pieces_async):
        with pytest.raises(ProgramError, match="has a `yield`, so a call would run nothing"):
            sgl.function(body)


def test_an_async_program_inside_another_must_be_awaited() -> None:
    @sgl.function
    async def inner(s):  # type: ignore[no-untyped-def]
        s += "x"

    @sgl.function
    def called(s):  # type: ignore[no-untyped-def]
        inner(s)

    @sgl.function
    async def appended(s):  # type: ignore[no-untyped-def]
        s += inner()

    @sgl.function
    async def awaited(s):  # type: ignore[no-untyped-def]
        await inner(s)

    backend = sgl.NullBackend()
    with pytest.raises(ProgramError, match="'inner' is async, and this body is not"):
        called.run(backend=backend)
    with pytest.raises(ProgramError, match=r"await inner\(s, \.\.\.\)"):
        appended.run(backend=backend)
    assert awaited.run(backend=backend).text() == "x"


def test_a_program_called_inside_another_is_a_piece_and_says_so() -> None:
    @sgl.function
    def inner(s):  # type: ignore[no-untyped-def]
        s += "x"

    def body(s):  # type: ignore[no-untyped-def]
        inner().text()

    def other(s):  # type: ignore[no-untyped-def]
        inner()["x"]

    raises(other, ProgramError, "is a piece to append, and has no 'x'")
    raises(body, ProgramError, r"write `s \+= inner\(\.\.\.\)`, or inner.run\(\.\.\.\)")


# -- parameters --------------------------------------------------------------------------------------------------------


def test_a_text_obeys_one_thing() -> None:
    for given in (
        {"regex": "a", "json_schema": "{}"},
        {"regex": "a", "type": int},
        {"choices": ["a"], "regex": "a"},
        {"ebnf": "a", "json_schema": "{}"},
        {"dtype": int, "json_schema": "{}"},
    ):
        with pytest.raises(InvalidRequest, match="can obey only one"):
            sgl.gen("x", **given)


BAD = {
    "max_tokens": [-1, 1.5, "7", True, math.nan, 10**12],
    "min_tokens": [-1, 0.5],
    "n": [0, -1, 1.0, True, 10**9],
    "stop": ["", ["a", ""], [None], 3, b"x", ["\ud800"]],
    "stop_token_ids": [[-1], ["a"], 3],
    "stop_regex": ["", [3]],
    "temperature": [-0.1, math.nan, math.inf, "hot", True],
    "top_p": [0, -1, 1.1, math.nan],
    "top_k": [0, -2, 1.5],
    "min_p": [-0.1, 1.1, math.nan],
    "frequency_penalty": [-3, 3, math.nan],
    "presence_penalty": [-3, 3],
    "repetition_penalty": [0, -1, math.inf],
    "logit_bias": [{"a": 1}, {1: math.nan}, {-1: 1}, [1]],
    "ignore_eos": [1, "yes"],
    "return_logprob": ["yes"],
    "top_logprobs_num": [-1, 10**6],
    "timeout": [0, -1, math.nan],
    "retries": [-1, 1.5],
    "seed": ["x", 1.5, 2**70],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_impossible_parameters_are_named(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"gen: {name}"):
        sgl.gen("x", **{name: value})
    ours = {"max_tokens": "max_new_tokens"}.get(name, name)
    if name != "min_tokens":
        with pytest.raises(InvalidRequest, match=f"program 'body': {ours}"):
            run(body, **{ours: value})


def body(s):  # type: ignore[no-untyped-def]
    s += sgl.gen("x")


def test_numbers_of_numpy_are_numbers() -> None:
    sampling = (
        sgl.gen("x", max_tokens=np.int64(3), temperature=np.float32(0.5), stop_token_ids=[np.int32(7)])
        .nodes[0]
        .sampling
    )
    assert (sampling.max_new_tokens, sampling.temperature, sampling.stop_token_ids) == (3, 0.5, (7,))
    assert {type(sampling.max_new_tokens), type(sampling.stop_token_ids[0])} == {int}

    def body(s):  # type: ignore[no-untyped-def]
        return len(s.fork(np.int64(2)))

    assert run(body).ret_value == 2


def test_ten_thousand_stops() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("x", stop=[f"stop {i}" for i in range(10_000)])

    assert run(body)["x"] == "ok"


@pytest.mark.parametrize("dtype", ["integer?", list, 3, []])
def test_unknown_dtypes(dtype: object) -> None:
    with pytest.raises(InvalidRequest, match="dtype="):
        sgl.gen("x", dtype=dtype)


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "None is no text"),
        (b"abc", r"is bytes; decode it"),
        (3, r"is of type int.*str\(\.\.\.\)"),
        (["a"], "a list is no text"),
        ("half \ud83d", "half of a surrogate pair"),
        (sgl.user("half \udc00"), "half of a surrogate pair"),
    ],
)
def test_what_is_no_text(value: object, message: str) -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "fine"
        s += value

    raises(body, ProgramError, HERE + ".*" + message)


def test_what_cannot_be_added_to_an_expression() -> None:
    for wrong in (None, 3, b"x"):
        with pytest.raises(TypeError):
            sgl.gen("x") + wrong
        with pytest.raises(TypeError):
            wrong + sgl.gen("x")
        if wrong is not None:
            with pytest.raises(ProgramError, match=r"user\(\.\.\.\)"):
                sgl.user(wrong)
    with pytest.raises(ProgramError, match="cannot stand inside an f-string"):
        f"{sgl.gen('x')}"


def test_an_empty_prompt_and_empty_texts() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += ""
        s += sgl.gen("x")
        s += ""
        s += sgl.user("")

    state = run(body)
    assert state["x"] == "ok" and state.messages() == [{"role": "user", "content": ""}]


def test_ten_thousand_gens_that_are_queued_at_once() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        first = sgl.gen()
        for _ in range(10_000):
            first = first + sgl.gen()
        s += first

    assert run(body, backend=sgl.NullBackend()).text() == " ok" * 10_001
    backend = Manual()
    state = run(body, backend=backend)
    for index in range(10_001):
        backend.call(index).finish(".")
    assert state.text() == "." * 10_001


def test_long_chains_of_additions() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        expression = sgl.gen("x")
        for _ in range(20_000):
            expression = expression + "a"
        s += expression

    assert run(body).text() == "ok" + "a" * 20_000


# -- roles -------------------------------------------------------------------------------------------------------------


def test_roles_do_not_nest() -> None:
    def nested(s):  # type: ignore[no-untyped-def]
        s += sgl.user("a" + sgl.assistant("b"))

    def inside(s):  # type: ignore[no-untyped-def]
        with s.user(), s.assistant():
            s += "x"

    message = r".*:\d+: 'assistant' starts to speak while 'user' speaks \(since .*:\d+\); roles do not nest"
    raises(nested, ProgramError, "program 'nested'" + message)
    raises(inside, ProgramError, "program 'inside'" + message)


def test_forks_know_the_role_that_speaks() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.assistant_begin() + "a"
        forks = s.fork(2)
        forks += "b" + sgl.assistant_end()
        forks[0] += sgl.user("c")
        with pytest.raises(ProgramError, match="'user' starts to speak while 'assistant' speaks"):
            s += sgl.user("c")
        other = s.fork(1)[0]
        with pytest.raises(ProgramError, match="'user' starts to speak while 'assistant' speaks"):
            other += sgl.user("c")
        return forks[0].messages()

    said = [{"role": "assistant", "content": "ab"}, {"role": "user", "content": "c"}]
    assert run(body).ret_value == said


def test_roles_end_as_what_they_began() -> None:
    def never(s):  # type: ignore[no-untyped-def]
        s += sgl.user_end()

    def other(s):  # type: ignore[no-untyped-def]
        s += sgl.user_begin() + "a" + sgl.assistant_end()

    raises(never, ProgramError, "'user' ends, but no role speaks")
    raises(other, ProgramError, "'assistant' ends while 'user' speaks")


def test_a_refused_expression_appends_nothing() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "a"
        with pytest.raises(ProgramError):
            s += "b" + sgl.gen("x") + sgl.user_end()
        assert "x" not in s
        s += sgl.user("c")

    assert run(body).text() == "aUSER: c\n"


def test_a_role_that_is_never_closed_is_the_last_message() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.assistant_begin() + sgl.gen("x")

    assert run(body).messages() == [{"role": "assistant", "content": "ok"}]


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------

SCRIPT = """
import signal
import ramify as sgl
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to it
cancelled = []
class Slow(sgl.Mock):
    def stream(self):
        made = super().stream()
        inner = made.generate
        def generate(call, done, delta=None):
            cancel = inner(call, done, delta)
            return lambda: (cancelled.append(1), cancel())
        made.generate = generate
        return made
@sgl.function
def body(s):
    s += sgl.gen("x")
    print("waiting", flush=True)
    s["x"]
backend = Slow(latency=100)
try:
    {how}
except KeyboardInterrupt:
    print("interrupted", len(cancelled), flush=True)
"""


@pytest.mark.parametrize(
    ("how", "calls"), [("body.run(backend=backend)", 1), ("body.run_batch([{}] * 3, backend=backend)", 3)]
)
def test_ctrl_c_in_the_middle(how: str, calls: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("{how}", how)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(calls):
        assert process.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert out == f"interrupted {calls}\n" and process.returncode == 0, err


# -- threads -----------------------------------------------------------------------------------------------------------


def test_a_state_shared_by_threads() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        def work(number: int) -> None:
            nonlocal s
            for index in range(50):
                s += f"<{number}.{index}" + sgl.gen(f"v{number}") + ">"
                assert s[f"v{number}"] == "ok"

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return not any(thread.is_alive() for thread in threads)

    state = run(body, backend=sgl.Mock(lambda prompt, call: "ok", latency=0.0001))
    assert state.ret_value
    pieces = state.text().split(">")
    assert len(pieces) == 401 and {piece[-2:] for piece in pieces[:-1]} == {"ok"}
    for number in range(8):
        mine = [piece for piece in pieces if piece.startswith(f"<{number}.")]
        assert mine == [f"<{number}.{index}ok" for index in range(50)], "each thread's own order is kept"


# -- backends that die -------------------------------------------------------------------------------------------------


def test_a_backend_that_dies_in_the_middle() -> None:
    backend = sgl.Mock(["1"], failures={1: ConnectionError("gone")})

    def body(s):  # type: ignore[no-untyped-def]
        s += "a" + sgl.gen("x") + "b" + sgl.gen("y") + "c" + sgl.gen("z")
        s += "still no hang" + sgl.gen("w")

    state = run(body, backend=backend)
    assert state["x"] == "1"
    for name, message in (
        ("y", "variable 'y': ConnectionError: gone"),
        ("z", "variable 'z': never made, because something before it failed: .*variable 'y': ConnectionError: gone"),
        ("w", "variable 'w': never made"),
    ):
        with pytest.raises(BackendError, match=HERE + ".*" + message):
            state[name]
    with pytest.raises(BackendError, match="gone"):
        state.text()
    with pytest.raises(BackendError, match="gone"):
        state.messages()
    error = state.error()
    assert isinstance(error, BackendError) and isinstance(error.__cause__, ConnectionError)
    assert state["x"] == "1" and backend.counts["generate"] == 2
    state.sync()


def test_an_error_keeps_its_kind() -> None:
    backend = sgl.Mock(failures={0: RequestTooLong("12 tokens too many")})
    state = run(body, backend=backend)
    with pytest.raises(RequestTooLong, match=HERE + ", variable 'x': 12 tokens too many"):
        state["x"]


class Rude(Manual):
    """Breaks every promise, one at a time."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def stream(self) -> BackendStream:
        return RudeStream(self, "")


class RudeStream(ManualStream):
    backend: Rude

    def append(self, text: str) -> None:
        if self.backend.how == "append":
            raise RuntimeError("no appending")
        super().append(text)

    def generate(self, call: GenerateCall, done, delta=None):  # type: ignore[no-untyped-def]
        how = self.backend.how
        if how == "raises":
            raise RuntimeError("no generating")
        if how == "slow to start":
            time.sleep(0.2)
            return super().generate(call, done, delta)
        if how == "twice":
            done(Outcome(("1",), ({},)))
            done(Outcome(("2",), ({},)))
        if how == "empty":
            done(Outcome())
        if how == "raises after done":
            done(Outcome(("1",), ({},)))
            raise RuntimeError("too late")
        if how == "no meta":
            done(Outcome(("1",)))
        if how == "late delta":
            done(Outcome(("1",), ({},)))
            delta("junk")
        return super().generate(call, done, delta) if how == "never" else lambda: None

    def fork(self, count: int) -> list[BackendStream]:
        if self.backend.how == "fork":
            raise RuntimeError("no forking")
        return super().fork(count)


@pytest.mark.parametrize(
    ("how", "message"), [("append", "no appending"), ("raises", "no generating"), ("empty", "neither text nor error")]
)
def test_backends_that_break(how: str, message: str) -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "a" + sgl.gen("x") + sgl.gen("y")

    state = run(body, backend=Rude(how))
    with pytest.raises(BackendError, match=message):
        state["x"]
    with pytest.raises(BackendError, match="never made"):
        state["y"]


@pytest.mark.parametrize("how", ["twice", "raises after done", "no meta"])
def test_backends_that_are_careless(how: str) -> None:
    state = run(body, backend=Rude(how))
    assert state.text() == "1" and state.get_meta_info("x") == {}


def test_what_comes_after_the_end_is_not_heard() -> None:
    state = sgl.function(body).run(backend=Rude("late delta"), stream=True)
    assert "".join(state.text_iter()) == "1" == state.text()


def test_a_backend_that_cannot_fork() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        forks = s.fork(2)
        forks += sgl.gen("x")
        forks.join()

    raises(body, BackendError, r"branch 1 of 2: .*no forking", backend=Rude("fork"))


def test_a_backend_that_never_answers_ends_by_timeout() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "a" + sgl.gen("x", timeout=0.05) + sgl.gen("y")

    backend = Rude("never")
    state = run(body, backend=backend)
    with pytest.raises(BackendError, match=HERE + ", variable 'x': no answer within timeout=0.05 seconds"):
        state["x"]
    assert eventually(lambda: backend.calls[0].cancelled)
    assert isinstance(state.error(), BackendError)


def test_a_call_that_was_overdue_before_it_began_is_cancelled() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("x", timeout=0.02)

    backend = Rude("slow to start")
    state = run(body, backend=backend)
    assert "no answer within" in str(state.error()) and backend.calls[0].cancelled


def test_a_select_that_never_ends_ends_by_the_runs_timeout() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "a" + sgl.select("x", ["b", "c"])

    backend = Manual()
    state = run(body, backend=backend, timeout=0.05)
    with pytest.raises(BackendError, match=r"variable 'x': no answer within timeout=0\.05 seconds"):
        state["x"]


def test_all_of_our_errors_are_of_one_tree() -> None:
    from ramify.lang import failures

    assert issubclass(failures.UnsetVariable, RamifyError) and issubclass(failures.Abandoned, ProgramError)


def test_a_run_that_was_stopped_starts_nothing_more() -> None:
    backend = Manual()
    kept = []

    def body(s):  # type: ignore[no-untyped-def]
        kept.extend(s.fork(2))
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        run(body, backend=backend)
    with pytest.raises(ProgramError, match=r"nothing can be appended: program 'body' raised ValueError: stop"):
        kept[0] += sgl.gen("x")
    assert not backend.calls
