"""Programs on the embedded model: what every switch may not change, and what no model can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import ramify as sgl
from ramify.errors import InvalidRequest, RequestTooLong

DOCUMENT = "The river rises in the hills, runs past three towns, and ends in the sea. " * 3


@pytest.fixture(scope="module")
def engine() -> Iterator[sgl.Engine]:
    made = sgl.Engine(mode="fp32", cache_tokens=16384, context_length=1024)
    yield made
    made.close()


@sgl.function
def judge(s, document):  # type: ignore[no-untyped-def]
    s += document + "\nSummary:" + sgl.gen("summary", max_tokens=8, temperature=0) + "\n"
    forks = s.fork(3)
    for index, fork in enumerate(forks):
        fork += f"Is it about {['water', 'towns', 'music'][index]}?"
        fork += sgl.select("answer", [" yes", " no", " maybe"]) + sgl.gen("why", max_tokens=4, temperature=0, stop=".")
    forks.join()
    s += "So:" + sgl.gen("end", max_tokens=6, temperature=0)


def outcome(state: sgl.ProgramState) -> object:
    return state.text(), state["answer"], state["why"]


@pytest.fixture(scope="module")
def expected(engine: sgl.Engine) -> object:
    return outcome(judge.run(DOCUMENT, backend=engine))


@pytest.mark.parametrize(
    "switch",
    ["lookahead", "warm_forks", "priorities", "next_use", "cancel_unread", "parallel_forks", "reuse_handles"],
)
def test_no_switch_changes_a_text(engine: sgl.Engine, expected: object, switch: str) -> None:
    engine.flush_cache()
    options = replace(sgl.ExecutionOptions(), **{switch: False})
    assert outcome(judge.run(DOCUMENT, backend=engine, options=options)) == expected


def test_forks_of_a_cold_prefix_prefill_it_once(engine: sgl.Engine) -> None:
    @sgl.function
    def branch(s, document):  # type: ignore[no-untyped-def]
        s += document
        forks = s.fork(8)
        forks += sgl.gen("x", max_tokens=2, temperature=0)
        forks.join()

    prefix = engine.tokenizer.encode(DOCUMENT)
    engine.flush_cache()
    before = engine.stats().scheduler.computed_tokens
    branch.run(DOCUMENT, backend=engine)
    computed = engine.stats().scheduler.computed_tokens - before
    assert len(prefix) <= computed < len(prefix) + 8 * (engine.options.page_size + 3)


def test_a_prompt_longer_than_the_context(engine: sgl.Engine) -> None:
    @sgl.function
    def body(s):  # type: ignore[no-untyped-def]
        s += "Hi" + sgl.gen("a", max_tokens=2) + DOCUMENT * 40 + sgl.gen("b") + sgl.gen("c")

    state = body.run(backend=engine)
    assert isinstance(state["a"], str)
    with pytest.raises(RequestTooLong, match=r"program 'body', .*test_on_the_engine.py:\d+, variable 'b'"):
        state["b"]
    with pytest.raises(RequestTooLong, match="variable 'c': never made"):
        state["c"]


def test_an_empty_prompt(engine: sgl.Engine) -> None:
    @sgl.function
    def body(s):  # type: ignore[no-untyped-def]
        s += sgl.gen("a", max_tokens=3) + sgl.select("b", [" x", " y"])

    state = body.run(backend=engine)
    with pytest.raises(InvalidRequest, match=r"variable 'a': the prompt is empty, .*: append a text first"):
        state["a"]


def test_max_tokens_that_cut_are_said(engine: sgl.Engine) -> None:
    @sgl.function
    def body(s):  # type: ignore[no-untyped-def]
        s += "Count: 1 2 3" + sgl.gen("a", max_tokens=3, ignore_eos=True)

    meta = body.run(backend=engine).get_meta_info("a")
    assert meta["finish_reason"] == {"type": "length", "length": 3} and meta["completion_tokens"] == 3


def test_the_same_texts_alone_and_in_a_batch(engine: sgl.Engine) -> None:
    rows = [{"document": DOCUMENT[: 60 * n]} for n in range(1, 4)]
    together = [outcome(state) for state in judge.run_batch(rows, backend=engine)]
    assert together == [outcome(judge.run(**row, backend=engine)) for row in rows]


def test_text_streams_from_the_model(engine: sgl.Engine) -> None:
    @sgl.function
    def body(s):  # type: ignore[no-untyped-def]
        s += "Once upon a time" + sgl.gen("a", max_tokens=12, temperature=0)

    state = body.run(backend=engine, stream=True)
    pieces = list(state.text_iter("a"))
    assert "".join(pieces) == state["a"] and len(pieces) > 1
