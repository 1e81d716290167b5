"""Compiled programs while they run: what starts when, what the backend is told, and what goes wrong."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
import ramify as sgl
from ramify.errors import BackendError, InvalidRequest, ProgramError
from ramify.lang.graph.passes import ALL_PASSES
from ramify.lang.graph.templates import ENOUGH, templates_of

from ..manual import Manual, eventually

LONG = "A text that is long enough to be shared by several branches. " * 5


def begin(program: sgl.SglFunction, backend: Manual, **arguments: Any) -> tuple[threading.Thread, list[Any]]:
    """Run in a thread; what comes of it is in the list."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(program.run(backend=backend, **arguments))
        except Exception as error:
            came.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, came


@sgl.function
def two(s: Any) -> None:
    """The second branch does not need the first, but the body waits before it comes to it."""
    first, second = s.fork(2)
    first += "first" + sgl.gen("a")
    s += "<" + first["a"] + ">"
    second += "second" + sgl.gen("b")
    s += second["b"] + sgl.gen("c")


def test_gens_that_do_not_depend_on_each_other_run_at_once() -> None:
    backend = Manual()
    thread, came = begin(two.compile(), backend)
    assert {backend.call(0).text, backend.call(1).text} == {"first", "second"}
    for call in (backend.call(1), backend.call(0)):
        call.finish(f"[{call.text}]")
    assert backend.call(2).text == "<[first]>[second]"
    backend.call(2).finish("!")
    thread.join(10)
    assert came[0].text() == "<[first]>[second]!"


@pytest.mark.parametrize("program", [two, two.compile(passes=replace(ALL_PASSES, free_independent=False))])
def test_without_the_pass_they_wait_as_the_body_does(program: sgl.SglFunction) -> None:
    backend = Manual()
    _, came = begin(program, backend)
    backend.call(0).finish("x")
    assert backend.call(1).text == "second"
    backend.call(1).finish("y")
    backend.call(2).finish("z")
    assert eventually(lambda: bool(came)) and came[0].text() == "<x>yz"


def test_calls_know_their_priority() -> None:
    @sgl.function
    def program(s: Any, q: str) -> None:
        s += q + sgl.gen("a")
        s += f"then {q}: "
        s += "and " + sgl.gen("b")

    backend = Manual()
    _, came = begin(program.compile(), backend, q="Q")
    first = backend.call(0).call
    assert first is not None and first.priority == -1
    backend.call(0).finish("x")
    assert backend.call(1).call.priority == 0 and backend.call(1).text == "Qxthen Q: and "
    backend.call(1).finish("y")
    assert eventually(lambda: bool(came))


def test_a_stream_that_waits_says_for_how_long() -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "root" + sgl.gen("a", max_tokens=10)
        fork = s.fork()
        fork += "child" + sgl.gen("b", max_tokens=40)
        s += fork[0]["b"] + sgl.gen("c", max_tokens=10)

    def hints(options: sgl.ExecutionOptions) -> list[Any]:
        backend = Manual()
        _, came = begin(program.compile(), backend, options=options)
        backend.call(0).finish("x")
        child = backend.call(1)
        assert child.text == "rootxchild"
        eventually(lambda: any(steps != 1.0 for _, steps in backend.hints) or not options.next_use)
        told = list(backend.hints)
        child.finish("y")
        backend.call(2).finish("z")
        assert eventually(lambda: bool(came)) and came[0].text() == "rootxyz"
        return told

    *_, (text, steps) = hints(sgl.ExecutionOptions())  # before, it is taken to be back at once, as any live program
    assert text == "rootx" and 40 <= steps <= 42
    assert hints(sgl.ExecutionOptions(next_use=False)) == []


def test_branches_that_nobody_comes_back_to_are_closed_early() -> None:
    backend = Manual()
    _, came = begin(two.compile(), backend)
    by_text = {backend.call(index).text: backend.call(index) for index in (0, 1)}
    by_text["first"].finish("x")
    assert eventually(lambda: "firstx" in backend.closed), "while the program still runs"
    assert not came
    by_text["second"].finish("y")
    backend.call(2).finish("z")


def test_unread_branches_are_not_asked_for() -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "a" + sgl.gen("x")
        forks = s.fork(5)
        forks += "never" + sgl.gen("y")

    counts = []
    for one in (program.compile(), program.compile(passes=replace(ALL_PASSES, drop_unread=False))):
        backend = sgl.Mock()
        one.run(backend=backend).text()
        counts.append(backend.counts["fork"])
    assert counts == [0, 5]


def test_an_error_is_raised_where_its_value_is_needed() -> None:
    for program in (two, two.compile()):
        backend = sgl.Mock(lambda prompt, call: ConnectionError("down") if prompt == "first" else "x")
        with pytest.raises(BackendError, match=r"variable 'a': .*down"):
            program.run(backend=backend)


def test_an_error_in_a_branch_is_raised_at_the_join() -> None:
    @sgl.function
    def program(s: Any) -> None:
        forks = s.fork(3)
        forks += lambda index: f"{index}" + sgl.gen("x")
        forks.join()

    messages = []
    for one in (program, program.compile()):
        with pytest.raises(BackendError) as caught:
            one.run(backend=sgl.Mock(lambda prompt, call: ConnectionError("down") if prompt == "1" else "x"))
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and messages[0].startswith("branch 2 of 3: ")


