"""What people pass to SGLang's Runtime, as options of the engine here."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

_SAME_THING = {
    "schedule_policy": "policy",
    "max_running_requests": "max_running",
    "max_total_tokens": "cache_tokens",
    "chunked_prefill_size": "step_tokens",
    "radix_eviction_policy": "eviction",
}
_NOTHING_HERE = (  # about a server's processes, its network, its log or its GPUs
    *("host", "port", "log_level", "log_level_http", "log_requests", "api_key", "nccl_port", "dist_init_addr"),
    *("tp_size", "dp_size", "pp_size", "ep_size", "mem_fraction_static", "max_prefill_tokens", "cuda_graph_max_bs"),
    *("disable_cuda_graph", "attention_backend", "sampling_backend", "grammar_backend", "enable_torch_compile"),
    *("random_seed", "stream_interval", "launch_timeout", "skip_server_warmup", "skip_tokenizer_init"),
)


def engine_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's options; those that mean nothing in this process are left out with one warning that names them.

    Unknown names stay, so that the engine refuses them.
    """
    options = {_SAME_THING.get(name, name): value for name, value in given.items() if name not in _NOTHING_HERE}
    if "disable_radix_cache" in options:
        options["prefix_cache"] = not options.pop("disable_radix_cache")
    ignored = [name for name in given if name in _NOTHING_HERE]
    if ignored:
        warnings.warn(
            f"Runtime: {', '.join(ignored)} mean nothing to an engine in this process and are ignored", stacklevel=3
        )
    return options
