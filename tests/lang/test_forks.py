"""Forks and joins: who starts when, what comes home, and what becomes of branches that nobody reads."""

from __future__ import annotations

import gc
import threading

import pytest
import ramify as sgl
from ramify.errors import BackendError, ProgramError
from ramify.lang.dropping import watch_for_drops
from ramify.lang.failures import Abandoned

from .manual import Manual, eventually


def run(body, *args, backend, **kwargs):  # type: ignore[no-untyped-def]
    return sgl.function(body).run(*args, backend=backend, **kwargs)


def test_join_gathers_new_variables_as_lists() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "start" + sgl.gen("old")
        forks = s.fork(3)
        forks += lambda i: f" {i}:"
        forks += sgl.gen("x")
        forks[1]["mine"] = "only"
        forks.join()
        s += "end"
        return [fork.text() for fork in forks]

    state = run(body, backend=sgl.Mock(lambda prompt, call: prompt[-2:]))
    assert state["x"] == ["0:", "1:", "2:"] and state["mine"] == ["only"]
    assert state["old"] == "rt", "what was there before the fork is not gathered"
    assert state.text() == "startrtend"
    assert state.ret_value == ["startrt 0:0:", "startrt 1:1:", "startrt 2:2:"]
    assert [meta["finish_reason"]["type"] for meta in state.get_meta_info("x")] == ["stop"] * 3


def test_join_appends_texts_with_their_roles() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        forks = s.fork(2)
        forks += [sgl.user("one"), sgl.user("two")]
        forks += sgl.assistant(sgl.gen("x"))
        forks.join("concate_and_append")
        s += sgl.user("end")

    backend = Manual()
    state = sgl.function(body).run(backend=backend, stream=True)
    backend.call(1).finish("B")
    backend.call(0).finish("A")
    state.sync()
    eventually(lambda: state.stream_executor.sealed is not None)
    assert state.text() == (
        "<user>one</user><assistant>A</assistant><user>two</user><assistant>B</assistant><user>end</user>"
    )
    assert "x" not in state


def test_what_a_fork_says_is_its_own() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.user("a")
        forks = s.fork(2)
        forks += sgl.assistant(sgl.gen("x"))
        forks[0]["k"] = 1
        s += sgl.user("b")
        return [fork.messages()[1:] for fork in forks], "k" in s or "k" in forks[1], s.messages()

    said, leaked, own = run(body, backend=sgl.Mock(lambda prompt, call: "r")).ret_value
    assert said == [[{"role": "assistant", "content": "r"}]] * 2 and not leaked
    assert own == [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]


def test_a_group_takes_an_expression_for_each_or_for_all() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        forks = s.fork(2)
        forks += ["a", "b" + sgl.gen("x")]
        forks += "!"
        forks += lambda i: "?" * (i + 1)
        forks[0] += "."
        return len(forks), [fork.text() for fork in forks]

    assert run(body, backend=sgl.Mock(["1"])).ret_value == (2, ["a!?.", "b1!??"])


def test_forks_start_when_the_parent_comes_there_without_any_thread() -> None:
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        s += "p" + sgl.gen("x")
        forks = s.fork(2)
        forks += "f" + sgl.gen("y")
        s += "after" + sgl.gen("z")
        return forks

    watch_for_drops()
    threads = threading.active_count()
    state = run(body, backend=backend)
    assert [held.text for held in backend.calls] == ["p"]
    backend.calls[0].finish("1")
    assert [held.text for held in backend.calls[1:]] == ["p1after", "p1f", "p1f"]
    assert threading.active_count() == threads
    for held in backend.calls[1:]:
        held.finish("2")
    assert [fork["y"] for fork in state.ret_value] == ["2", "2"] and state.ret_value[0]["x"] == "1"


