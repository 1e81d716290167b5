"""From an architecture's name to its model, packed and ready to compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...errors import UnsupportedModel
from ...kernels.ops import Forward, Ops
from ..weights.config import ModelConfig
from ..weights.source import WeightSource
from .gemma3 import gemma3
from .llama import llama
from .mistral import mistral
from .parameters import Parameters, Progress
from .qwen2 import qwen2
from .qwen3 import qwen3

MODELS: Mapping[str, Callable[[Parameters], Forward]] = {
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma3": gemma3,
}


def load(config: ModelConfig, source: WeightSource, ops: Ops, progress: Progress = lambda done, total: None) -> Forward:
    """The model of `config`, its parameters read from `source` and packed by `ops`.

    Rotary tables are made for `config.context_length` positions: give a config with a smaller one to serve less.
    """
    model = MODELS.get(config.architecture)
    if model is None:
        raise UnsupportedModel(
            f"architecture {config.architecture!r} is not supported; ramify runs {', '.join(MODELS)}. "
            "Convert the model or choose one of these"
        )
    return model(Parameters(config, source, ops, progress))
