"""Reads a GGUF file's header, metadata and table of tensors: bounded everywhere, since the file may be hostile.

The gguf package has a reader of its own; it keeps an object for each byte string of a vocabulary (seconds where this
one takes tens of milliseconds) and trusts the counts it reads. Its constants and dequantizers are used.

    magic "GGUF" | version u32 | tensors u64 | entries u64 | entries | tensor infos | padding | tensor data
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from ...errors import BrokenModelFile, UnsupportedModel

SUPPORTED_FORMATS = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
)
MAX_ENTRIES = 1 << 16
MAX_KEY_BYTES = 1 << 16
MAX_STRING_BYTES = 1 << 24
MAX_NAME_BYTES = 256
MAX_DIMENSIONS = 4
MAX_ELEMENTS = 1 << 40
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies. `shape` has rows first (GGUF writes it the other way round)."""

    name: str
    shape: tuple[int, ...]
    format: str
    start: int  # bytes from the file's beginning
    bytes_per_row: int

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def stop(self) -> int:
        return self.start + self.rows * self.bytes_per_row


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A parsed file; the tensors' bytes stay in the memory map until they are asked for."""

    path: Path
    metadata: dict[str, Any]  # numbers, str, bool, lists of str, numpy arrays
    tensors: dict[str, TensorInfo]
    data: mmap.mmap

    @property
    def name(self) -> str:
        return self.path.name

    def rows(self, info: TensorInfo) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The tensor's bytes, [rows, bytes per row], as a read-only view of the map."""
        flat = np.frombuffer(self.data, np.uint8, info.rows * info.bytes_per_row, info.start)
        return flat.reshape(info.rows, info.bytes_per_row)


def read_gguf(path: Path) -> GgufFile:
    """Map and parse one file. Raises BrokenModelFile or UnsupportedModel; reads no tensor data."""
    with path.open("rb") as file:
        if path.stat().st_size < 24:
            raise BrokenModelFile(f"{path.name}: only {path.stat().st_size} bytes, too short for a GGUF file")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _Parser(path, data).parse()


