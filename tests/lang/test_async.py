"""Async programs, and programs in event loops."""

from __future__ import annotations

import asyncio

import pytest
import ramify as sgl
from ramify.errors import BackendError, ProgramError

from .manual import Manual


@sgl.function
async def ask(s, word):  # type: ignore[no-untyped-def]
    s += word + sgl.gen("x")
    first = await s.get("x")
    s += "|" + sgl.gen("y")
    return first, await s.get("y")


@sgl.function
def plain(s, word):  # type: ignore[no-untyped-def]
    s += word + sgl.gen("x")
    return s["x"] + "!"


def test_an_async_program_runs_without_an_event_loop() -> None:
    state = ask.run("a", backend=sgl.Mock(["1", "2"]))
    assert state.ret_value == ("1", "2") and state.text() == "a1|2"


def test_many_run_in_one_event_loop_at_the_same_time() -> None:
    backend = Manual()

    async def main() -> list[object]:
        tasks = [asyncio.create_task(program.run_async(word, backend=backend)) for program, word in rows]
        while len(backend.calls) < 3:
            await asyncio.sleep(0)
        for held in reversed(backend.calls[:3]):
            held.finish(f"<{held.text}>")
        while len(backend.calls) < 5:
            await asyncio.sleep(0)
        for held in backend.calls[3:]:
            held.finish("end")
        return [(await task).ret_value for task in tasks]

    rows = [(ask, "a"), (ask, "b"), (plain, "c")]
    assert asyncio.run(main()) == [("<a>", "end"), ("<b>", "end"), "<c>!"]


def test_run_inside_an_event_loop_says_what_to_write() -> None:
    async def main() -> None:
        with pytest.raises(ProgramError, match=r"write `await ask.run_async\(\.\.\.\)`"):
            ask.run("a", backend=sgl.Mock())

    asyncio.run(main())


def test_a_plain_program_may_run_inside_an_event_loop() -> None:
    async def main() -> object:
        return plain.run("a", backend=sgl.Mock(["1"], latency=0.01)).ret_value

    assert asyncio.run(main()) == "1!"


@pytest.mark.parametrize("program", [ask, plain])
def test_a_task_that_is_cancelled_cancels_its_calls(program: sgl.SglFunction) -> None:
    backend = Manual()

    async def main() -> None:
        task = asyncio.create_task(program.run_async("a", backend=backend))
        while not backend.calls:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert backend.calls[0].cancelled


@pytest.mark.parametrize("program", [ask, plain])
def test_errors_reach_the_awaiter(program: sgl.SglFunction) -> None:
    async def main() -> None:
        await program.run_async("a", backend=sgl.Mock(failures={0: BackendError("boom")}))

    with pytest.raises(BackendError, match="variable 'x': boom"):
        asyncio.run(main())


def test_a_batch_of_async_programs() -> None:
    states = ask.run_batch([{"word": str(i)} for i in range(20)], backend=sgl.Mock(lambda p, c: p), num_threads=4)
    assert [state.ret_value[0] for state in states] == [str(i) for i in range(20)]
    found = ask.run_batch(
        [{"word": str(i)} for i in range(5)], backend=sgl.Mock(), generator_style=True, in_order=False
    )
    assert sorted(state.row for state in found) == [0, 1, 2, 3, 4]


def test_async_programs_inside_async_programs() -> None:
    @sgl.function
    async def outer(s):  # type: ignore[no-untyped-def]
        s += "("
        first, _ = await ask(s, "w")
        s += ")" + first

    assert outer.run(backend=sgl.Mock(["1", "2"])).text() == "(w1|2)1"


def test_an_async_program_streams() -> None:
    found = list(ask.run("a", stream=True, backend=sgl.Mock(["one two", "three"])).text_iter())
    assert "".join(found) == "aone two|three"
