"""Parameters out of a GGUF file, in Hugging Face's names, row order and norm convention.

llama.cpp's converter changes two things beside the names, which are undone here:
- architecture "llama" (Mistral included): the rows of q and k are permuted, so that rotary pairs are neighbours;
- Gemma: 1 is added to the norms' weights. Hugging Face's lack it, and so do ours: the model adds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from ...errors import BrokenModelFile
from ...kernels.ops import Bytes, Stored
from .gguf_file import GgufFile, TensorInfo

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Gemma 3 has a norm on both sides of attention and of the MLP.
_GEMMA_LAYER = _LAYER | {
    "ffn_norm": "pre_feedforward_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def hugging_face_name(name: str, architecture: str) -> str:
    """A GGUF tensor's name in Hugging Face's form; names that have none stay as they are."""
    stem, _, kind = name.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{kind}"
    parts = stem.split(".")
    layer = _GEMMA_LAYER if architecture == "gemma3" else _LAYER
    if len(parts) == 3 and parts[0] == "blk" and parts[1].isdecimal() and parts[2] in layer:
        return f"model.layers.{parts[1]}.{layer[parts[2]]}.{kind}"
    return name


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One parameter of a GGUF file; see kernels.ops.Stored."""

    file: GgufFile
    info: TensorInfo
    interleaved_heads: int = 0  # un-permute the rows of so many heads; 0: they are in order
    offset: float = 0.0  # added to the values

    @property
    def shape(self) -> tuple[int, ...]:
        return self.info.shape

    @property
    def format(self) -> str:
        return self.info.format

    def rows(self) -> Bytes:
        raw: Bytes = self.file.rows(self.info)
        if self.interleaved_heads and len(self.shape) == 1:  # a bias: its elements are the rows
            raw = raw.reshape(self.shape[0], -1)[self._order(self.shape[0])].reshape(1, -1)
        elif self.interleaved_heads:
            raw = raw[self._order(len(raw))]
        if self.offset:
            return self.dense().numpy().view(np.uint8).reshape(1, -1)
        return raw

    def dense(self) -> torch.Tensor:
        raw = self.file.rows(self.info) if self.offset else self.rows()
        with np.errstate(all="ignore"):  # a scale may be infinite in a broken file; the values say so
            values = dequantize(raw, GGMLQuantizationType[self.format])
        # F32 comes as a view of the read-only map; the tensor must own its memory
        values = np.array(values, np.float32, copy=not values.flags.owndata or not values.flags.writeable)
        if self.offset:
            values += np.float32(self.offset)
        return torch.from_numpy(values).reshape(self.shape)

    def _order(self, rows: int) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Where Hugging Face's rows [heads, 2, head_dim / 2] are in the file, which has [heads, head_dim / 2, 2]."""
        pairs = np.arange(rows).reshape(self.interleaved_heads, -1, 2)
        return pairs.swapaxes(1, 2).reshape(-1)


class GgufWeights:
    """A WeightSource over one GGUF file. `heads` and `kv_heads` are needed to put the rows of q and k in order."""

    def __init__(self, file: GgufFile, heads: int, kv_heads: int) -> None:
        architecture = str(file.metadata.get("general.architecture"))
        self._file = file
        self._tensors: dict[str, GgufTensor] = {}
        for info in file.tensors.values():
            name = hugging_face_name(info.name, architecture)
            interleaved = 0
            if architecture == "llama" and ".self_attn.q_proj." in name:
                interleaved = heads
            elif architecture == "llama" and ".self_attn.k_proj." in name:
                interleaved = kv_heads
            length = info.shape[0]
            if interleaved and (length % (2 * interleaved) or len(info.shape) > 2):
                raise BrokenModelFile(f"{file.name}: {info.name} has {length} rows, not pairs for {interleaved} heads")
            is_norm = architecture == "gemma3" and name.endswith("norm.weight")
            if is_norm and info.format != "F32":
                raise BrokenModelFile(f"{file.name}: {info.name} is stored as {info.format}, but norms must be F32")
            self._tensors[name] = GgufTensor(file, info, interleaved, -1.0 if is_norm else 0.0)

    def names(self) -> Iterable[str]:
        return self._tensors.keys()

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def stored(self, name: str) -> Stored:
        if name not in self._tensors:
            raise BrokenModelFile(f"{self._file.name}: there is no tensor for {name}")
        return self._tensors[name]
