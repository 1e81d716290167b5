"""Reads the metadata of a GGUF file into a ModelConfig."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from ...errors import BrokenModelFile, UnsupportedModel
from .config import (
    Architecture,
    FactorScaling,
    LinearScaling,
    ModelConfig,
    Rope,
    RopeScaling,
    YarnScaling,
    checked,
    known_architecture,
)
from .config_json import interleaved, yarn_attention
from .fields import Fields
from .gguf_file import GgufFile

_ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")  # llama.cpp writes Mistral as llama
_GEMMA3_PATTERN = 6  # every sixth layer attends to everything; old files do not say so
_GEMMA3_27B_LAYERS = 62  # the one size whose query scale is not head_dim^-0.5, and the file does not say so either


def config_from_gguf(file: GgufFile) -> ModelConfig:
    """The model that the file's metadata and table of tensors describe."""
    fields = Fields(file.metadata, file.name)
    name = fields.text("general.architecture")
    known_architecture(name, _ARCHITECTURES, file.name)
    prefix = f"{name}."
    own = {key.removeprefix(prefix): value for key, value in file.metadata.items() if key.startswith(prefix)}
    return _config(cast("Architecture", name), fields, Fields(own, file.name), file)


def _config(name: Architecture, fields: Fields, own: Fields, file: GgufFile) -> ModelConfig:
    if own.integer("expert_count", 0, low=0):
        raise UnsupportedModel(f"{file.name}: a mixture of experts; ramify runs dense models")
    gemma = name == "gemma3"
    heads = own.integer("attention.head_count", high=1024)
    hidden_size = own.integer("embedding_length", high=2**17)
    layers = own.integer("block_count", high=1024)
    head_dim = own.integer("attention.key_length", max(1, hidden_size // heads))
    for key in ("attention.value_length", "rope.dimension_count"):
        if own.integer(key, head_dim) != head_dim:
            raise UnsupportedModel(f"{file.name}: {key} differs from the head size {head_dim}")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise BrokenModelFile(f"{file.name}: there is no tensor token_embd.weight")
    window = own.integer("attention.sliding_window", None) if gemma else None
    pattern = own.integer("attention.sliding_window_pattern", _GEMMA3_PATTERN) if gemma else 1
    query_size = hidden_size // heads if gemma and layers == _GEMMA3_27B_LAYERS else head_dim
    return checked(
        ModelConfig(
            architecture=name,
            vocab_size=embedding.shape[0],
            hidden_size=hidden_size,
            layers=layers,
            heads=heads,
            kv_heads=own.integer("attention.head_count_kv", heads),
            head_dim=head_dim,
            intermediate_size=own.integer("feed_forward_length"),
            norm_eps=own.number("attention.layer_norm_rms_epsilon", high=0.1),
            context_length=own.integer("context_length"),
            rope=Rope(own.number("rope.freq_base", 1e6 if gemma else 1e4), _scaling(own, file)),
            local_rope=Rope(own.number("rope.freq_base_swa", 1e4)) if gemma else None,
            windows=(None,) * layers if window is None else interleaved(window, pattern, layers),
            tied_embeddings="output.weight" not in file.tensors,
            query_scale=own.number("attention.scale", query_size**-0.5),
            qkv_bias="blk.0.attn_q.bias" in file.tensors,
            output_bias="blk.0.attn_output.bias" in file.tensors,
            mlp_bias="blk.0.ffn_up.bias" in file.tensors,
            query_key_norm=name in ("qwen3", "gemma3"),
            norm_offset=1.0 if gemma else 0.0,
            embedding_scale=math.sqrt(hidden_size) if gemma else 1.0,
            activation="gelu_tanh" if gemma else "silu",
            attention_softcap=own.number("attn_logit_softcapping", None),
            logit_softcap=own.number("final_logit_softcapping", None),
            bos_id=fields.integer("tokenizer.ggml.bos_token_id", None, low=0),
            eos_ids=_end_ids(fields),
        ),
        file.name,
    )


def _end_ids(fields: Fields) -> tuple[int, ...]:
    keys = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
    ids = [fields.integer(key, None, low=0) for key in keys]
    return tuple(dict.fromkeys(token for token in ids if token is not None))


def _scaling(own: Fields, file: GgufFile) -> RopeScaling | None:
    """Llama 3's scaling lies in the file as a tensor of divisors, the others as metadata."""
    info = file.tensors.get("rope_freqs.weight")
    if info is not None:
        if info.format != "F32" or len(info.shape) != 1:
            raise BrokenModelFile(f"{file.name}: rope_freqs.weight must be one row of F32")
        factors = tuple(float(value) for value in file.rows(info).view(np.float32)[0])
        if not all(math.isfinite(factor) and factor > 0 for factor in factors):
            raise BrokenModelFile(f"{file.name}: rope_freqs.weight holds factors that are not positive numbers")
        return FactorScaling(factors)
    kind = own.text("rope.scaling.type", "none")
    legacy = own.number("rope.scale_linear", None)
    if kind == "none":
        return LinearScaling(legacy) if legacy not in (None, 1.0) else None
    if kind == "linear":
        return LinearScaling(own.number("rope.scaling.factor"))
    if kind != "yarn":
        raise UnsupportedModel(f"{file.name}: rope scaling {kind[:40]!r}; ramify has linear, llama3 and yarn")
    factor = own.number("rope.scaling.factor")
    return YarnScaling(
        factor,
        own.integer("rope.scaling.original_context_length", own.integer("context_length")),
        own.number("rope.scaling.attn_factor", 1.0) * yarn_attention(factor),
        own.number("rope.scaling.yarn_beta_fast", 32.0),
        own.number("rope.scaling.yarn_beta_slow", 1.0),
    )