def test_an_error_that_nobody_reads_is_kept() -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "a" + sgl.gen("x")

    for one in (program, program.compile()):
        state = one.run(backend=sgl.Mock([ConnectionError("down")]))
        assert "down" in str(state.error())


def test_options_with_holes_are_checked_when_they_are_there() -> None:
    @sgl.function
    def program(s: Any, options: list[str]) -> None:
        s += "a" + sgl.select("x", choices=options)

    assert program.compile().run(["p", "q"], backend=sgl.Mock())["x"] in ("p", "q")
    for one in (program, program.compile()):
        with pytest.raises(InvalidRequest, match=r"choices\[1\] is empty"):
            one.run(["p", ""], backend=sgl.Mock())


def test_text_that_no_encoding_has() -> None:
    @sgl.function
    def program(s: Any, q: str) -> None:
        s += f"a {q}" + sgl.gen("x")

    for one in (program, program.compile()):
        with pytest.raises(ProgramError, match="surrogate"):
            one.run("\ud800", backend=sgl.Mock())


def test_other_shapes_get_other_templates() -> None:
    @sgl.function
    def program(s: Any, words: list[str], polite: bool = False) -> None:
        s += "Please. " if polite else ""
        for word in words:
            s += word + sgl.gen()
        if words[0].startswith("a"):
            s += "!"

    compiled = program.compile()
    templates = templates_of(compiled.func)
    assert templates is not None
    for words in (["a"], ["b"], ["a", "b"], ["a", "b", "c"], []):
        for polite in (True, False):
            results = []
            for one in (program, compiled):
                try:
                    results.append(one.run(words, polite, backend=sgl.Mock()).text())
                except IndexError as error:
                    results.append(str(error))
            assert results[0] == results[1]


def test_arguments_that_always_differ_do_not_make_templates_for_ever() -> None:
    @sgl.function
    def program(s: Any, number: int) -> None:
        s += f"{number}" + sgl.gen("x")

    compiled = program.compile()
    templates = templates_of(compiled.func)
    assert templates is not None
    states = compiled.run_batch([{"number": number} for number in range(3 * ENOUGH)], backend=sgl.Mock())
    plain = program.run_batch([{"number": number} for number in range(3 * ENOUGH)], backend=sgl.Mock())
    assert [state.text() for state in states] == [state.text() for state in plain]
    assert templates._made == ENOUGH


def test_rows_of_a_batch_share_what_they_begin_with() -> None:
    @sgl.function
    def program(s: Any, shots: str, q: str) -> None:
        s += "Examples: " + shots
        s += f"Q: {q}" + sgl.gen("x")

    rows = [{"shots": LONG, "q": f"row {index}"} for index in range(20)]
    plain = [state.text() for state in program.run_batch(rows, backend=sgl.Mock())]
    backend = sgl.Mock()
    states = program.compile().run_batch(rows, backend=backend)
    assert [state.text() for state in states] == plain
    first = backend.calls[0]
    assert (first.kind, first.prompt) == ("warm", "Examples: " + LONG + "Q: row ") and backend.counts["warm"] == 1
    for options in (sgl.ExecutionOptions(warm_forks=False), sgl.ExecutionOptions(graph=False)):
        backend = sgl.Mock()
        assert [s.text() for s in program.compile().run_batch(rows, backend=backend, options=options)] == plain
        assert backend.counts["warm"] == 0


def test_without_the_graph_the_body_runs() -> None:
    ran = []

    @sgl.function
    def program(s: Any) -> None:
        ran.append(1)
        s += "a" + sgl.gen("x")

    compiled = program.compile()
    compiled.run(backend=sgl.Mock())
    compiled.run(backend=sgl.Mock())
    assert len(ran) == 2, "the two traces"
    compiled.run(backend=sgl.Mock(), options=sgl.ExecutionOptions(graph=False))
    assert len(ran) == 3


def test_async_programs_streams_and_programs_in_programs() -> None:
    @sgl.function
    async def waits(s: Any, q: str) -> None:
        s += q + sgl.gen("a")
        s += "so " + await s.get("a") + sgl.gen("b")

    @sgl.function
    def outer(s: Any, q: str) -> None:
        s += "outer " + waits_not(q) + sgl.gen("c")

    @sgl.function
    def waits_not(s: Any, q: str) -> None:
        s += q + sgl.gen("a") + "so "
        s += s["a"] + sgl.gen("b")

    compiled_inside = waits_not.compile()

    @sgl.function
    def outer_of_compiled(s: Any, q: str) -> None:
        compiled_inside(s, q)
        s += "then" + sgl.gen("c")

    def text(program: sgl.SglFunction, **given: Any) -> str:
        return program.run("Q", backend=sgl.Mock(), **given).text()

    for program in (waits, outer, outer_of_compiled):
        assert text(program.compile()) == text(program)
        assert "".join(program.compile().run("Q", backend=sgl.Mock(), stream=True).text_iter()) == text(program)
    run = asyncio.run(waits.compile().run_async("Q", backend=sgl.Mock()))
    assert run.text() == text(waits) == text(waits.compile(), use_thread=False)
    assert outer.compile().bind(q="Q").run(backend=sgl.Mock()).text() == text(outer)


def test_many_branches() -> None:
    @sgl.function
    def program(s: Any, count: int) -> None:
        forks = s.fork(count)
        forks += lambda index: f"{index}" + sgl.gen("x")
        forks.join()

    state = program.compile().run(1000, backend=sgl.Mock(lambda prompt, call: prompt[::-1]))
    assert state["x"][123] == "321" and len(state["x"]) == 1000
