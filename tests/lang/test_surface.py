"""The surface is SGLang's, name for name: every signature against a table of its language."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import ramify as sgl
from ramify.lang.program import SglFunction
from ramify.lang.state import ProgramState, ProgramStateGroup

from .manual import Manual

NAMES = """
    function gen gen_int gen_string select image video system user assistant system_begin system_end user_begin user_end
    assistant_begin assistant_end separate_reasoning set_default_backend flush_cache get_server_info
    token_length_normalized greedy_token_selection unconditional_likelihood_normalized
    Runtime RuntimeEndpoint Engine ServerArgs OpenAI Anthropic LiteLLM VertexAI global_config __version__
"""

SAMPLING = (
    "max_new_tokens=128, n=1, stop=None, stop_token_ids=None, stop_regex=None, temperature=1.0, top_p=1.0, top_k=-1, "
    "min_p=0.0, frequency_penalty=0.0, presence_penalty=0.0, ignore_eos=False, return_logprob=None, "
    "logprob_start_len=None, top_logprobs_num=None, return_text_in_logprobs=None"
)
GEN = (
    "name=None, max_tokens=None, min_tokens=None, n=None, stop=None, stop_token_ids=None, stop_regex=None, "
    "temperature=None, top_p=None, top_k=None, min_p=None, frequency_penalty=None, presence_penalty=None, "
    "ignore_eos=None, return_logprob=None, logprob_start_len=None, top_logprobs_num=None, "
    "return_text_in_logprobs=None, dtype=None, choices=None, choices_method=None, regex=None, json_schema=None"
)
SHORT = ", ".join(
    part
    for part in GEN.split(", ")
    if part.split("=")[0] not in ("min_tokens", "dtype", "choices", "choices_method", "regex", "json_schema")
)

# What may be given by position, in order, with its defaults. Ours come after, by keyword only.
POSITIONAL = {
    sgl.function: "func=None, num_api_spec_tokens=None",
    sgl.gen: GEN,
    sgl.gen_int: SHORT,
    sgl.gen_string: SHORT,
    sgl.select: "name=None, choices=None, temperature=0.0, choices_method=token_length_normalized",
    sgl.image: "expr",
    sgl.video: "path, num_frames",
    sgl.separate_reasoning: "expr=None, model_type=None",
    sgl.system: "expr=None",
    sgl.user: "expr=None",
    sgl.assistant: "expr=None",
    **{getattr(sgl, f"{role}_{end}"): "" for role in ("system", "user", "assistant") for end in ("begin", "end")},
    sgl.set_default_backend: "backend",
    sgl.flush_cache: "backend=None",
    sgl.get_server_info: "backend=None",
    SglFunction.bind: "self",
    SglFunction.run: "self",
    SglFunction.run_batch: "self, batch_kwargs",
    SglFunction.cache: "self, backend=None",
    SglFunction.trace: "self",
    ProgramState.fork: "self, size=1, position_ids_offset=None",
    ProgramState.copy: "self, position_ids_offset=None",
    ProgramState.text: "self",
    ProgramState.messages: "self",
    ProgramState.sync: "self",
    ProgramState.error: "self",
    ProgramState.text_iter: "self, var_name=None",
    ProgramState.text_async_iter: "self, var_name=None, return_meta_data=False",
    ProgramState.get_var: "self, name",
    ProgramState.set_var: "self, name, value",
    ProgramState.get_meta_info: "self, name",
    ProgramState.var_scope: "self, name",
    ProgramState.system: "self, expr=None",
    ProgramState.user: "self, expr=None",
    ProgramState.assistant: "self, expr=None",
    ProgramStateGroup.join: "self, mode='gather_variable'",
}
KEYWORDS = {
    SglFunction.run: f"{SAMPLING}, stream=False, backend=None, use_thread=True",
    SglFunction.run_batch: f"{SAMPLING}, backend=None, num_threads='auto', progress_bar=False, generator_style=False",
    SglFunction.trace: "backend=None",
    sgl.gen: (
        "seed=None, repetition_penalty=None, logit_bias=None, timeout=None, retries=None, "
        "ebnf=None, type=None, tools=None"
    ),
    sgl.gen_int: "seed=None, repetition_penalty=None, logit_bias=None, timeout=None, retries=None",
    sgl.gen_string: "seed=None, repetition_penalty=None, logit_bias=None, timeout=None, retries=None",
}


def spelled(function: object, *kinds: inspect._ParameterKind) -> str:
    found = [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    return ", ".join(p.name + ("" if p.default is p.empty else f"={p.default!r}") for p in found)


@pytest.mark.parametrize("function", POSITIONAL, ids=lambda function: function.__qualname__)
def test_what_may_be_given_by_position(function: object) -> None:
    assert spelled(function, inspect.Parameter.POSITIONAL_OR_KEYWORD) == POSITIONAL[function]


@pytest.mark.parametrize("function", KEYWORDS, ids=lambda function: function.__qualname__)
def test_what_may_be_given_by_keyword(function: object) -> None:
    assert spelled(function, inspect.Parameter.KEYWORD_ONLY).startswith(KEYWORDS[function])


def test_a_changed_default_would_be_seen() -> None:
    def gen(name=None, max_tokens=16):  # type: ignore[no-untyped-def]
        ...

    assert spelled(gen, inspect.Parameter.POSITIONAL_OR_KEYWORD) != GEN


def test_every_name_is_there() -> None:
    assert [name for name in NAMES.split() if name not in dir(sgl)] == []
    for name in NAMES.split():
        assert getattr(sgl, name) is not None


def test_importing_costs_nothing_until_a_name_is_used() -> None:
    code = "import sys, ramify; ramify.function, ramify.gen; print('torch' in sys.modules, 'httpx' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_a_program_says_what_it_takes() -> None:
    @sgl.function
    def qa(s, question, style="short"):  # type: ignore[no-untyped-def]
        """Ask."""

    assert qa.arg_names == ["question", "style"]
    assert qa.arg_defaults == ["short"]
    assert qa.func.__name__ == "qa" and qa.__doc__ == "Ask." and qa.pin_prefix_rid is None
    assert repr(qa) == "<program qa(s, question, style)>"


def test_bind_keeps_everything() -> None:
    @sgl.function(num_api_spec_tokens=64)
    def qa(s, question, style):  # type: ignore[no-untyped-def]
        s["both"] = (question, style)

    bound = qa.bind(style="long")
    assert bound.num_api_spec_tokens == 64
    backend = sgl.NullBackend()
    assert bound.run("why", backend=backend)["both"] == ("why", "long")
    assert bound.bind(question="how").run(backend=backend)["both"] == ("how", "long")
    assert [s["both"] for s in bound.run_batch([{"question": "a"}], backend=backend)] == [("a", "long")]


def test_the_state_may_have_any_name_and_settings_of_ours_yield_to_arguments() -> None:
    @sgl.function
    def grow(state, seed):  # type: ignore[no-untyped-def]
        state += seed

    assert grow.run(seed="oak", backend=sgl.NullBackend()).text() == "oak"


def test_global_config_knows_the_default_backend() -> None:
    backend = sgl.NullBackend()
    sgl.global_config.default_backend = backend
    try:
        assert sgl.global_config.default_backend is backend

        @sgl.function
        def hello(s):  # type: ignore[no-untyped-def]
            s += "hi" + sgl.gen("x")

        assert hello.run()["x"] == " ok"
    finally:
        sgl.set_default_backend(None)


def test_cache_prefills_what_every_run_begins_with() -> None:
    @sgl.function
    def qa(s, question):  # type: ignore[no-untyped-def]
        s += sgl.system("Be brief.")
        s += sgl.user("Q: " + question)
        s += sgl.assistant(sgl.gen("a"))

    backend = Manual(warms=True)
    threading.Timer(0.05, lambda: backend.call(0).finish()).start()
    assert qa.cache(backend) == "<system>Be brief.</system><user>Q: "
    assert (backend.calls[0].kind, backend.calls[0].text) == ("warm", "<system>Be brief.</system><user>Q: ")
    assert not backend.closed
    threading.Timer(0.05, lambda: backend.call(1).finish()).start()
    bound = qa.bind(question="Why?")
    assert bound.cache(backend) == "<system>Be brief.</system><user>Q: Why?</user><assistant>"


def test_an_argument_with_the_name_of_a_setting_is_the_programs() -> None:
    @sgl.function
    def parallel_sample(s, question, n=2, stop="?"):  # type: ignore[no-untyped-def]
        s += question + stop
        forks = s.fork(n)
        forks += sgl.gen("answer", max_tokens=1)
        forks.join()

    backend = sgl.Mock()
    for program in (parallel_sample, parallel_sample.compile(), parallel_sample.bind(question="Q", stop="!")):
        for given, count in (({"n": 3}, 3), ({}, 2)):
            state = program.run(question="Q", **given, temperature=0, backend=backend)
            assert len(state["answer"]) == count and all(isinstance(answer, str) for answer in state["answer"])
    assert parallel_sample.run("Q", n=2, stop="...", backend=backend).text() == "Q..."
    assert len(asyncio.run(parallel_sample.run_async("Q", n=3, backend=backend))["answer"]) == 3
    assert len(parallel_sample.run_batch([{"question": "Q", "n": 3}], backend=backend)[0]["answer"]) == 3


def test_names_for_type_checkers_are_the_names_that_are_there() -> None:
    source = Path(sgl.__file__).read_text()
    seen = set(re.findall(r"import \w+ as (\w+)", source.split("__version__")[0]))
    assert seen == set(sgl.__all__) - {"__version__"}


def test_server_args_are_checked_when_they_are_made() -> None:
    assert sgl.ServerArgs(model_path="m", max_running_requests=3).options.max_running == 3
    with pytest.raises(ValueError, match="no option 'foo'"):
        sgl.ServerArgs(foo=1)


def test_a_name_that_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match="module 'ramify' has no attribute 'gem'"):
        sgl.gem  # noqa: B018
