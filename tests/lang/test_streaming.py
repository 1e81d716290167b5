"""Texts as they come: for threads, for event loops, and when nobody listens any more."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
import ramify as sgl
from ramify.errors import BackendError, ProgramError

from .manual import Manual, eventually


@sgl.function
def story(s, hero):  # type: ignore[no-untyped-def]
    s += f"Once {hero}" + sgl.gen("a") + "."
    s += s["a"].upper() + sgl.gen("b")


def test_all_text_comes_in_pieces() -> None:
    backend = sgl.Mock(["went home", "the end"], latency=0.02)
    found = list(story.run("a dragon", stream=True, backend=backend).text_iter())
    assert "".join(found) == "Once a dragonwent home.WENT HOMEthe end"
    assert len(found) > 1


def test_pieces_come_before_the_end() -> None:
    backend = Manual()
    state = story.run("x", stream=True, backend=backend)
    pieces = state.text_iter()
    assert next(pieces) == "Once x"
    held = backend.call(0)
    assert held.delta is not None and held.call.stream
    held.delta("we")
    assert next(pieces) == "we"
    held.finish("went")
    backend.call(1).finish("!")
    assert "".join(pieces) == "nt.WENT!" and state["a"] == "went"


def test_one_variable_comes_by_itself() -> None:
    state = story.run("x", stream=True, backend=sgl.Mock(["one two three", "four five"]))
    found = list(state.text_iter("b"))
    assert "".join(found) == "four five"
    assert "".join(state.text_iter("a")) == "one two three"


def test_a_run_that_does_not_stream_gives_its_text_at_once() -> None:
    state = story.run("x", backend=sgl.Mock(["one", "two"]))
    assert "".join(state.text_iter()) == "Once xone.ONEtwo"
    assert list(state.text_iter("a")) == ["one"]


def test_async_for_gives_the_same_and_meta_data() -> None:
    async def main() -> tuple[str, list[tuple[str, dict[str, object]]]]:
        state = story.run("x", stream=True, backend=sgl.Mock(["one two", "three"], latency=0.01))
        text = "".join([piece async for piece in state.text_async_iter()])
        return text, [pair async for pair in state.text_async_iter("a", return_meta_data=True)]

    text, pairs = asyncio.run(main())
    assert text == "Once xone two.ONE TWOthree"
    assert "".join(piece for piece, _ in pairs) == "one two"
    assert pairs[-1][1]["finish_reason"] == {"type": "stop", "matched": None}


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_may_read_its_own_text_and_that_of_forks_as_it_comes(stream: bool) -> None:
    @sgl.function
    def body(s):  # type: ignore[no-untyped-def]
        s += "p"
        forks = s.fork(2)
        forks += sgl.gen("x")
        found = ["".join(fork.text_iter()) for fork in forks]
        s += "q" + sgl.gen("y")
        return [*found, "".join(s.text_iter()), "".join(s.text_iter("y"))]

    state = body.run(backend=sgl.Mock(["1", "2", "3"], latency=0.01), stream=stream)
    assert "".join(state.text_iter()) == "pq3"
    assert state.ret_value == ["p1", "p2", "pq3", "3"]


def test_an_error_comes_after_the_pieces_that_were_made() -> None:
    backend = sgl.Mock(["one", "two"], failures={1: BackendError("boom")})
    found = []
    state = story.run("x", stream=True, backend=backend)
    with pytest.raises(BackendError, match=r"program 'story', .*, variable 'b': boom"):
        found.extend(state.text_iter())
    assert "".join(found) == "Once xone.ONE" and state["a"] == "one"


def test_an_exception_in_the_body_comes_at_the_end_of_the_text() -> None:
    @sgl.function
    def body(s):  # type: ignore[no-untyped-def]
        s += "p" + sgl.gen("x")
        s["x"]
        raise ZeroDivisionError("oh")

    state = body.run(stream=True, backend=sgl.Mock(["1"]))
    found = []
    with pytest.raises(ZeroDivisionError, match="oh"):
        found.extend(state.text_iter())
    assert state["x"] == "1" and isinstance(state.error(), ZeroDivisionError)


def test_wrong_arguments_are_an_error_at_the_call() -> None:
    with pytest.raises(ValueError, match=r"program 'story'.*hero"):
        story.run(stream=True, backend=sgl.Mock())


def test_a_stream_that_is_dropped_half_read_stops_its_program() -> None:
    backend = Manual()
    state = story.run("x", stream=True, backend=backend)
    pieces = state.text_iter()
    held = backend.call(0)
    held.delta("we")
    assert next(pieces)
    del state
    gc.collect()
    assert not held.cancelled, "the iterator still reads"
    del pieces
    gc.collect()
    assert eventually(lambda: held.cancelled)
    assert eventually(lambda: not any("ramify program story" in t.name for t in threading.enumerate()))
    assert len(backend.calls) == 1 and eventually(lambda: len(backend.closed) == 1)


def test_two_readers_each_get_everything() -> None:
    state = story.run("x", stream=True, backend=sgl.Mock(["one two three", "four"], latency=0.02))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append("".join(state.text_iter()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == ["Once xone two three.ONE TWO THREEfour"] * 3


def test_who_reads_waits_for_a_body_that_has_not_come_there_yet() -> None:
    @sgl.function
    def slow(s, fails=False):  # type: ignore[no-untyped-def]
        assert going.wait(5)
        s += "a"
        if fails:
            raise ValueError("the body")
        s += sgl.gen("x")
        s["y"] = 3

    def begun(**arguments: bool) -> sgl.ProgramState:
        going.clear()
        threading.Timer(0.05, going.set).start()
        return slow.run(**arguments, stream=True, backend=sgl.Mock(["b"]))

    going = threading.Event()
    assert begun()["x"] == "b" and begun()["y"] == 3 and begun().text() == "ab"
    assert asyncio.run(begun().get("x")) == "b"
    assert begun().error() is None and str(begun(fails=True).error()) == "the body"
    with pytest.raises(ValueError, match="the body"):
        begun(fails=True)["x"]
    with pytest.raises(ProgramError, match="'z' was never set"):
        begun()["z"]
