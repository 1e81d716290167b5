"""SGLang's name for Google's models, which are reached through LiteLLM here: says so, and how."""

from __future__ import annotations

from typing import Any

from ...errors import BackendError


class VertexAI:
    """Cannot be made: raises BackendError with the way to the same models."""

    def __init__(self, model_name: str = "gemini-...", *_: Any, **__: Any) -> None:
        raise BackendError(
            f'VertexAI: use LiteLLM instead, which reaches the same models: sgl.LiteLLM("vertex_ai/{model_name}") '
            "(pip install litellm google-auth)"
        )
