"""A compiled program gives what the program itself gives, whatever the program: random trees, run both ways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from ramify.lang.backends.mock import Mock
from ramify.lang.graph.passes import NO_PASSES, Passes
from ramify.lang.graph.templates import templates_of

from .random_programs import NAMES, any_programs, program_of, whole_programs

QUESTION = " What is it? "


def seen(state: Any) -> Any:
    """Everything that a user can see of a state."""
    values = {name: state[name] for name in NAMES if name in state}
    result = state.ret_value[0] if state.ret_value else None
    return state.text(), values, result, state.messages(), repr(state.error())


def outcome(program: Any, **options: Any) -> Any:
    try:
        return seen(program.run(QUESTION, backend=Mock(), **options))
    except Exception as error:
        return type(error), str(error)


@settings(max_examples=150, deadline=None)
@given(whole_programs)
def test_a_template_gives_what_the_body_gives(tree: list[Any]) -> None:
    program = program_of(tree)
    assert outcome(program.compile()) == outcome(program)
