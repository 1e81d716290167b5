"""ramify: a language for programs that call language models, and the runtime that runs them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime.engine import Engine as Engine

__version__ = "0.1.0"

# The face is lazy (PEP 562): importing `ramify` costs nothing until a name is used.
_HOMES = {"Engine": ".runtime.engine"}

__all__ = ["Engine", "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ramify' has no attribute {name!r}")
    return getattr(importlib.import_module(home, __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
