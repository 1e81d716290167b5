"""config.json of every architecture against transformers' own classes, old spellings, and values that make no sense."""

from __future__ import annotations

import json
from typing import Any

import pytest
import transformers
from ramify.errors import BrokenModelFile, UnsupportedModel
from ramify.runtime.weights.config import LinearScaling, Llama3Scaling, ModelConfig, Rope, YarnScaling
from ramify.runtime.weights.config_json import config_from_json

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}


def read(config: transformers.PreTrainedConfig, **generation: Any) -> ModelConfig:
    """As saved by transformers, then read by us."""
    return config_from_json(json.loads(config.to_json_string()), generation, "config.json")


def small(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_type": "llama",
        "vocab_size": 100,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
    }
    return {key: value for key, value in {**config, **changes}.items() if value is not Ellipsis}


def parse(**changes: Any) -> ModelConfig:
    return config_from_json(small(**changes), {}, "config.json")


@pytest.mark.parametrize(
    ("config", "architecture"),
    [
        (transformers.LlamaConfig(), "llama"),
        (transformers.MistralConfig(), "mistral"),
        (transformers.Qwen2Config(), "qwen2"),
        (transformers.Qwen3Config(), "qwen3"),
        (transformers.Gemma3TextConfig(), "gemma3"),
    ],
    ids=["llama", "mistral", "qwen2", "qwen3", "gemma3"],
)
def test_the_defaults_of_every_architecture(config: Any, architecture: str) -> None:
    ours = read(config)
    assert ours.architecture == architecture
    assert (ours.vocab_size, ours.hidden_size, ours.layers) == (
        config.vocab_size,
        config.hidden_size,
        config.num_hidden_layers,
    )
    assert (ours.heads, ours.kv_heads) == (config.num_attention_heads, config.num_key_value_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert ours.head_dim == head_dim
    assert ours.context_length == config.max_position_embeddings and ours.norm_eps == config.rms_norm_eps
    assert ours.tied_embeddings == config.tie_word_embeddings and ours.bos_id == config.bos_token_id
    assert ours.qkv_bias == (architecture == "qwen2") and not ours.output_bias
    assert ours.query_key_norm == (architecture in ("qwen3", "gemma3"))


def test_llama3_scaling_in_both_spellings() -> None:
    expected = Rope(500000.0, Llama3Scaling(8.0, 1.0, 4.0, 1024))
    old = parse(rope_theta=500000.0, rope_scaling=LLAMA3, max_position_embeddings=8192)
    new = parse(rope_parameters={**LLAMA3, "rope_theta": 500000.0}, max_position_embeddings=8192)
    assert old.rope == new.rope == expected


def test_other_scalings() -> None:
    assert parse(rope_scaling={"type": "linear", "factor": 4}).rope.scaling == LinearScaling(4.0)
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    assert parse(rope_scaling=yarn).rope.scaling == YarnScaling(4.0, 32, pytest.approx(1.1386294))
    assert parse(rope_scaling={**yarn, "attention_factor": 1.0, "beta_fast": 16}).rope.scaling == YarnScaling(
        4.0, 32, 1.0, 16.0
    )
    mscale = parse(rope_scaling={**yarn, "mscale": 0.707, "mscale_all_dim": 0.707}).rope.scaling
    assert isinstance(mscale, YarnScaling) and mscale.attention_factor == 1.0
    assert parse(rope_scaling={"rope_type": "default"}).rope.scaling is None


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "su", "from-the-future"])
def test_scalings_that_are_not_there(kind: str) -> None:
    with pytest.raises(UnsupportedModel, match="linear, llama3 and yarn"):
        parse(rope_scaling={"rope_type": kind, "factor": 2.0})


def test_windows_by_layer() -> None:
    assert read(transformers.MistralConfig(num_hidden_layers=2)).windows == (4096, 4096)
    assert read(transformers.MistralConfig(num_hidden_layers=2, sliding_window=None)).windows == (None, None)
    assert read(transformers.Qwen2Config(num_hidden_layers=2)).windows == (None, None)
    sliding = transformers.Qwen2Config(num_hidden_layers=3, use_sliding_window=True, max_window_layers=1)
    assert read(sliding).windows == (None, 4096, 4096)
    del (old := json.loads(sliding.to_json_string()))["layer_types"]
    assert config_from_json(old, {}, "config.json").windows == (None, 4096, 4096)
    assert parse(sliding_window=16).windows == (None, None), "llama has none"