class _Parser:
    """A cursor over the mapped file; every read checks that its bytes exist before anything is allocated."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.position = 0
        self.place = "the header"

    def parse(self) -> GgufFile:
        magic = self.take(4)
        if magic != b"GGUF":
            raise self.broken(f"starts with {magic!r} instead of b'GGUF', so it is not a GGUF file")
        version = self.scalar("I")
        if version not in (2, 3):
            raise UnsupportedModel(f"{self.path.name}: GGUF version {version}; ramify reads little-endian 2 and 3")
        tensor_count = self.count("tensors", MAX_ENTRIES)
        entry_count = self.count("metadata entries", MAX_ENTRIES)
        metadata = self.metadata(entry_count)
        if metadata.get("split.count", 1) not in (0, 1):
            raise UnsupportedModel(f"{self.path.name}: one part of a split model; merge the parts with gguf-split")
        return GgufFile(self.path, metadata, self.tensors(tensor_count, metadata), self.data)

    def metadata(self, count: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for index in range(count):
            self.place = f"metadata entry {index}"
            key = self.string(MAX_KEY_BYTES)
            self.place = f"metadata {key[:60]!r}"
            if key in found:
                raise self.broken("appears twice")
            found[key] = self.value(self.scalar("I"))
        return found

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string(MAX_STRING_BYTES)
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise self.broken(f"has the unknown value type {kind}")
        if kind == _BOOL:
            return self.scalar("B") != 0
        return self.scalar(_SCALARS[kind])

    def array(self) -> Any:
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind == _STRING:
            return self.strings(count)
        if kind not in _SCALARS:
            raise self.broken(f"is an array of the unsupported value type {kind}")
        dtype = np.dtype("u1" if kind == _BOOL else "<" + _SCALARS[kind])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def strings(self, count: int) -> list[str]:
        """Hot: vocabularies have hundreds of thousands."""
        if count > (self.size - self.position) // 8:
            raise self.broken(f"announces {count} strings, more than the file can hold")
        data, size, position = self.data, self.size, self.position
        length_at: Callable[[Any, int], tuple[int]] = struct.Struct("<Q").unpack_from
        found: list[str] = []
        try:
            for _ in range(count):
                start = position + 8
                position = start + length_at(data, position)[0]
                if position > size:
                    raise self.broken(f"ends inside string {len(found)}")
                found.append(data[start:position].decode())
        except UnicodeDecodeError:
            raise self.broken(f"holds string {len(found)}, which is not UTF-8") from None
        except struct.error:
            raise self.broken(f"ends before string {len(found)}") from None
        self.position = position
        return found

    def tensors(self, count: int, metadata: dict[str, Any]) -> dict[str, TensorInfo]:
        alignment = metadata.get("general.alignment", 32)
        self.place = "general.alignment"
        if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            raise self.broken(f"is {str(alignment)[:40]}, but must be a power of two from 8 to {1 << 20}")
        infos = [self.tensor(index, alignment) for index in range(count)]
        data_start = -(-self.position // alignment) * alignment
        found: dict[str, TensorInfo] = {}
        end, last = 0, "the header"
        for relative in sorted(infos, key=lambda info: info.start):
            self.place = f"tensor {relative.name!r}"
            info = TensorInfo(
                relative.name, relative.shape, relative.format, relative.start + data_start, relative.bytes_per_row
            )
            if info.name in found:
                raise self.broken("appears twice")
            if info.start < end:
                raise self.broken(f"overlaps {last}")
            if info.stop > self.size:
                raise self.broken(
                    f"ends at byte {info.stop}, but the file at {self.size}: it is truncated or mislabelled"
                )
            end, last = info.stop, self.place
            found[info.name] = info
        return found

    def tensor(self, index: int, alignment: int) -> TensorInfo:
        """One entry of the table; `start` is still relative to the data section."""
        self.place = f"tensor {index}"
        name = self.string(MAX_NAME_BYTES)
        self.place = f"tensor {name!r}"
        rank = self.scalar("I")
        if not 1 <= rank <= MAX_DIMENSIONS:
            raise self.broken(f"has {rank} dimensions; 1 to {MAX_DIMENSIONS} are possible")
        shape = tuple(self.scalar("Q") for _ in range(rank))[::-1]
        if min(shape) < 1 or math.prod(shape) > MAX_ELEMENTS:
            raise self.broken(f"has the impossible shape {list(shape)}")
        kind, offset = self.scalar("I"), self.scalar("Q")
        try:
            known = GGMLQuantizationType(kind)
        except ValueError:
            raise self.broken(f"has the unknown type {kind}") from None
        if known.name not in SUPPORTED_FORMATS:
            raise UnsupportedModel(
                f"{self.path.name}: {self.place} is stored as {known.name}; ramify reads {', '.join(SUPPORTED_FORMATS)}"
            )
        block, block_bytes = GGML_QUANT_SIZES[known]
        if shape[-1] % block:
            raise self.broken(f"has rows of {shape[-1]}, not a multiple of the {block} of a {known.name} block")
        if offset % alignment:
            raise self.broken(f"starts at byte {offset} of the data, which is not aligned to {alignment}")
        return TensorInfo(name, shape, known.name, offset, shape[-1] // block * block_bytes)

    def count(self, what: str, limit: int) -> int:
        value = self.scalar("Q")
        if value > limit:
            raise self.broken(f"announces {value} {what}; {limit} are the most that make sense")
        return int(value)

    def scalar(self, code: str) -> Any:
        width = struct.calcsize("<" + code)
        return struct.unpack("<" + code, self.take(width))[0]

    def string(self, limit: int) -> str:
        length = self.scalar("Q")
        if length > limit:
            raise self.broken(f"announces a string of {length} bytes; {limit} are the most that make sense")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise self.broken("holds text that is not UTF-8") from None

    def take(self, length: int) -> bytes:
        if length > self.size - self.position:
            raise self.broken(f"needs {length} bytes at {self.position}, but the file ends at {self.size}: truncated")
        taken = self.data[self.position : self.position + length]
        self.position += length
        return taken

    def broken(self, what: str) -> BrokenModelFile:
        return BrokenModelFile(f"{self.path.name}: {self.place} {what}. Fetch or convert the file again")
