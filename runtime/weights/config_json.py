"""Reads a Hugging Face config.json, of transformers 5 or older, into a ModelConfig."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from ...errors import BrokenModelFile, UnsupportedModel
from .config import (
    ARCHITECTURES,
    Activation,
    Architecture,
    LinearScaling,
    Llama3Scaling,
    ModelConfig,
    Rope,
    RopeScaling,
    YarnScaling,
    checked,
    known_architecture,
)
from .fields import Fields

_ARCHITECTURE_OF_TYPE = {**{name: name for name in ARCHITECTURES}, "gemma3_text": "gemma3"}
_ACTIVATIONS: dict[str, Activation] = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
# Gemma 3's published files leave out what equals the defaults of its configuration class.
_GEMMA3_DEFAULTS: dict[str, Any] = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 131_072,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "tie_word_embeddings": True,
    "sliding_window": 4096,
}


def config_from_json(config: Mapping[str, Any], generation: Mapping[str, Any], where: str) -> ModelConfig:
    """The model that config.json and generation_config.json (may be empty) describe; `where` names it in messages."""
    outer = Fields(config, where)
    model_type = outer.text("model_type")
    known_architecture(model_type, tuple(_ARCHITECTURE_OF_TYPE), where)
    architecture = cast("Architecture", _ARCHITECTURE_OF_TYPE[model_type])
    nested = outer.inner("text_config")  # Gemma 3 with a vision tower: the text model's part
    values = dict(config) if nested is None else {"tie_word_embeddings": config.get("tie_word_embeddings")}
    values |= {} if nested is None else dict(nested.values)
    if architecture == "gemma3":
        values = _GEMMA3_DEFAULTS | {key: value for key, value in values.items() if value is not None}
    fields = Fields(values, where if nested is None else nested.where)
    if values.get("use_bidirectional_attention") or values.get("quantization_config"):
        raise UnsupportedModel(
            f"{where}: bidirectional attention and quantized safetensors are not supported; use GGUF"
        )

    heads = fields.integer("num_attention_heads", high=1024)
    hidden_size = fields.integer("hidden_size", high=2**17)
    head_dim = fields.integer("head_dim", None)
    if head_dim is None and hidden_size % heads:
        raise BrokenModelFile(f"{where}: hidden_size {hidden_size} is not a multiple of {heads} attention heads")
    head_dim = hidden_size // heads if head_dim is None else head_dim
    layers = fields.integer("num_hidden_layers", high=1024)
    rope, local_rope = _ropes(fields, architecture)
    activation = fields.text("hidden_activation" if architecture == "gemma3" else "hidden_act", "silu")
    if activation not in _ACTIVATIONS:
        raise UnsupportedModel(f"{where}: activation {activation[:40]!r}; ramify runs {', '.join(_ACTIVATIONS)}")
    attention_bias = fields.boolean("attention_bias", False) if architecture != "mistral" else False
    gemma = architecture == "gemma3"
    return checked(
        ModelConfig(
            architecture=architecture,
            vocab_size=fields.integer("vocab_size"),
            hidden_size=hidden_size,
            layers=layers,
            heads=heads,
            kv_heads=fields.integer("num_key_value_heads", heads),
            head_dim=head_dim,
            intermediate_size=fields.integer("intermediate_size"),
            norm_eps=fields.number("rms_norm_eps", 1e-6, high=0.1),
            context_length=fields.integer("max_position_embeddings"),
            rope=rope,
            local_rope=local_rope,
            windows=_windows(fields, architecture, layers),
            tied_embeddings=fields.boolean("tie_word_embeddings", False),
            query_scale=(fields.number("query_pre_attn_scalar") if gemma else head_dim) ** -0.5,
            qkv_bias=attention_bias or architecture == "qwen2",
            output_bias=attention_bias and architecture != "qwen2",
            mlp_bias=fields.boolean("mlp_bias", False) if architecture == "llama" else False,
            query_key_norm=architecture in ("qwen3", "gemma3"),
            norm_offset=1.0 if gemma else 0.0,
            embedding_scale=math.sqrt(hidden_size) if gemma else 1.0,
            activation=_ACTIVATIONS[activation],
            attention_softcap=fields.number("attn_logit_softcapping", None) if gemma else None,
            logit_softcap=fields.number("final_logit_softcapping", None) if gemma else None,
            bos_id=fields.integer("bos_token_id", None, low=0),
            eos_ids=_ids("eos_token_id", fields, Fields(generation, f"{where} (generation_config.json)")),
        ),
        where,
    )


def _ids(key: str, *sources: Fields) -> tuple[int, ...]:
    """All the ids under `key`, a number or a list of them, in the order of the sources."""
    found: dict[int, None] = {}
    for fields in sources:
        value = fields.values.get(key)
        values = value if isinstance(value, list) else [] if value is None else [value]
        for token in values[:64]:
            if isinstance(token, bool) or not isinstance(token, int) or token < 0:
                raise fields.wrong(key, token, "token ids")
            found[token] = None
    return tuple(found)


def _windows(fields: Fields, architecture: Architecture, layers: int) -> tuple[int | None, ...]:
    """The sliding window of each layer, or None where it attends to everything."""
    window = fields.integer("sliding_window", None)
    if architecture in ("qwen2", "qwen3") and not fields.boolean("use_sliding_window", False):
        window = None
    if architecture == "llama" or window is None:
        return (None,) * layers
    if architecture == "mistral":
        return (window,) * layers
    kinds = fields.values.get("layer_types")
    if kinds is not None:
        if not isinstance(kinds, list) or not {str(kind) for kind in kinds} <= {"sliding_attention", "full_attention"}:
            raise fields.wrong("layer_types", kinds, "a list of sliding_attention and full_attention")
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    if architecture == "gemma3":
        return interleaved(window, fields.integer("sliding_window_pattern", 6), layers)
    first = fields.integer("max_window_layers", 28, low=0)
    return tuple(window if layer >= first else None for layer in range(layers))


def interleaved(window: int, pattern: int, layers: int) -> tuple[int | None, ...]:
    """Gemma 3's layers: every `pattern`-th attends to everything, the others through the window."""
    return tuple(window if (layer + 1) % pattern else None for layer in range(layers))