def test_forks_of_a_cold_prefix_wait_until_it_is_prefilled_once() -> None:
    for warm in (True, False):
        backend = Manual(warms=True)

        def body(s):  # type: ignore[no-untyped-def]
            s += "long prefix"
            forks = s.fork(3)
            forks += sgl.gen("y")
            return forks

        state = run(body, backend=backend, options=sgl.ExecutionOptions(warm_forks=warm))
        if warm:
            assert [held.kind for held in backend.calls] == ["warm"]
            backend.calls[0].finish()
        assert [held.kind for held in backend.calls[warm:]] == ["generate"] * 3
        for held in backend.calls[warm:]:
            held.finish()
        state.sync()


def test_a_single_fork_does_not_warm() -> None:
    backend = Manual(warms=True)

    def body(s):  # type: ignore[no-untyped-def]
        s += "long prefix"
        forks = s.fork(1)
        forks += sgl.gen("y")
        return forks

    state = run(body, backend=backend)
    assert [held.kind for held in backend.calls] == ["generate"]
    backend.calls[0].finish()
    assert state.ret_value[0]["y"] == "ok"


def test_a_copy_is_thrown_away_and_its_variables_come_home() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "a"
        with s.copy() as c:
            c += "b" + sgl.gen("x")
        s += "c"

    state = run(body, backend=sgl.Mock(["1"]))
    assert state.text() == "ac" and state["x"] == ["1"]


def test_branches_run_at_the_same_time_unless_told_not_to() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        forks = s.fork(2)
        forks += sgl.gen("y")
        forks.join()

    for parallel, expected in ((True, 2), (False, 1)):
        backend = Manual()
        state = sgl.function(body).run(
            backend=backend, stream=True, options=sgl.ExecutionOptions(parallel_forks=parallel)
        )
        backend.call(expected - 1)
        assert not eventually(lambda b=backend, e=expected: len(b.calls) > e, 0.05)
        backend.call(0).finish("1")
        backend.call(1).finish("2")
        assert eventually(lambda s=state: s.stream_executor.sealed is not None)
        assert state["y"] == ["1", "2"]


def test_an_unread_branch_is_cancelled() -> None:
    for cancels in (True, False):
        backend = Manual()

        def body(s):  # type: ignore[no-untyped-def]
            s += "p"
            forks = s.fork(2)
            forks += sgl.gen("y") + sgl.gen("z")
            s += sgl.gen("x")

        state = run(body, backend=backend, options=sgl.ExecutionOptions(cancel_unread=cancels))
        gc.collect()
        assert eventually(lambda b=backend, c=cancels: [held.cancelled for held in b.calls] == [c, c, False])
        backend.calls[2].finish("1")
        assert state["x"] == "1"
        assert len(backend.calls) == 3, "what was queued behind them is not started"
        assert [history.cancelled for history in state.history.children] == [cancels, cancels]
        for held in backend.calls:
            held.finish()


def test_a_dropped_state_is_cancelled_and_given_back() -> None:
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        s += "p" + sgl.gen("x")

    run(body, backend=backend)
    gc.collect()
    assert eventually(lambda: backend.calls[0].cancelled and backend.closed == ["p"])


def test_a_dropped_parent_still_takes_its_forks_where_they_start() -> None:
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        s += "p" + sgl.gen("x")
        (fork,) = s.fork(1)
        fork += "f" + sgl.gen("y")
        s += sgl.gen("unread")
        return fork

    fork = run(body, backend=backend).ret_value
    gc.collect()
    assert not backend.calls[0].cancelled
    backend.calls[0].finish("1")
    assert [held.text for held in backend.calls] == ["p", "p1f"]
    backend.calls[1].finish("2")
    assert fork["y"] == "2" and fork["x"] == "1"


def test_a_fork_may_be_used_after_its_program_has_ended() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "p"
        return s.fork(2)

    state = run(body, backend=sgl.Mock(["1", "2"]))
    first, second = state.ret_value
    del state
    first += "a" + sgl.gen("x")
    second += "b" + sgl.gen("x")
    assert (first.text(), second.text()) == ("pa1", "pb2")


