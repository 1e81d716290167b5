"""SGLang's `ServerArgs`: how a model is served, under either project's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...runtime.options import EngineOptions
from .engine import Runtime
from .runtime_options import engine_options


class ServerArgs:
    """A model and its options, checked now and used later: `ServerArgs(model_path=...).runtime()`."""

    def __init__(self, model_path: str | Path = "smollm2", **options: Any) -> None:
        self.model_path = model_path
        self._given = engine_options(options)
        self.options = EngineOptions.of(self._given)

    def runtime(self) -> Runtime:
        """A backend that serves the model in this process."""
        return Runtime(self.model_path, **self._given)

    def __repr__(self) -> str:
        return f"ServerArgs(model_path={str(self.model_path)!r}, options={self.options!r})"
