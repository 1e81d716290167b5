"""Batches: thousands of programs in one thread, each by itself."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import ramify as sgl
from ramify.errors import BackendError, BatchFailed, InvalidRequest
from ramify.lang.dropping import watch_for_drops

from .manual import Manual


@sgl.function
def ask(s, q, extra=""):  # type: ignore[no-untyped-def]
    s += q + extra + sgl.gen("x")
    if s["x"] == "bad":
        raise ValueError(f"bad row {q}")
    s += sgl.gen("y")
    return s["x"]


def echo(prompt: str, call: object) -> str:
    return prompt


def test_rows_are_dicts_or_tuples_and_states_come_in_order() -> None:
    states = ask.run_batch([{"q": "a"}, ("b",), ("c", "d"), {"extra": "f", "q": "e"}], backend=sgl.Mock(echo))
    assert [state["x"] for state in states] == ["a", "b", "cd", "ef"]
    assert [state.row for state in states] == [0, 1, 2, 3] and states[0].ret_value == "a"


def test_an_empty_batch_is_an_empty_list() -> None:
    assert ask.run_batch([], backend=sgl.Mock()) == []
    assert list(ask.run_batch([], backend=sgl.Mock(), generator_style=True)) == []


def test_bodies_wait_without_threads_and_all_at_once() -> None:
    backend = sgl.Mock(echo, latency=0.05)
    watch_for_drops()
    before = threading.active_count()
    seen = []

    @sgl.function
    def body(s, q):  # type: ignore[no-untyped-def]
        s += q + sgl.gen("x")
        seen.append((threading.get_ident(), threading.active_count()))
        return s["x"]

    states = body.run_batch([{"q": str(i)} for i in range(200)], backend=backend)
    assert [state.ret_value for state in states] == [str(i) for i in range(200)]
    assert {ident for ident, _ in seen} == {threading.get_ident()}
    assert max(count for _, count in seen) <= before + 1, "only the mock's clock is a thread"


def test_only_so_many_are_under_way() -> None:
    backend = sgl.Mock(echo, latency=0.03)
    living, most = [0], [0]

    @sgl.function
    def body(s):  # type: ignore[no-untyped-def]
        living[0] += 1
        most[0] = max(living[0], most[0])
        s += sgl.gen("x")
        s["x"]
        living[0] -= 1

    body.run_batch([{}] * 30, backend=backend, num_threads=7)
    assert most == [7]
    most[0] = 0
    body.run_batch([{}] * 5, backend=backend, num_threads=1)
    assert most == [1]


def test_one_bad_row_does_not_stop_the_others() -> None:
    rows = [{"q": "a"}, {"q": "bad"}, {"q": "c"}]
    states = ask.run_batch(rows, backend=sgl.Mock(echo), errors="return")
    assert [state["x"] for state in states] == ["a", "bad", "c"]
    assert [type(state.error()) for state in states] == [type(None), ValueError, type(None)]
    with pytest.raises(
        BatchFailed, match=r"1 of 3 rows of program 'ask' raised; the first, row 1: ValueError: bad row"
    ) as e:
        ask.run_batch(rows, backend=sgl.Mock(echo))
    assert [state["x"] for state in e.value.generations] == ["a", "bad", "c"]
    assert isinstance(e.value.__cause__, ValueError)


def test_a_backends_error_stays_in_its_row() -> None:
    @sgl.function
    def body(s, q):  # type: ignore[no-untyped-def]
        s += q + sgl.gen("x")

    states = body.run_batch([{"q": "a"}, {"q": "b"}], backend=sgl.Mock(echo, failures={0: BackendError("boom")}))
    assert "boom" in str(states[0].error()) and states[1]["x"] == "b"


def test_states_come_as_they_finish_when_asked() -> None:
    backend = sgl.Mock(lambda prompt, call: prompt)

    def slow_first(index: int) -> Exception | None:
        return None

    @sgl.function
    def body(s, q, n):  # type: ignore[no-untyped-def]
        for _ in range(n):
            s += q + sgl.gen("x")
            s["x"]

    backend = sgl.Mock(echo, failures=slow_first, latency=0.005)
    rows = [{"q": "slow", "n": 6}, {"q": "fast", "n": 1}]
    kwargs = {"backend": backend, "generator_style": True}
    assert [state.row for state in body.run_batch(rows, in_order=False, **kwargs)] == [1, 0]
    assert [state.row for state in body.run_batch(rows, **kwargs)] == [0, 1]


def test_a_generator_holds_no_state_that_was_handed_out() -> None:
    references = []
    for state in ask.run_batch([{"q": str(i)} for i in range(300)], backend=sgl.Mock(echo), generator_style=True):
        references.append(weakref.ref(state))
        del state
        assert sum(reference() is not None for reference in references) <= 2
    gc.collect()
    assert len(references) == 300


def test_a_slow_first_row_does_not_pile_up_states() -> None:
    """In order, at most twice as many rows as are under way are begun and not handed out."""
    backend = Manual()
    started = []

    @sgl.function
    def body(s, q):  # type: ignore[no-untyped-def]
        started.append(q)
        if q == 0:
            s += sgl.gen("x")
            s["x"]

    states = body.run_batch([{"q": i} for i in range(100)], backend=backend, generator_style=True, num_threads=4)
    threading.Timer(0.2, lambda: backend.calls[0].finish()).start()
    assert next(states).row == 0
    assert len(started) <= 8
    assert [state.row for state in states] == list(range(1, 100))


def test_a_generator_that_is_dropped_cancels_what_is_under_way() -> None:
    backend = Manual()
    left = []

    @sgl.function
    def body(s, q):  # type: ignore[no-untyped-def]
        try:
            s += q + sgl.gen("x")
            s["x"]
        finally:
            left.append(q)

    states = body.run_batch([{"q": str(i)} for i in range(3)], backend=backend, generator_style=True)
    threading.Timer(0.05, lambda: backend.call(1).finish()).start()
    assert next(iter(body.run_batch([], backend=backend, generator_style=True)), None) is None
    threading.Timer(0.05, lambda: backend.call(0).finish()).start()
    next(states)
    states.close()
    gc.collect()
    assert sorted(left) == ["0", "1", "2"]
    assert backend.calls[2].cancelled


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"q": "a"}, {}], "row 1.*'q'"),
        ([{"q": "a", "z": 1}], "row 0.*'z'"),
        ([("a", "b", "c")], "row 0.*too many"),
        ([{"q": "a"}, "b"], "row 1 is 'b'"),
        ("abc", "list of rows"),
        ({"q": "a"}, "list of rows"),
        (3, "list of rows"),
    ],
)
def test_wrong_rows_are_an_error_before_anything_runs(rows: object, message: str) -> None:
    backend = sgl.Mock()
    with pytest.raises(InvalidRequest, match=message):
        ask.run_batch(rows, backend=backend)
    assert not backend.calls


@pytest.mark.parametrize(
    ("name", "value"), [("num_threads", 0), ("num_threads", "many"), ("errors", "skip"), ("foo", 1)]
)
def test_wrong_settings_of_a_batch(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=name):
        ask.run_batch([("a",)], backend=sgl.Mock(), **{name: value})


def test_batches_inside_batches() -> None:
    @sgl.function
    def outer(s, n):  # type: ignore[no-untyped-def]
        s += f"{n}"
        inner = ask.run_batch([{"q": f"{n}{i}"} for i in range(3)], backend=s.stream_executor.context.backend)
        s += sgl.gen("x")
        return [state["x"] for state in inner] + [s["x"]]

    states = outer.run_batch([{"n": i} for i in range(4)], backend=sgl.Mock(echo, latency=0.002))
    assert [state.ret_value for state in states] == [[f"{n}0", f"{n}1", f"{n}2", f"{n}"] for n in range(4)]


def test_a_progress_bar_counts_rows(capsys: pytest.CaptureFixture[str]) -> None:
    ask.run_batch([("a",), ("b",)], backend=sgl.Mock(echo), progress_bar=True)
    assert "2/2" in capsys.readouterr().err


def test_ten_thousand_programs() -> None:
    watch_for_drops()
    before = threading.active_count()
    states = ask.run_batch([{"q": "a"}] * 10_000, backend=sgl.NullBackend())
    assert len(states) == 10_000 and states[-1]["y"] == " ok" and threading.active_count() == before


def test_forks_and_text_iterators_work_inside_rows() -> None:
    @sgl.function
    def body(s, q):  # type: ignore[no-untyped-def]
        s += q
        forks = s.fork(2)
        forks += lambda i: f"{i}" + sgl.gen("x")
        forks.join()
        s += sgl.gen("z")
        return "".join(s.text_iter())

    states = body.run_batch([{"q": "a"}, {"q": "b"}], backend=sgl.Mock(echo, latency=0.002))
    assert [state["x"] for state in states] == [["a0", "a1"], ["b0", "b1"]]
    assert states[0].ret_value == "aa"


def test_bodies_that_block_may_have_threads() -> None:
    at_once = threading.Barrier(4)

    @sgl.function
    def body(s, q):  # type: ignore[no-untyped-def]
        s += q + sgl.gen("x")
        at_once.wait(20)  # no value: a greenlet would keep the others from coming here
        if s["x"] == "1":
            raise ValueError("mine")
        return s["x"]

    rows = [{"q": str(i)} for i in range(8)]
    states = body.run_batch(rows, backend=sgl.Mock(echo), in_threads=True, num_threads=4, errors="return")
    assert [state.ret_value for state in states] == ["0", None, "2", "3", "4", "5", "6", "7"]
    assert isinstance(states[1].error(), ValueError)
