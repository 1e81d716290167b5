"""SGLang's `global_config`: the settings that its programs change, as far as they mean anything here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class GlobalConfig:
    """Accepted so that programs run unchanged. Prefixes are shared and branches run at once whatever these say."""

    verbosity: int = 0
    skip_special_tokens_in_output: bool = True
    spaces_between_special_tokens_in_out: bool = True
    enable_precache_with_tracing: bool = True
    enable_parallel_encoding: bool = True


global_config = GlobalConfig()
