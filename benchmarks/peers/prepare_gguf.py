"""Rewrite a GGUF with other tensor types for llama.cpp: all matrices in BF16, or in Q4_0 (its fastest packing).

python prepare_gguf.py MODEL.gguf TARGET.gguf BF16|Q4_0
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

FILE_TYPES = {"BF16": LlamaFileType.MOSTLY_BF16, "Q4_0": LlamaFileType.MOSTLY_Q4_0}


def main(source: Path, target: Path, kind: str) -> None:
    """Copy the metadata, re-encode every matrix; the embedding (also the head) stays 8-bit beside Q4_0."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(FILE_TYPES[kind])
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        wanted = GGMLQuantizationType[kind]
        if values.ndim == 1:
            wanted = GGMLQuantizationType.F32
        elif kind == "Q4_0" and tensor.name == "token_embd.weight":
            wanted = GGMLQuantizationType.Q8_0
        writer.add_tensor(tensor.name, quantize(values, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
