"""Packs parameters for the compiled core: vectors, tables, and matrices of the kind that the mode asks for."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .native_choice import Choice, fastest_kind
from .native_core import SOURCES, Kind, MatrixStruct
from .ops import Bytes, Stored

GROUP = (
    192  # neighbouring activations that share a scale in 8 bits: one scale a row loses 1.7% of perplexity, this 0.5%
)
WIDE_FROM = 8  # rows from which 8-bit weights beat 4-bit ones: arithmetic takes longer than memory
CHUNK = 64 << 20  # bytes of memory taken at a time
ALIGNMENT = 64


class Arena:
    """Memory for packed weights, on huge pages where the system has them; freed all at once with the arena."""

    def __init__(self) -> None:
        self._chunks: list[mmap.mmap] = []
        self._next = self._end = 0

    def take(self, size: int) -> int:
        """The address of `size` bytes, aligned to 64 and zero."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        if self._next + size > self._end:
            chunk = mmap.mmap(-1, max(CHUNK, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                chunk.madvise(mmap.MADV_HUGEPAGE)
            self._chunks.append(chunk)
            self._next = ctypes.addressof(ctypes.c_char.from_buffer(chunk))
            self._end = self._next + len(chunk)
        address, self._next = self._next, self._next + size
        return address


@dataclass(frozen=True, slots=True, eq=False)
class PackedVector:
    """A norm's weight, kept where the core can read it."""

    values: torch.Tensor  # [size], fp32, contiguous

    @property
    def address(self) -> int:
        return self.values.data_ptr()


@dataclass(frozen=True, slots=True, eq=False)
class PackedMatrix:
    """A matrix in the core's layout: y = x W^T + b."""

    name: str
    struct: MatrixStruct
    keeps: tuple[object, ...] = ()  # what the struct points to

    @property
    def outputs(self) -> int:
        return int(self.struct.n)

    @property
    def width(self) -> int:
        return int(self.struct.k)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.struct)


@dataclass(slots=True, eq=False)
class PackedTable:
    """An embedding table, read by row where it lies in its file, and packed as a matrix when it is multiplied by."""

    stored: Stored
    rows: Bytes  # [vocabulary, bytes per row]
    source: int  # how a row is stored
    matrix: PackedMatrix | None = None

    @property
    def outputs(self) -> int:
        return self.stored.shape[0]

    @property
    def width(self) -> int:
        return self.stored.shape[1]


def as_bytes(values: torch.Tensor) -> Bytes:
    """An fp32 matrix as rows of bytes, not copied."""
    return values.contiguous().numpy().view(np.uint8)


@dataclass(slots=True)
class Packer:
    """Packs for one mode (fp32, bf16, int8, int4 or auto). `smoothing`: the largest magnitude of each input channel by
    a linear's name, from calibration; its 8-bit weights then take over part of the activations' range (SmoothQuant)."""

    library: ctypes.CDLL
    mode: str
    smoothing: Mapping[str, torch.Tensor] = field(default_factory=dict)
    wide_from: int = WIDE_FROM
    arena: Arena = field(default_factory=Arena)
    choice: Choice | None = None
    kinds: dict[str, int] = field(default_factory=dict)  # how many matrices became what, for the summary

    def vector(self, values: torch.Tensor) -> PackedVector:
        return PackedVector(values.detach().to("cpu", torch.float32).contiguous().clone())

    def table(self, stored: Stored) -> PackedTable:
        if stored.format in SOURCES:
            return PackedTable(stored, np.ascontiguousarray(stored.rows()), SOURCES[stored.format])
        return PackedTable(stored, as_bytes(stored.dense()), SOURCES["F32"])

    def table_matrix(self, table: PackedTable) -> PackedMatrix:
        """The table as a product's matrix: 4 bits are too few for logits."""
        if table.matrix is None:
            kind = {"fp32": Kind.F32, "bf16": Kind.BF16}.get(self.mode, Kind.I8)
            if self.choice is not None:
                kind = self.choice.kind
            table.matrix = self._pack("embedding", [table.stored], None, kind)
        return table.matrix

    def linear(self, parts: Sequence[Stored], bias: Sequence[torch.Tensor] | None = None, *, name: str) -> PackedMatrix:
        narrow, wide = self._kinds_for(parts)
        joined = None if bias is None else torch.cat([b.detach().float() for b in bias]).contiguous()
        packed = self._pack(name, parts, joined, narrow)
        if wide is None:
            return packed
        other = self._pack(name, parts, joined, wide)
        packed.struct.wide = other.address
        packed.struct.wide_from = self.wide_from
        return PackedMatrix(name, packed.struct, (*packed.keeps, other))

    def _kinds_for(self, parts: Sequence[Stored]) -> tuple[Kind, Kind | None]:
        """The kind for few rows, and another one for many if that is better."""
        four_bits = all(part.format in ("Q4_0", "Q4_1") for part in parts)
        fits = parts[0].shape[1] % 32 == 0
        match self.mode:
            case "fp32":
                return Kind.F32, None
            case "bf16":
                return Kind.BF16, None
            case "int4" | "auto" if fits and (self.mode == "int4" or four_bits):
                return Kind.Q4, Kind.I8
            case "auto":
                return self.measured().kind, None
            case _:
                return Kind.I8, None

    def measured(self) -> Choice:
        """What `auto` takes where the file has no 4-bit blocks to keep; measured when it is first asked for."""
        if self.choice is None:
            self.choice = fastest_kind(self.library, GROUP)
        return self.choice

    def _pack(self, name: str, parts: Sequence[Stored], bias: torch.Tensor | None, kind: Kind) -> PackedMatrix:
        outputs, width = sum(part.shape[0] for part in parts), parts[0].shape[1]
        struct, group = MatrixStruct(), min(GROUP, width)
        memory = self.arena.take(checked(self.library.ramify_matrix_bytes(kind, outputs, width, group), name))
        checked(self.library.ramify_matrix_lay_out(struct, kind, outputs, width, group, memory), name)
        if kind == Kind.I8 and name in self.smoothing:
            smooth = smooth_factors(self.smoothing[name], parts)
            self.library.ramify_matrix_smooth(struct, smooth.data_ptr())
        if bias is not None:
            self.library.ramify_matrix_bias(struct, bias.data_ptr())
        row = 0
        for part in parts:
            readable = part.format in SOURCES
            rows = np.ascontiguousarray(part.rows()) if readable else as_bytes(part.dense())
            source = SOURCES[part.format if readable else "F32"]
            checked(
                self.library.ramify_matrix_pack(struct, row, part.shape[0], source, rows.ctypes.data, rows.strides[0]),
                name,
            )
            row += part.shape[0]
        self.kinds[kind.name] = self.kinds.get(kind.name, 0) + 1
        return PackedMatrix(name, struct)


def smooth_factors(largest: torch.Tensor, parts: Sequence[Stored], strength: float = 0.5) -> torch.Tensor:
    """SmoothQuant's (arXiv 2211.10438, eq. 4) max|x|^a / max|w|^(1 - a) for each input channel: [K], fp32."""
    weights = torch.stack([part.dense().abs().amax(dim=0) for part in parts]).amax(dim=0)  # [K]
    factors = largest.float().clamp_min(1e-5) ** strength / weights.clamp_min(1e-5) ** (1 - strength)
    return factors.clamp(1e-3, 1e3).contiguous()


def checked(result: int, name: str) -> int:
    """The core's answer, if it is not a refusal; one is a mistake of ours, for shapes were checked before."""
    if result < 0:
        raise ValueError(f"matrix {name!r} cannot be packed: the core refused it with code {result}")
    return result
