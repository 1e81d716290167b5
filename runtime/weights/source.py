"""What every weight file offers, whatever its format: parameters by Hugging Face's names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...kernels.ops import Stored


class WeightSource(Protocol):
    """Parameters by name, in Hugging Face's names and conventions; nothing is read before it is asked for."""

    def names(self) -> Iterable[str]:
        """Every parameter's name, e.g. model.layers.0.self_attn.q_proj.weight."""
        ...

    def __contains__(self, name: object) -> bool: ...

    def stored(self, name: str) -> Stored:
        """The parameter as it lies in the file. Raises BrokenModelFile, naming the file, where there is none."""
        ...
