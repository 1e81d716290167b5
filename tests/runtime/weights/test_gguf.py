"""GGUF parameters: every type against the gguf package's own dequantizer, and Hugging Face's names and conventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader
from gguf.quants import dequantize
from ramify.errors import BrokenModelFile, UnsupportedModel
from ramify.runtime.weights.checkpoint import open_checkpoint
from ramify.runtime.weights.config import FactorScaling, LinearScaling, YarnScaling
from ramify.runtime.weights.config_gguf import config_from_gguf
from ramify.runtime.weights.gguf import GgufWeights, hugging_face_name
from ramify.runtime.weights.gguf_file import SUPPORTED_FORMATS, read_gguf
from ramify.runtime.weights.locate import ModelFiles

from .gguf_files import HEADS, INNER, KV_HEADS, VOCABULARY, WIDTH, write_gguf

HEAD = WIDTH // HEADS


def weights_of(path: Path) -> GgufWeights:
    file = read_gguf(path)
    config = config_from_gguf(file)
    return GgufWeights(file, config.heads, config.kv_heads)


@pytest.mark.parametrize("name", SUPPORTED_FORMATS)
def test_every_type_dequantizes_as_the_gguf_package_does(name: str, tmp_path: Path) -> None:
    kind = Kind[name]
    written = write_gguf(tmp_path / "model.gguf", kind)
    weights = weights_of(tmp_path / "model.gguf")
    for ours, theirs in (("mlp.down_proj", "ffn_down"), ("self_attn.v_proj", "attn_v")):
        tensor = weights.stored(f"model.layers.0.{ours}.weight")
        raw = written[f"blk.0.{theirs}.weight"]
        assert tensor.format == name
        assert np.array_equal(tensor.rows(), np.ascontiguousarray(raw).view(np.uint8).reshape(len(raw), -1))
        expected = dequantize(raw, kind).astype(np.float32)
        assert tensor.shape == expected.shape
        dense = tensor.dense()
        assert dense.dtype == torch.float32 and dense.is_contiguous()
        assert np.array_equal(dense.numpy(), expected)
        assert np.isfinite(expected).all() and expected.std() > 0


def test_a_dense_tensor_is_a_copy_of_its_own(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf")
    tensor = weights_of(tmp_path / "model.gguf").stored("model.norm.weight")
    changed = tensor.dense()
    changed += 1
    assert not torch.equal(changed, tensor.dense())
    assert not tensor.rows().flags.writeable


def permuted(values: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to q and k: halves become neighbours."""
    split = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return split.swapaxes(1, 2).reshape(values.shape)


@pytest.mark.parametrize("kind", [Kind.F32, Kind.Q4_1, Kind.Q6_K])
def test_llama_rows_of_q_and_k_come_in_hugging_face_order(kind: Kind, tmp_path: Path) -> None:
    written = write_gguf(tmp_path / "model.gguf", kind)
    weights = weights_of(tmp_path / "model.gguf")
    for name, heads in (("q", HEADS), ("k", KV_HEADS)):
        tensor = weights.stored(f"model.layers.0.self_attn.{name}_proj.weight")
        in_file = written[f"blk.0.attn_{name}.weight"]
        again = permuted(tensor.dense().numpy(), heads)
        assert np.array_equal(again, dequantize(in_file, kind))
        assert not np.array_equal(tensor.dense().numpy(), dequantize(in_file, kind)), "nothing was permuted"
        assert np.array_equal(permuted(tensor.rows(), heads), in_file.view(np.uint8).reshape(len(in_file), -1))


def test_llama_biases_of_q_and_k_follow_their_rows(tmp_path: Path) -> None:
    bias = np.arange(WIDTH, dtype=np.float32)
    short = np.arange(KV_HEADS * HEAD, dtype=np.float32)
    extra = {"blk.0.attn_q.bias": permuted(bias, HEADS), "blk.0.attn_k.bias": permuted(short, KV_HEADS)}
    extra |= {"blk.0.attn_v.bias": short}
    write_gguf(tmp_path / "model.gguf", extra=extra)
    weights = weights_of(tmp_path / "model.gguf")
    for name, expected in (("q", bias), ("k", short), ("v", short)):
        tensor = weights.stored(f"model.layers.0.self_attn.{name}_proj.bias")
        assert np.array_equal(tensor.dense().numpy(), expected)
        assert np.array_equal(tensor.rows().view(np.float32)[0], expected)
    assert open_checkpoint(ModelFiles("model", tmp_path / "model.gguf")).config.qkv_bias


