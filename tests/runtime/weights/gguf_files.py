"""Small GGUF files for tests, written with the gguf package; its own writer is the other side of what we read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

WIDTH, INNER, HEADS, KV_HEADS, VOCABULARY, LAYERS = 256, 256, 4, 2, 24, 1
Blocks = np.ndarray[Any, Any]


def random_blocks(rows: int, columns: int, kind: GGMLQuantizationType, seed: int = 0) -> Blocks:
    """Random but valid quantized rows: any bits are weights, and the 16-bit scales are kept finite and small."""
    block, size = GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(seed)
    raw = random.integers(0, 256, (rows * columns // block, size), dtype=np.uint8)
    scales = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}[kind.name]
    for at in scales:
        raw[:, at : at + 2] = random.normal(0, 0.01, len(raw)).astype(np.float16).view(np.uint8).reshape(-1, 2)
    return raw.reshape(rows, columns // block * size)


def stored(values: Blocks, kind: GGMLQuantizationType, seed: int = 0) -> Blocks:
    """The values as the file stores them; types that the package cannot quantize get random blocks instead."""
    if kind == GGMLQuantizationType.F32:
        return values.astype(np.float32)
    if kind == GGMLQuantizationType.F16:
        return values.astype(np.float16)
    if kind.name.endswith("_K"):
        return random_blocks(values.shape[0], values.shape[1], kind, seed)
    packed: Blocks = quantize(values.astype(np.float32), kind)
    return packed


def byte_vocabulary() -> tuple[list[str], list[int]]:
    """A few tokens and their types: enough for a tokenizer that can be built."""
    return ["<|end|>", *"abcdefghijklmnopqrstu", "ab", "abc"], [3] + [1] * 23


def write_gguf(
    path: Path,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    *,
    architecture: str = "llama",
    vocabulary: int = VOCABULARY,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Blocks] | None = None,
    without: tuple[str, ...] = (),
) -> dict[str, Blocks]:
    """Write a complete one-layer model whose matrices are stored as `kind`; returns what was stored, by GGUF name."""
    writer = GGUFWriter(path, architecture)
    entries: dict[str, Any] = {
        f"{architecture}.block_count": LAYERS,
        f"{architecture}.context_length": 64,
        f"{architecture}.embedding_length": WIDTH,
        f"{architecture}.feed_forward_length": INNER,
        f"{architecture}.attention.head_count": HEADS,
        f"{architecture}.attention.head_count_kv": KV_HEADS,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": byte_vocabulary()[0],
        "tokenizer.ggml.token_type": byte_vocabulary()[1],
        "tokenizer.ggml.merges": ["a b", "ab c"],
        "tokenizer.ggml.eos_token_id": 0,
    } | dict(metadata or {})
    for key, value in entries.items():
        if value is not None:
            _add(writer, key, value)
    random = np.random.default_rng(1)
    head = WIDTH // HEADS
    shapes = {
        "token_embd.weight": (vocabulary, WIDTH),
        "blk.0.attn_q.weight": (HEADS * head, WIDTH),
        "blk.0.attn_k.weight": (KV_HEADS * head, WIDTH),
        "blk.0.attn_v.weight": (KV_HEADS * head, WIDTH),
        "blk.0.attn_output.weight": (WIDTH, HEADS * head),
        "blk.0.ffn_gate.weight": (INNER, WIDTH),
        "blk.0.ffn_up.weight": (INNER, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, INNER),
    }
    tensors: dict[str, Blocks] = {}
    for index, (name, shape) in enumerate(shapes.items()):
        tensors[name] = stored(random.normal(0, 0.1, shape), kind, index)
    for name in ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"):
        tensors[name] = random.normal(1, 0.1, WIDTH).astype(np.float32)
    tensors |= dict(extra or {})
    for name in without:
        del tensors[name]
    for name, values in tensors.items():
        packed = values.dtype == np.uint8
        writer.add_tensor(name, values, raw_dtype=kind if packed else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        raise TypeError(f"{key}: {json.dumps(str(value))}")