def test_gemma3_takes_turns_and_has_two_ropes() -> None:
    config = read(transformers.Gemma3TextConfig(num_hidden_layers=7, sliding_window=512))
    assert config.windows == (512, 512, 512, 512, 512, None, 512)
    assert config.rope == Rope(1e6) and config.local_rope == Rope(1e4)
    assert config.rope_of(0) == Rope(1e4) and config.rope_of(5) == Rope(1e6)
    assert config.embedding_scale == pytest.approx(48.0) and config.norm_offset == 1.0
    assert config.query_scale == 256**-0.5 and config.activation == "gelu_tanh"
    scaled = {"model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 8, "num_hidden_layers": 6}
    scaled |= {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 1e6, "rope_local_base_freq": 1e4}
    old = config_from_json(scaled, {}, "config.json")
    assert old.rope == Rope(1e6, LinearScaling(8.0)) and old.local_rope == Rope(1e4), "only layers without a window"


def test_a_nested_gemma3_that_leaves_out_its_defaults() -> None:
    published = {
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240}
        | {"num_hidden_layers": 34, "sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
        "vision_config": {"hidden_size": 1152},
        "eos_token_id": [1, 106],
    }
    config = config_from_json(published, {}, "config.json")
    assert (config.heads, config.kv_heads, config.head_dim, config.vocab_size) == (8, 4, 256, 262_208)
    assert config.tied_embeddings and config.rope.scaling == LinearScaling(8.0) and config.windows[:6][-1] is None
    assert read(transformers.Gemma3Config()).architecture == "gemma3"


def test_end_ids_are_collected_from_both_files() -> None:
    config = config_from_json(small(eos_token_id=2), {"eos_token_id": [5, 2, 7]}, "config.json")
    assert config.eos_ids == (2, 5, 7)
    assert parse(eos_token_id=None).eos_ids == ()


def test_biases() -> None:
    config = parse(attention_bias=True, mlp_bias=True)
    assert config.qkv_bias and config.output_bias and config.mlp_bias
    assert parse(model_type="qwen2").qkv_bias and not parse(model_type="qwen2").output_bias


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": ...}, "vocab_size is missing"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"vocab_size": -1}, "vocab_size"),
        ({"vocab_size": True}, "whole number"),
        ({"vocab_size": "100"}, "whole number"),
        ({"vocab_size": 2**63}, "whole number"),
        ({"vocab_size": 10**9}, "vocab_size"),
        ({"hidden_size": 1.5}, "whole number"),
        ({"hidden_size": float("nan")}, "whole number"),
        ({"hidden_size": float("inf")}, "whole number"),
        ({"hidden_size": 65}, "multiple"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "cannot be shared"),
        ({"num_key_value_heads": 8}, "cannot be shared"),
        ({"head_dim": 15}, "odd"),
        ({"head_dim": 10**5}, "head_dim"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, "finite"),
        ({"rms_norm_eps": False}, "finite"),
        ({"rope_theta": -1}, "rope_theta"),
        ({"rope_theta": "big"}, "finite"),
        ({"rope_scaling": []}, "mapping"),
        ({"rope_scaling": {"rope_type": 3}}, "text"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor"),
        ({"rope_scaling": {**LLAMA3, "low_freq_factor": 4.0}}, "below high_freq_factor"),
        ({"tie_word_embeddings": "yes"}, "true or false"),
        ({"attention_bias": 1}, "true or false"),
        ({"eos_token_id": 100}, "outside the vocabulary"),
        ({"eos_token_id": [1, "x"]}, "token ids"),
        ({"eos_token_id": -1}, "token ids"),
        ({"bos_token_id": 10**6}, "outside the vocabulary"),
        ({"model_type": ["llama"]}, "text"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window"),
        ({"model_type": "gemma3_text", "sliding_window": 4, "layer_types": "x"}, "layer_types"),
        ({"model_type": "gemma3_text", "sliding_window": 4, "layer_types": ["odd"] * 2}, "layer_types"),
        ({"model_type": "gemma3_text", "sliding_window": 4, "layer_types": ["full_attention"]}, "1 windows"),
        ({"model_type": "gemma3_text", "query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ({"model_type": "gemma3", "text_config": 3}, "mapping"),
    ],
)
def test_values_that_cannot_be_meant(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BrokenModelFile, match=message) as caught:
        parse(**changes)
    assert str(caught.value).startswith("config.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "llama, mistral, qwen2, qwen3, gemma3"),
        ({"model_type": "x" * 10_000}, "not supported"),
        ({"hidden_act": "relu"}, "silu"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized"),
        ({"rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial"),
    ],
)
def test_sound_configs_of_another_kind(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message) as caught:
        parse(**changes)
    assert len(str(caught.value)) < 400
