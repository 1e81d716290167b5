"""Compiled programs on a real engine: the same texts, and what the graph saves, counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import ramify as sgl
from ramify.lang.graph.passes import ALL_PASSES, NO_PASSES, Passes

from ..backends.conftest import tiny as tiny
from ..backends.conftest import tiny_model as tiny_model

ESSAY = "The river rises in the hills, runs past three towns, and ends in the sea. " * 4


@sgl.function
def judge(s: Any, essay: str) -> Any:
    s += "Read this. " + essay
    s += f"\nNow judge '{essay[:9].strip()}':" + sgl.gen("first", max_tokens=6)
    forks = s.fork(3)
    for index, fork in enumerate(forks):
        fork += "\nConsider, with all the care that it deserves and no more, its point number "
        fork += f"{index}:" + sgl.gen("point", max_tokens=6, stop="\n")
    forks.join()
    nobody = s.fork(2)
    nobody += "\nWho reads this?" + sgl.gen("unread", max_tokens=6)
    s += "\n".join(s["point"]) + sgl.select("grade", choices=[" good", " bad"]) + sgl.gen("end", max_tokens=4)
    return s["grade"]


@pytest.fixture
def engine(tiny: sgl.Engine) -> Iterator[sgl.Engine]:
    tiny.flush_cache()
    yield tiny


def outcome(program: sgl.SglFunction, engine: sgl.Engine, **given: Any) -> Any:
    state = program.run(ESSAY, backend=engine, temperature=0, **given)
    return state.text(), state["first"], state["point"], state.ret_value, state["end"]


@pytest.mark.parametrize(
    "passes",
    [ALL_PASSES, NO_PASSES, *(replace(ALL_PASSES, **{name: False}) for name in Passes.__dataclass_fields__)],
    ids=str,
)
def test_texts_are_the_same(engine: sgl.Engine, passes: Passes) -> None:
    expected = outcome(judge, engine)
    engine.flush_cache()
    assert outcome(judge.compile(passes=passes), engine) == expected


def test_what_nobody_reads_is_not_computed(engine: sgl.Engine) -> None:
    def computed(program: sgl.SglFunction) -> int:
        engine.flush_cache()
        before = engine.stats().scheduler.computed_tokens
        outcome(program, engine, options=sgl.ExecutionOptions(cancel_unread=False))
        return engine.stats().scheduler.computed_tokens - before

    kept = computed(judge.compile(passes=replace(ALL_PASSES, drop_unread=False)))
    assert computed(judge.compile()) < kept


def test_a_batch_gives_what_its_rows_give(engine: sgl.Engine) -> None:
    rows = [{"essay": ESSAY + "And so on. " * index} for index in range(4)]
    compiled = judge.compile().run_batch(rows, backend=engine, temperature=0)
    engine.flush_cache()
    plain = judge.run_batch(rows, backend=engine, temperature=0)
    assert [state.text() for state in compiled] == [state.text() for state in plain]
    assert compiled[0].stats().completion_tokens > 0
