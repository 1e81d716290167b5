"""A loop of tool calls: the model calls functions until it calls the one that gives the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ProgramError
from .api import gen
from .state import ProgramState
from .tools import FINISH, Tool, finish_tool, observed, tools_of


def use_tools(
    s: ProgramState,
    tools: Sequence[Callable[..., Any] | Tool],
    *,
    answer: Any = str,
    name: str = "answer",
    rounds: int = 8,
    before: str = "Call: ",
    after: str = "\nResult: {}\n",
    **sampling: Any,
) -> Any:
    """Let the model call tools, one at a time, until it calls `final_answer`; returns that answer, an `answer`.

    Each round appends `before`, a call (the variable `name_1`, `name_2`, ...), and `after` with what the call came to;
    an exception in a tool is told to the model. In the last round only the answer may be given. `s[name]` is the
    answer. `sampling` goes to each `gen`. Waits for each call: between two of them the functions run, here.
    """
    if not isinstance(rounds, int) or rounds < 1:
        raise ProgramError(f"use_tools: rounds={rounds!r}, but the model needs at least one call to answer")
    finish = finish_tool(answer)
    every = (*tools_of(tools), finish)
    sampling = {"max_tokens": 128, **sampling}
    for number in range(1, rounds + 1):
        variable = f"{name}_{number}"
        s += before
        s += gen(variable, tools=every if number < rounds else (finish,), **sampling)
        call = s.tool_calls(variable)[0]
        if call.name == FINISH:
            break
        s += after.replace("{}", observed(call))
    s[name] = call.run()
    return s[name]
