"""SGLang's `global_config`: the settings that its programs change, as far as they mean anything here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .backends.base import Backend
from .defaults import current_default, set_default_backend


@dataclass(slots=True)
class GlobalConfig:
    """Accepted so that programs run unchanged. Prefixes are shared and branches run at once whatever these say."""

    verbosity: int = 0
    skip_special_tokens_in_output: bool = True
    spaces_between_special_tokens_in_out: bool = True
    enable_precache_with_tracing: bool = True
    enable_parallel_encoding: bool = True

    @property
    def default_backend(self) -> Backend | None:
        """The backend that was set, as `set_default_backend` does it."""
        return current_default()

    @default_backend.setter
    def default_backend(self, backend: Any) -> None:
        set_default_backend(backend)


global_config = GlobalConfig()