def test_qwen_rows_are_left_alone(tmp_path: Path) -> None:
    extra = {f"blk.0.attn_{name}_norm.weight": np.ones(HEAD, np.float32) for name in "qk"}
    written = write_gguf(tmp_path / "model.gguf", architecture="qwen3", extra=extra)
    weights = weights_of(tmp_path / "model.gguf")
    assert np.array_equal(
        weights.stored("model.layers.0.self_attn.q_proj.weight").dense().numpy(), written["blk.0.attn_q.weight"]
    )
    assert open_checkpoint(ModelFiles("model", tmp_path / "model.gguf")).config.query_key_norm


def gemma(path: Path, **metadata: object) -> dict[str, np.ndarray]:
    norms = {f"blk.0.attn_{name}_norm.weight": np.full(HEAD, 1.25, np.float32) for name in "qk"}
    outer = ("post_attention_norm", "post_ffw_norm")
    norms |= {f"blk.0.{name}.weight": np.full(WIDTH, 1.5, np.float32) for name in outer}
    options = {"gemma3.attention.sliding_window": 16, "gemma3.attention.key_length": HEAD, **metadata}
    return write_gguf(path, architecture="gemma3", extra=norms, metadata=options)


def test_gemma_norms_lose_the_one_that_the_converter_added(tmp_path: Path) -> None:
    written = gemma(tmp_path / "model.gguf")
    weights = weights_of(tmp_path / "model.gguf")
    for name, in_file in (
        ("model.norm", "output_norm"),
        ("model.layers.0.post_attention_layernorm", "blk.0.post_attention_norm"),
        ("model.layers.0.pre_feedforward_layernorm", "blk.0.ffn_norm"),
        ("model.layers.0.post_feedforward_layernorm", "blk.0.post_ffw_norm"),
        ("model.layers.0.self_attn.q_norm", "blk.0.attn_q_norm"),
    ):
        tensor = weights.stored(f"{name}.weight")
        expected = written[f"{in_file}.weight"] - np.float32(1)
        assert np.array_equal(tensor.dense().numpy(), expected)
        assert np.array_equal(tensor.rows().view(np.float32)[0], expected)
    config = open_checkpoint(ModelFiles("model", tmp_path / "model.gguf")).config
    assert config.norm_offset == 1.0 and config.activation == "gelu_tanh" and config.embedding_scale == 16.0


def test_gemma_layers_take_turns(tmp_path: Path) -> None:
    gemma(tmp_path / "model.gguf", **{"gemma3.block_count": 13})
    config = config_from_gguf(read_gguf(tmp_path / "model.gguf"))
    assert config.windows == (*[16] * 5, None, *[16] * 5, None, 16)
    assert config.rope_of(0).theta == 10000.0 and config.rope_of(0) is config.local_rope
    assert config.rope_of(5) is config.rope


def test_names_are_hugging_faces() -> None:
    assert hugging_face_name("blk.17.ffn_norm.weight", "llama") == "model.layers.17.post_attention_layernorm.weight"
    assert hugging_face_name("output.weight", "qwen2") == "lm_head.weight"
    assert hugging_face_name("blk.x.ffn_norm.weight", "llama") == "blk.x.ffn_norm.weight"
    assert hugging_face_name("rope_freqs.weight", "llama") == "rope_freqs.weight"


