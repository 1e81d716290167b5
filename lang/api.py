"""The words of the language: what a user imports to write programs, with SGLang's names, orders and defaults."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

from ..errors import InvalidRequest
from .checking import sampling_of, symbolic
from .choices import ChoicesMethod, checked_options, token_length_normalized
from .expressions import Expression, expression, place_of, role
from .nodes import Gen, Media, Place, RoleEnd, RoleStart, Select
from .patterns import dtype_of, pattern_of
from .program import SglFunction
from .reasoning import checked_kind
from .sampling import Constraint
from .state import ProgramState
from .stats import RunStats, stats_of
from .tools import Tool, constraint_for_tools, tools_of
from .typed import constraint_for


@overload
def function(func: Callable[..., Any], num_api_spec_tokens: int | None = None) -> SglFunction: ...
@overload
def function(
    func: None = None, num_api_spec_tokens: int | None = None
) -> Callable[[Callable[..., Any]], SglFunction]: ...
def function(func: Callable[..., Any] | None = None, num_api_spec_tokens: int | None = None) -> Any:
    """Make a program of a Python function whose first argument is the state: `@function` or `@function(...)`.

    num_api_spec_tokens: with API backends, go on so far past a stop, and use it if the program asks for just that next.
    """
    if func is None:
        return lambda given: SglFunction(given, num_api_spec_tokens)
    return SglFunction(func, num_api_spec_tokens)


def gen(
    name: str | None = None,
    max_tokens: int | None = None,
    min_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    ignore_eos: bool | None = None,
    return_logprob: bool | None = None,
    logprob_start_len: int | None = None,
    top_logprobs_num: int | None = None,
    return_text_in_logprobs: bool | None = None,
    dtype: type | str | None = None,
    choices: Sequence[str] | None = None,
    choices_method: ChoicesMethod | None = None,
    regex: str | None = None,
    json_schema: str | Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    repetition_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    timeout: float | None = None,
    retries: int | None = None,
    ebnf: str | None = None,
    type: Any = None,
    tools: Sequence[Callable[..., Any] | Tool] | None = None,
) -> Expression:
    """Generate text here, and call it `name`. What is None is as `run` says.

    What the text must obey is one of `regex`, `json_schema`, `ebnf`, `type` (a Python type: the value read back is one)
    and `tools` (typed functions: it writes a call of one of them). With `choices` it is a `select`.
    """
    place = place_of(sys._getframe(1))
    if choices is not None:
        forbidden = {"regex": regex, "json_schema": json_schema, "ebnf": ebnf, "type": type, "tools": tools}
        _only_one("gen", {"choices": choices, **forbidden})
        return _select("gen", name, choices, 0.0, choices_method, place)
    sampling = sampling_of(
        "gen",
        True,
        {
            "max_new_tokens": max_tokens,
            "min_new_tokens": min_tokens,
            "n": n,
            "stop": stop,
            "stop_token_ids": stop_token_ids,
            "stop_regex": stop_regex,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "frequency_penalty": frequency_penalty,
            "presence_penalty": presence_penalty,
            "repetition_penalty": repetition_penalty,
            "logit_bias": logit_bias,
            "ignore_eos": ignore_eos,
            "seed": seed,
            "return_logprob": return_logprob,
            "logprob_start_len": logprob_start_len,
            "top_logprobs_num": top_logprobs_num,
            "return_text_in_logprobs": return_text_in_logprobs,
            "timeout": timeout,
            "retries": retries,
        },
    )
    if dtype is None and regex is None and json_schema is None and ebnf is None and type is None and tools is None:
        return Expression((Gen(_name("gen", name), sampling, place=place),))
    return Expression(
        (_constrained(_name("gen", name), sampling, dtype, regex, json_schema, ebnf, type, tools, place),)
    )


def gen_int(
    name: str | None = None,
    max_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    ignore_eos: bool | None = None,
    return_logprob: bool | None = None,
    logprob_start_len: int | None = None,
    top_logprobs_num: int | None = None,
    return_text_in_logprobs: bool | None = None,
    *,
    seed: int | None = None,
    repetition_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    timeout: float | None = None,
    retries: int | None = None,
) -> Expression:
    """Generate the text of a whole number. `gen(type=int)` reads back an int."""
    given = dict(locals())
    return _typed_gen("gen_int", "int", given, place_of(sys._getframe(1)))


def gen_string(
    name: str | None = None,
    max_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    ignore_eos: bool | None = None,
    return_logprob: bool | None = None,
    logprob_start_len: int | None = None,
    top_logprobs_num: int | None = None,
    return_text_in_logprobs: bool | None = None,
    *,
    seed: int | None = None,
    repetition_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    timeout: float | None = None,
    retries: int | None = None,
) -> Expression:
    """Generate a text in double quotes."""
    given = dict(locals())
    return _typed_gen("gen_string", "str", given, place_of(sys._getframe(1)))


def select(
    name: str | None = None,
    choices: Sequence[str] | None = None,
    temperature: float = 0.0,
    choices_method: ChoicesMethod = token_length_normalized,
) -> Expression:
    """Choose one of the texts, by what the model thinks of each; it becomes part of the text, and is called `name`."""
    return _select("select", name, choices, temperature, choices_method, place_of(sys._getframe(1)))


def image(expr: Any) -> Expression:
    """An image: a path, a URL, bytes or a PIL image."""
    return Expression((Media("image", expr, place=place_of(sys._getframe(1))),))


def video(path: Any, num_frames: int) -> Expression:
    """So many frames of a video, evenly apart."""
    place = place_of(sys._getframe(1))
    if not isinstance(num_frames, int) or isinstance(num_frames, bool) or num_frames == 0:
        raise InvalidRequest(f"video: num_frames={num_frames!r} is not allowed: it must be a whole number, not 0")
    return Expression((Media("video", path, {"num_frames": num_frames}, place),))


def system(expr: Any = None) -> Expression:
    """What the system says."""
    return role("system", expr, place_of(sys._getframe(1)))


def user(expr: Any = None) -> Expression:
    """What the user says."""
    return role("user", expr, place_of(sys._getframe(1)))


def assistant(expr: Any = None) -> Expression:
    """What the assistant says: usually with a gen in it."""
    return role("assistant", expr, place_of(sys._getframe(1)))


def system_begin() -> Expression:
    """From here on, the system speaks."""
    return Expression((RoleStart("system", place_of(sys._getframe(1))),))


def system_end() -> Expression:
    """The system has spoken."""
    return Expression((RoleEnd("system", place_of(sys._getframe(1))),))


def user_begin() -> Expression:
    """From here on, the user speaks."""
    return Expression((RoleStart("user", place_of(sys._getframe(1))),))


def user_end() -> Expression:
    """The user has spoken."""
    return Expression((RoleEnd("user", place_of(sys._getframe(1))),))


def assistant_begin() -> Expression:
    """From here on, the assistant speaks."""
    return Expression((RoleStart("assistant", place_of(sys._getframe(1))),))


def assistant_end() -> Expression:
    """The assistant has spoken."""
    return Expression((RoleEnd("assistant", place_of(sys._getframe(1))),))


def stats(states: Iterable[ProgramState]) -> RunStats:
    """What these runs cost, together; waits for them."""
    held = list(states)
    for state in held:
        state.sync()
    return stats_of(state.history for state in held)


def separate_reasoning(expr: Any = None, model_type: str | None = None) -> Expression:
    """Part what a model thinks from what it says: `s["x"]` is the answer, `s["x_reasoning_content"]` the thoughts."""
    kind = checked_kind(model_type)
    if expr is None:
        return Expression(())
    parts = expression(expr, "separate_reasoning(...)").nodes
    return Expression(tuple(_reasoned(part, kind) for part in parts))


def _reasoned(part: Any, kind: str) -> Any:
    if not isinstance(part, Gen):
        return part
    return Gen(part.name, part.sampling, part.constraint, part.tools, part.type, part.dtype, kind, part.place)


def _select(caller: str, name: Any, choices: Any, temperature: Any, method: Any, place: Place) -> Expression:
    options = choices if symbolic(choices) else checked_options(choices)
    chosen_method = token_length_normalized if method is None else method
    if not isinstance(chosen_method, ChoicesMethod):
        raise InvalidRequest(
            f"{caller}: choices_method={method!r:.60} is not allowed: use token_length_normalized, "
            "greedy_token_selection or unconditional_likelihood_normalized"
        )
    if not symbolic(temperature):
        sampling_of(caller, False, {"temperature": temperature})
    return Expression((Select(_name(caller, name), options, chosen_method, temperature or 0.0, place),))


def _typed_gen(caller: str, dtype: str, given: dict[str, Any], place: Place) -> Expression:
    name = _name(caller, given.pop("name"))
    given["max_new_tokens"] = given.pop("max_tokens")
    sampling = sampling_of(caller, True, given)
    constraint = Constraint("regex", pattern_of(dtype))
    return Expression((Gen(name, sampling, constraint, dtype=dtype, place=place),))


def _constrained(
    name: str | None, sampling: Any, dtype: Any, regex: Any, json_schema: Any, ebnf: Any, kind: Any, tools: Any,
    place: Place,
) -> Gen:  # fmt: skip
    """A gen whose text must obey something, of which there can be only one."""
    if dtype is not None:
        written = dtype_of(dtype, place, also_regex=regex is not None)
        _only_one("gen", {"dtype": dtype, "json_schema": json_schema, "ebnf": ebnf, "type": kind, "tools": tools})
        return Gen(name, sampling, Constraint("regex", pattern_of(written)), dtype=written, place=place)
    _only_one("gen", {"regex": regex, "json_schema": json_schema, "ebnf": ebnf, "type": kind, "tools": tools})
    if regex is not None:
        return Gen(name, sampling, Constraint("regex", _source("regex", regex)), place=place)
    if json_schema is not None:
        schema = json_schema
        if not isinstance(schema, Mapping) and not symbolic(schema):
            schema = _source("json_schema", schema)
        return Gen(name, sampling, Constraint("json_schema", schema), place=place)
    if ebnf is not None:
        return Gen(name, sampling, Constraint("ebnf", _source("ebnf", ebnf)), place=place)
    if tools is not None:
        made = tools_of(tools)
        return Gen(name, sampling, constraint_for_tools(made), made, place=place)
    return Gen(name, sampling, constraint_for(kind), type=kind, place=place)


def _only_one(caller: str, given: Mapping[str, Any]) -> None:
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise InvalidRequest(
            f"{caller}: {' and '.join(names)} are given together, but a text can obey only one of them"
        )


def _source(name: str, value: Any) -> Any:
    """The text of a constraint, or a compiled grammar."""
    if isinstance(value, str) or symbolic(value) or hasattr(value, "matcher"):
        return value
    raise InvalidRequest(f"gen: {name}={value!r:.60} is not allowed: it must be a text or a compiled grammar")


def _name(caller: str, name: Any) -> str | None:
    if name is None or (isinstance(name, str) and name) or symbolic(name):
        return name  # type: ignore[no-any-return]
    raise InvalidRequest(f"{caller}: name={name!r:.60} is not allowed: it must be a text, or None for no variable")
