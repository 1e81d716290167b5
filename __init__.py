"""ramify: a language for programs that call language models, and the runtime that runs them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .lang.agents import use_tools as use_tools
    from .lang.api import assistant as assistant
    from .lang.api import assistant_begin as assistant_begin
    from .lang.api import assistant_end as assistant_end
    from .lang.api import function as function
    from .lang.api import gen as gen
    from .lang.api import gen_int as gen_int
    from .lang.api import gen_string as gen_string
    from .lang.api import image as image
    from .lang.api import select as select
    from .lang.api import separate_reasoning as separate_reasoning
    from .lang.api import stats as stats
    from .lang.api import system as system
    from .lang.api import system_begin as system_begin
    from .lang.api import system_end as system_end
    from .lang.api import user as user
    from .lang.api import user_begin as user_begin
    from .lang.api import user_end as user_end
    from .lang.api import video as video
    from .lang.backends.anthropic import Anthropic as Anthropic
    from .lang.backends.endpoint import RuntimeEndpoint as RuntimeEndpoint
    from .lang.backends.engine import Runtime as Runtime
    from .lang.backends.litellm import LiteLLM as LiteLLM
    from .lang.backends.mock import Mock as Mock
    from .lang.backends.mock import NullBackend as NullBackend
    from .lang.backends.openai import OpenAI as OpenAI
    from .lang.backends.replay import Replay as Replay
    from .lang.backends.server_args import ServerArgs as ServerArgs
    from .lang.backends.vertexai import VertexAI as VertexAI
    from .lang.choices import greedy_token_selection as greedy_token_selection
    from .lang.choices import token_length_normalized as token_length_normalized
    from .lang.choices import unconditional_likelihood_normalized as unconditional_likelihood_normalized
    from .lang.defaults import flush_cache as flush_cache
    from .lang.defaults import get_server_info as get_server_info
    from .lang.defaults import set_default_backend as set_default_backend
    from .lang.global_config import global_config as global_config
    from .lang.options import ExecutionOptions as ExecutionOptions
    from .lang.program import SglFunction as SglFunction
    from .lang.record import load_run as load_run
    from .lang.state import ProgramState as ProgramState
    from .lang.state import ProgramStateGroup as ProgramStateGroup
    from .lang.tools import describe_tools as describe_tools
    from .runtime.engine import Engine as Engine

__version__ = "0.1.0"

# The face is lazy (PEP 562): importing `ramify` costs nothing until a name is used. name: (module, name there)
_HOMES = {
    "assistant": (".lang.api", "assistant"),
    "assistant_begin": (".lang.api", "assistant_begin"),
    "assistant_end": (".lang.api", "assistant_end"),
    "function": (".lang.api", "function"),
    "gen": (".lang.api", "gen"),
    "gen_int": (".lang.api", "gen_int"),
    "gen_string": (".lang.api", "gen_string"),
    "image": (".lang.api", "image"),
    "select": (".lang.api", "select"),
    "separate_reasoning": (".lang.api", "separate_reasoning"),
    "stats": (".lang.api", "stats"),
    "system": (".lang.api", "system"),
    "system_begin": (".lang.api", "system_begin"),
    "system_end": (".lang.api", "system_end"),
    "user": (".lang.api", "user"),
    "user_begin": (".lang.api", "user_begin"),
    "user_end": (".lang.api", "user_end"),
    "video": (".lang.api", "video"),
    "greedy_token_selection": (".lang.choices", "greedy_token_selection"),
    "token_length_normalized": (".lang.choices", "token_length_normalized"),
    "unconditional_likelihood_normalized": (".lang.choices", "unconditional_likelihood_normalized"),
    "flush_cache": (".lang.defaults", "flush_cache"),
    "get_server_info": (".lang.defaults", "get_server_info"),
    "set_default_backend": (".lang.defaults", "set_default_backend"),
    "ProgramState": (".lang.state", "ProgramState"),
    "ProgramStateGroup": (".lang.state", "ProgramStateGroup"),
    "describe_tools": (".lang.tools", "describe_tools"),
    "use_tools": (".lang.agents", "use_tools"),
    "SglFunction": (".lang.program", "SglFunction"),
    "load_run": (".lang.record", "load_run"),
    "ExecutionOptions": (".lang.options", "ExecutionOptions"),
    "global_config": (".lang.global_config", "global_config"),
    "Engine": (".runtime.engine", "Engine"),
    "ServerArgs": (".lang.backends.server_args", "ServerArgs"),
    "Runtime": (".lang.backends.engine", "Runtime"),
    "RuntimeEndpoint": (".lang.backends.endpoint", "RuntimeEndpoint"),
    "OpenAI": (".lang.backends.openai", "OpenAI"),
    "Anthropic": (".lang.backends.anthropic", "Anthropic"),
    "LiteLLM": (".lang.backends.litellm", "LiteLLM"),
    "VertexAI": (".lang.backends.vertexai", "VertexAI"),
    "Mock": (".lang.backends.mock", "Mock"),
    "NullBackend": (".lang.backends.mock", "NullBackend"),
    "Replay": (".lang.backends.replay", "Replay"),
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ramify' has no attribute {name!r}")
    found = getattr(importlib.import_module(home[0], __name__), home[1])
    globals()[name] = found  # next time, no lookup
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