def test_rope_scaling_is_read(tmp_path: Path) -> None:
    def scaling(extra: dict[str, np.ndarray] | None = None, **metadata: object) -> object:
        options = {f"llama.rope.{key}": value for key, value in metadata.items()}
        write_gguf(tmp_path / "model.gguf", extra=extra, metadata=options)
        return config_from_gguf(read_gguf(tmp_path / "model.gguf")).rope.scaling

    assert scaling() is None
    assert scaling(**{"scaling.type": "linear", "scaling.factor": 4.0}) == LinearScaling(4.0)
    yarn = scaling(**{"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 16})
    assert isinstance(yarn, YarnScaling) and yarn.original_context == 16
    assert yarn.attention_factor == pytest.approx(1.1386294)
    factors = np.linspace(1, 8, HEAD // 2, dtype=np.float32)
    assert scaling({"rope_freqs.weight": factors}) == FactorScaling(tuple(map(float, factors)))
    with pytest.raises(UnsupportedModel, match="longrope"):
        scaling(**{"scaling.type": "longrope"})
    with pytest.raises(BrokenModelFile, match="rope factors"):
        scaling({"rope_freqs.weight": factors[1:]})


def test_a_tied_head_is_one_that_is_missing(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tied.gguf")
    write_gguf(tmp_path / "free.gguf", extra={"output.weight": np.ones((VOCABULARY, WIDTH), np.float32)})
    assert config_from_gguf(read_gguf(tmp_path / "tied.gguf")).tied_embeddings
    assert not config_from_gguf(read_gguf(tmp_path / "free.gguf")).tied_embeddings


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("missing", {"without": ("blk.0.ffn_up.weight",)}, "no tensor for model.layers.0.mlp.up_proj.weight"),
        ("misshapen", {"extra": {"blk.0.ffn_up.weight": np.ones((INNER + 32, WIDTH), np.float32)}}, "calls for"),
        ("three-dimensional", {"extra": {"blk.0.attn_q.weight": np.ones((4, 8, 32), np.float32)}}, "attn_q.weight"),
    ],
)
def test_parameters_that_the_config_does_not_expect(name: str, tensor: dict, message: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / f"{name}.gguf", **tensor)
    with pytest.raises(BrokenModelFile, match=message) as caught:
        open_checkpoint(ModelFiles(name, tmp_path / f"{name}.gguf"))
    assert f"{name}.gguf" in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"general.architecture": "mamba"}, UnsupportedModel, "llama, qwen2, qwen3, gemma3"),
        ({"llama.expert_count": 8}, UnsupportedModel, "experts"),
        ({"llama.attention.head_count": 0}, BrokenModelFile, "attention.head_count is 0"),
        ({"llama.attention.head_count": 3}, BrokenModelFile, "cannot be shared"),
        ({"llama.attention.head_count": "4"}, BrokenModelFile, "whole number"),
        ({"llama.attention.head_count": [4, 4]}, BrokenModelFile, "whole number"),
        ({"llama.attention.head_count_kv": 3}, BrokenModelFile, "cannot be shared"),
        ({"llama.attention.key_length": 63}, BrokenModelFile, "odd"),
        ({"llama.attention.value_length": 32}, UnsupportedModel, "value_length"),
        ({"llama.block_count": 2**31}, BrokenModelFile, "block_count"),
        ({"llama.embedding_length": None}, BrokenModelFile, "embedding_length is missing"),
        ({"llama.embedding_length": True}, BrokenModelFile, "whole number"),
        ({"llama.rope.freq_base": float("nan")}, BrokenModelFile, "finite"),
        ({"llama.rope.freq_base": -1.0}, BrokenModelFile, "above 0"),
        ({"llama.attention.layer_norm_rms_epsilon": float("inf")}, BrokenModelFile, "finite"),
        ({"llama.context_length": 2**31 - 1}, BrokenModelFile, "context_length"),
        ({"tokenizer.ggml.eos_token_id": VOCABULARY}, BrokenModelFile, "outside the vocabulary"),
        ({"split.count": 3}, UnsupportedModel, "gguf-split"),
    ],
)
def test_metadata_that_cannot_be_meant(metadata: dict, error: type[Exception], message: str, tmp_path: Path) -> None:
    name = metadata.pop("general.architecture", "llama")
    if name == "llama":
        write_gguf(tmp_path / "model.gguf", metadata=metadata)
    else:
        write_gguf(tmp_path / "model.gguf", architecture=name)
    with pytest.raises(error, match=message) as caught:
        open_checkpoint(ModelFiles("model", tmp_path / "model.gguf"))
    assert "model.gguf" in str(caught.value)


def test_our_reader_sees_what_the_gguf_package_sees(smollm2_files: ModelFiles) -> None:
    ours, theirs = read_gguf(smollm2_files.path), GGUFReader(smollm2_files.path)
    named = {tensor.name: tensor for tensor in theirs.tensors}
    assert named.keys() == ours.tensors.keys()
    for name, info in ours.tensors.items():
        assert info.start == named[name].data_offset
        assert info.stop - info.start == named[name].n_bytes
        assert list(info.shape) == [int(size) for size in named[name].shape[::-1]]
    for key, value in ours.metadata.items():
        if not key.startswith("tokenizer.ggml.tok"):
            assert theirs.fields[key].contents() == (value if not isinstance(value, np.ndarray) else value.tolist())
    assert ours.metadata["tokenizer.ggml.tokens"][:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
