"""One model's files, opened: its config, its parameters and, for GGUF, the metadata its tokenizer is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import BrokenModelFile
from .config import ModelConfig
from .config_gguf import config_from_gguf
from .config_json import config_from_json
from .gguf import GgufWeights
from .gguf_file import GgufFile, read_gguf
from .locate import ModelFiles
from .safetensors import SafetensorsWeights, read_json
from .source import WeightSource


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened model. Parameters are mapped, not read."""

    name: str
    path: Path
    config: ModelConfig
    weights: WeightSource
    gguf: GgufFile | None  # None: a directory, whose tokenizer.json lies at `path`


def open_checkpoint(files: ModelFiles) -> Checkpoint:
    """Open and check the files: every parameter that the config calls for is there, in the right shape.

    Raises BrokenModelFile, UnsupportedModel or ModelNotFound.
    """
    weights: WeightSource
    if files.is_gguf:
        gguf = read_gguf(files.path)
        config = config_from_gguf(gguf)
        weights = GgufWeights(gguf, config.heads, config.kv_heads)
        _check_shapes(config, weights, gguf.name)
        return Checkpoint(files.name, files.path, config, weights, gguf)
    generation = files.path / "generation_config.json"
    config = config_from_json(
        read_json(files.path / "config.json"), read_json(generation) if generation.is_file() else {}, "config.json"
    )
    weights = SafetensorsWeights(files.path)
    _check_shapes(config, weights, files.path.name)
    return Checkpoint(files.name, files.path, config, weights, None)


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The parameters that a model of this config has, by Hugging Face's names."""
    width, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    matrices = {
        "self_attn.q_proj": ((queries, width), config.qkv_bias),
        "self_attn.k_proj": ((keys, width), config.qkv_bias),
        "self_attn.v_proj": ((keys, width), config.qkv_bias),
        "self_attn.o_proj": ((width, queries), config.output_bias),
        "mlp.gate_proj": ((inner, width), config.mlp_bias),
        "mlp.up_proj": ((inner, width), config.mlp_bias),
        "mlp.down_proj": ((width, inner), config.mlp_bias),
    }
    norms = {"input_layernorm": width, "post_attention_layernorm": width}
    if config.architecture == "gemma3":
        norms |= {"pre_feedforward_layernorm": width, "post_feedforward_layernorm": width}
    if config.query_key_norm:
        norms |= {"self_attn.q_norm": config.head_dim, "self_attn.k_norm": config.head_dim}
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab_size, width),
        "model.norm.weight": (width,),
    }
    if not config.tied_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    for layer in range(config.layers):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}{name}.weight": shape for name, (shape, _) in matrices.items()}
        shapes |= {f"{at}{name}.bias": shape[:1] for name, (shape, bias) in matrices.items() if bias}
        shapes |= {f"{at}{name}.weight": (size,) for name, size in norms.items()}
    return shapes


def _check_shapes(config: ModelConfig, weights: WeightSource, where: str) -> None:
    for name, shape in parameter_shapes(config).items():
        held = weights.stored(name).shape
        if held != shape:
            raise BrokenModelFile(f"{where}: {name} has the shape {list(held)}, but its config calls for {list(shape)}")
