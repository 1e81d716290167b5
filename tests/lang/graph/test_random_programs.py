"""A compiled program gives what the program itself gives, whatever the program: random trees, run both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import ramify as sgl
from hypothesis import given, settings
from hypothesis import strategies as st
from ramify.lang.graph.passes import ALL_PASSES, Passes
from ramify.lang.graph.templates import Templates, templates_of
from ramify.lang.record import RunRecord

from .random_programs import NAMES, any_programs, program_of, whole_programs

QUESTION = " What is it? "
SWITCHES = [replace(ALL_PASSES, **{name: False}) for name in Passes.__dataclass_fields__]


def seen(state: Any) -> Any:
    """Everything that a user can see of a state."""
    values = {name: state[name] for name in NAMES if name in state}
    result = state.ret_value[0] if state.ret_value else None
    return state.text(), values, result, state.messages(), repr(state.error())


def outcome(program: Any, backend: Any = None) -> Any:
    try:
        return seen(program.run(QUESTION, backend=backend or sgl.Mock()))
    except Exception as error:
        return type(error)


def failing(prompt: str, call: Any) -> Any:
    """Fails for some prompts, whatever the order of the calls."""
    return ConnectionError("down") if sum(map(ord, prompt[-8:])) % 7 == 0 else f" {len(prompt) % 97} or so"


@settings(max_examples=100)
@given(whole_programs)
def test_a_template_gives_what_the_body_gives(tree: list[Any]) -> None:
    program = program_of(tree)
    assert outcome(program.compile()) == outcome(program)


@settings(max_examples=60)
@given(any_programs, st.sampled_from(SWITCHES))
def test_so_it_does_whatever_it_looks_at_and_whichever_pass_is_off(tree: list[Any], passes: Passes) -> None:
    program = program_of(tree)
    assert outcome(program.compile(passes=passes)) == outcome(program)


@settings(max_examples=60)
@given(whole_programs)
def test_errors_are_met_where_the_body_meets_them(tree: list[Any]) -> None:
    program = program_of(tree)
    compiled = outcome(program.compile(), sgl.Mock(failing))
    assert compiled == outcome(program, sgl.Mock(failing)) or isinstance(compiled, type)


@settings(max_examples=30)
@given(any_programs)
def test_every_run_can_be_explained_saved_and_drawn(tree: list[Any]) -> None:
    program = program_of(tree)
    template = Templates(program.func, "generated", ALL_PASSES)
    explained = template.explain((), {}, sgl.lang.program._PLAIN, sgl.Mock())
    assert str(explained) and explained.mermaid().startswith("flowchart") and explained.svg().endswith("</svg>")
    state = program.compile().run(QUESTION, backend=sgl.Mock())
    assert RunRecord.from_dict(state.record().as_dict()) == state.record()
    assert state._repr_html_().count("<div") == state._repr_html_().count("</div>")


def test_most_random_programs_become_templates() -> None:
    """The comparisons above would hold of templates that are never used."""
    whole = forks = 0

    @settings(max_examples=30, database=None)
    @given(whole_programs)
    def count(tree: list[Any]) -> None:
        nonlocal whole, forks
        templates = templates_of(program_of(tree).compile().func)
        assert templates is not None
        graph = templates.template({"question": QUESTION, "topic": "x"}, sgl.lang.program._PLAIN).graph
        whole += graph.stop is None
        forks += len(graph.streams) > 1

    count()
    assert whole > 25 and forks > 10, (whole, forks)


def test_a_template_that_is_wrong_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with the lookouts off, random programs find a template that goes the wrong way."""
    monkeypatch.setattr("ramify.lang.graph.guard.looks", lambda filename: {})
    monkeypatch.setattr("ramify.lang.graph.trace._agreed", lambda first, second: first)
    with pytest.raises(AssertionError):
        for count in range(1, 9):  # after the copy, the value is a list: an f-string of it is a plain text
            program = program_of([("copy", [("gen", "a", count, None)]), ("look", "a")])
            assert outcome(program.compile()) == outcome(program)
