"""Tools for programs: `gen(tools=[f, ...])` writes a call of one of these functions, with arguments of their types.

A call is written as JSON, `{"name": "f", "arguments": {"x": 1}}`; the schema comes from the functions' own annotations
(pydantic reads them), so a call that was generated to its end can be made.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pydantic
import pydantic_core

from ..errors import ProgramError
from .sampling import Constraint
from .typed import type_name

FINISH = "final_answer"  # the call that ends a tool loop


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call."""

    name: str
    description: str
    function: Callable[..., Any]
    adapter: pydantic.TypeAdapter[Any] = field(repr=False, compare=False)

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the arguments."""
        return self.adapter.json_schema()

    def run(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function with arguments out of JSON, made into the types it asks for."""
        return self.adapter.validate_python(pydantic_core.ArgsKwargs((), dict(arguments)))

    def described(self) -> dict[str, Any]:
        """As chat templates and OpenAI-compatible APIs want to hear of it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that a model wrote. `run()` makes it."""

    name: str
    arguments: Mapping[str, Any]
    tool: Tool = field(repr=False, compare=False)

    def run(self) -> Any:
        """Make the call; what the function raises is raised."""
        return self.tool.run(self.arguments)


def tool_of(function: Callable[..., Any] | Tool) -> Tool:
    """A typed function as a tool. Raises ProgramError for one whose arguments cannot be described."""
    if isinstance(function, Tool):
        return function
    name = getattr(function, "__name__", None)
    if not callable(function) or name is None or not name.isidentifier():
        raise ProgramError(f"tools: {function!r} is not a named function: a tool's name is its function's name")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ProgramError(f"tool {name}: the parameter {parameter} cannot be given by name; use plain parameters")
        if parameter.annotation is parameter.empty:
            raise ProgramError(
                f"tool {name}: the parameter {parameter.name} has no type; write `{parameter.name}: str`"
            )
    try:
        adapter = described_by_pydantic(function)
        adapter.json_schema()
    except (pydantic.errors.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema, NameError) as error:
        raise ProgramError(
            f"tool {name}: its arguments have no JSON Schema: {str(error).splitlines()[0]}; "
            "use types that JSON can carry"
        ) from error
    return Tool(name, inspect.getdoc(function) or "", function, adapter)


def described_by_pydantic(function: Any) -> pydantic.TypeAdapter[Any]:
    """pydantic's view of a function: its schema is the arguments', validating arguments calls it."""
    return pydantic.TypeAdapter(function)


def tools_of(functions: Iterable[Callable[..., Any] | Tool]) -> tuple[Tool, ...]:
    """All as tools. Raises ProgramError for none, or for two of one name."""
    tools = tuple(tool_of(function) for function in functions)
    if not tools:
        raise ProgramError("tools=[]: give at least one function, or leave tools out")
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise ProgramError(f"tools: two functions are called {name!r}; a model could not tell them apart")
    return tools


def constraint_for_tools(tools: Sequence[Tool]) -> Constraint:
    """Exactly one call of one of these."""
    schemas, shared = pydantic.TypeAdapter.json_schemas(
        [(tool.name, "validation", tool.adapter) for tool in tools], ref_template="#/$defs/{model}"
    )
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": schemas[(tool.name, "validation")]},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    whole = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return Constraint("json_schema", {**whole, "$defs": shared["$defs"]} if "$defs" in shared else whole)


def read_call(text: str, tools: Sequence[Tool]) -> ToolCall:
    """The call that a text is. Raises ProgramError when it is none: cut short, say."""
    try:
        written = json.loads(text)
        return call_named(written["name"], written["arguments"], tools)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ProgramError(
            f"{text[:80]!r} is not a tool call; if finish_reason is 'length', raise max_tokens"
        ) from error


def call_named(name: str, arguments: Mapping[str, Any], tools: Sequence[Tool]) -> ToolCall:
    """The call of the tool with this name. Raises ProgramError when there is none."""
    for tool in tools:
        if tool.name == name:
            return ToolCall(name, arguments, tool)
    raise ProgramError(f"the model called {name!r}, but the tools are {', '.join(tool.name for tool in tools)}")


def finish_tool(answer: Any) -> Tool:
    """The call that ends a loop; its `answer` is of this type."""

    def final_answer(answer: Any) -> Any:
        return answer

    final_answer.__annotations__ = {"answer": answer, "return": answer}
    final_answer.__doc__ = "Give the final answer."
    return Tool(FINISH, final_answer.__doc__, final_answer, described_by_pydantic(final_answer))


def describe_tools(tools: Iterable[Callable[..., Any] | Tool]) -> str:
    """The tools as lines of a prompt: signature and first line of the description."""
    lines = []
    for tool in tools_of(tools):
        signature = inspect.signature(tool.function)
        arguments = ", ".join(map(described_parameter, signature.parameters.values()))
        lines.append(
            f"{tool.name}({arguments}): {tool.description.splitlines()[0] if tool.description else ''}".rstrip(": ")
        )
    return "\n".join(lines)


def described_parameter(parameter: inspect.Parameter) -> str:
    kind = parameter.annotation if isinstance(parameter.annotation, str) else type_name(parameter.annotation)
    return f"{parameter.name}: {kind}" + ("" if parameter.default is parameter.empty else f" = {parameter.default!r}")


def observed(call: ToolCall) -> str:
    """What a call came to, as text for the model; an exception is an observation too, and not the program's end."""
    try:
        result = call.run()
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        return f"error: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    except Exception as error:
        return f"error: {type(error).__name__}: {error}"
    if isinstance(result, str):
        return result
    return pydantic_core.to_json(result, fallback=str).decode()