def test_a_joined_branch_can_be_read_but_not_appended_to() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        forks = s.fork(2)
        forks += sgl.gen("x")
        forks.join()
        assert forks[0]["x"] == "1"
        with pytest.raises(Abandoned, match=r"program 'body'.*the branch was joined at .*test_forks.py:\d+"):
            forks[0] += "more"
        with pytest.raises(Abandoned, match="cannot be forked"):
            forks[0].fork(2)

    run(body, backend=sgl.Mock(["1", "2"]))


def test_an_ended_program_can_be_read_but_not_appended_to() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "a"

    state = run(body, backend=sgl.Mock())
    with pytest.raises(Abandoned, match="its program has ended"):
        state += "b"
    assert state.text() == "a"


def test_an_error_in_one_branch_surfaces_at_the_join_and_spares_the_others() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        forks = s.fork(3)
        forks += lambda i: f"{i}" + sgl.gen("x")
        with pytest.raises(BackendError, match=r"branch 2 of 3: program 'body', .*:\d+, variable 'x': boom"):
            forks.join()
        with pytest.raises(BackendError, match="variable 'x': boom"):
            forks[1]["x"]
        return [forks[0]["x"], forks[2]["x"]]

    state = run(body, backend=sgl.Mock(failures={2: BackendError("boom")}))
    assert len(state.ret_value) == 2 and all(state.ret_value)


def test_a_failing_parent_fails_its_forks() -> None:
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("x")
        forks = s.fork(2)
        forks += sgl.gen("y")
        deep = forks[0].fork(2)
        deep += sgl.gen("z")
        return forks, deep

    state = run(body, backend=backend)
    backend.calls[0].fail(BackendError("boom"))
    forks, deep = state.ret_value
    for fork, name in ((forks[0], "y"), (deep[1], "z")):
        with pytest.raises(BackendError, match=f"variable '{name}': never made.*variable 'x': boom"):
            fork[name]
        assert "boom" in str(fork.error())
    assert len(backend.calls) == 1


def test_joining_says_when_the_parent_comes_back() -> None:
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        s += "p"
        forks = s.fork(2)
        forks += sgl.gen("y", max_tokens=5) + sgl.gen("z")
        forks.join()

    state = sgl.function(body).run(backend=backend, stream=True)
    assert eventually(lambda: bool(backend.hints))
    assert backend.hints == [("p", 133.0)]
    for index in range(4):
        backend.call(index).finish()
    assert eventually(lambda: state.stream_executor.sealed is not None)


def test_ten_thousand_forks_live_at_once() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += "p"
        forks = s.fork(10_000)
        forks += "f" + sgl.gen("y")
        forks.join()

    watch_for_drops()
    threads = threading.active_count()
    state = run(body, backend=sgl.NullBackend())
    assert len(state["y"]) == 10_000 and threading.active_count() == threads


def test_forks_of_forks_ten_thousand_deep() -> None:
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("x")
        for _ in range(10_000):
            s = s.fork(1)[0]
        s += "end" + sgl.gen("y")
        return s

    backend = Manual()
    state = run(body, backend=backend)
    backend.calls[0].finish("1")
    backend.calls[1].finish("2")
    assert state.ret_value["y"] == "2"
    with pytest.raises(ProgramError):
        state += "x"


def test_a_state_may_become_garbage_while_locks_are_held() -> None:
    """The collector may run a state's finalizer in a thread that holds its stream's lock."""
    backend = Manual()

    def body(s):  # type: ignore[no-untyped-def]
        s += "p" + sgl.gen("x")

    def collect() -> None:
        state = run(body, backend=backend)
        with state.stream_executor.lock:
            cycle = [state]
            cycle.append(cycle)
            del state, cycle
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive() and eventually(lambda: backend.calls[0].cancelled)