def _ropes(fields: Fields, architecture: Architecture) -> tuple[Rope, Rope | None]:
    """The rotary positions of layers without and with a window (None: the same)."""
    gemma = architecture == "gemma3"
    theta = fields.number("rope_theta", 1e6 if gemma else 1e4)
    new, old = fields.inner("rope_parameters"), fields.inner("rope_scaling")
    if not gemma:
        return _rope(new or old, theta, fields), None
    local_theta = fields.number("rope_local_base_freq", 1e4)
    if new is not None:
        return _rope(new.inner("full_attention"), theta, fields), _rope(
            new.inner("sliding_attention"), local_theta, fields
        )
    return _rope(old, theta, fields), Rope(local_theta)


def _rope(parameters: Fields | None, theta: float, config: Fields) -> Rope:
    if parameters is None:
        return Rope(theta)
    if parameters.number("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModel(f"{parameters.where}: partial rotary embeddings are not supported")
    return Rope(parameters.number("rope_theta", theta), _scaling(parameters, config))


def _scaling(parameters: Fields, config: Fields) -> RopeScaling | None:
    kind = parameters.text("rope_type", None) or parameters.text("type", "default")
    if kind == "default":
        return None
    if kind not in ("linear", "llama3", "yarn"):
        raise UnsupportedModel(f"{parameters.where}: rope scaling {kind[:40]!r}; ramify has linear, llama3 and yarn")
    if kind == "linear":
        return LinearScaling(parameters.number("factor"))
    context = config.integer("max_position_embeddings")
    original = parameters.integer("original_max_position_embeddings", context)
    if kind == "llama3":
        low, high = parameters.number("low_freq_factor"), parameters.number("high_freq_factor")
        if low >= high:
            raise parameters.wrong("low_freq_factor", low, "below high_freq_factor")
        return Llama3Scaling(parameters.number("factor"), low, high, original)
    factor = parameters.number("factor", context / original)
    mscale, mscale_all = parameters.number("mscale", None), parameters.number("mscale_all_dim", None)
    inferred = (
        yarn_attention(factor, mscale) / yarn_attention(factor, mscale_all)
        if mscale and mscale_all
        else yarn_attention(factor)
    )
    return YarnScaling(
        factor,
        original,
        parameters.number("attention_factor", inferred),
        parameters.number("beta_fast", 32.0),
        parameters.number("beta_slow", 1.0),
        parameters.boolean("truncate", True),
    )


def yarn_attention(factor: float, scale: float = 1.0) -> float:
    """YaRN's attention factor (section 3.4): 0.1 m ln(s) + 1."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0
