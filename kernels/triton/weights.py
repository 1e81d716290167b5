"""A GPU's weights: each matrix packed as the mode asks, and multiplied by the product that suits its shape.

    fp32, bf16   as they are
    fp8          e4m3 and a scale for each output
    int8         a scale for each output
    int4         blocks of 32 with a scale and a minimum in fp16: a GGUF file's own Q4_0 and Q4_1 blocks, nothing
                 rounded anew, or made as the CPU's packer makes them

Few rows are bound by bytes: activations stay as they are, weights are widened in the tile. Many rows are bound by
operations: for fp8 and int8, activations are rounded to 8 bits too, and the products are done in 8 bits; int4 is
unpacked for the library when rows are so many that the unpacking does not show. `products.py` has the numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..ops import Bytes, Stored
from .flat_matmul import FP8, flat_matmul
from .gemv import gemv, int4_gemv
from .products import PLAIN, Format, Product, product
from .quantize_rows import quantize_rows, quantize_rows_fp8
from .quantized_matmul import int4_matmul, int4_unpacked, w8a8_matmul

BLOCK = 32  # weights that share a scale and a minimum in 4 bits
AT_ONCE = 1 << 24  # weights that are rounded at a time: what packing takes beside the result
HEAD = "lm_head"  # the matrix of logits stays plain: 4 bits are too few for it
FP8_LARGEST = 448.0
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, eq=False)
class PackedMatrix:
    """A matrix as the kernels take it: y = x W^T + bias."""

    format: Format
    weight: torch.Tensor  # [N, K]; int4: [N, K / 2] bytes
    scales: torch.Tensor | None = None  # [N] fp32; int4: [N, K / 32, 2] fp16
    bias: torch.Tensor | None = None  # [N] fp32; plain: of the weight's type

    @property
    def bytes(self) -> int:
        """What a product with few rows reads."""
        return sum(t.nbytes for t in (self.weight, self.scales, self.bias) if t is not None)


@dataclass(slots=True)
class Packing:
    """Packs for one mode (fp32, bf16, fp8, int8, int4, or auto: a file's 4-bit blocks as they are, all else bf16)."""

    mode: str
    device: torch.device
    formats: Counter[str] = field(default_factory=Counter)  # how many matrices became what, for the summary

    @property
    def plain(self) -> Format:
        """Of activations, tables and what is not packed."""
        return "fp32" if self.mode == "fp32" else "bf16"

    def linear(self, parts: Sequence[Stored], bias: Sequence[torch.Tensor] | None = None, *, name: str) -> PackedMatrix:
        """Rounded piece by piece, so that no more than AT_ONCE weights (or one part in fp32) are held beside it."""
        format = self.format_of(parts, name)
        joined = None if bias is None else torch.cat(list(bias)).to(self.device, torch.float32)
        self.formats[format] += 1
        if format in PLAIN:
            joined = None if joined is None else joined.to(TYPES[format])
            return PackedMatrix(format, self._stacked(parts, TYPES[format]), None, joined)
        outputs, width = sum(part.shape[0] for part in parts), parts[0].shape[1]
        if format == "int4":
            weight = torch.empty((outputs, width // 2), dtype=torch.uint8, device=self.device)
            scales = torch.empty((outputs, width // BLOCK, 2), dtype=torch.float16, device=self.device)
        else:
            weight = torch.empty((outputs, width), dtype=FP8 if format == "fp8" else torch.int8, device=self.device)
            scales = torch.empty(outputs, dtype=torch.float32, device=self.device)
        row = 0
        for part in parts:
            for values, scale in self._rounded(part, format):
                weight[row : row + len(values)] = values
                scales[row : row + len(values)] = scale
                row += len(values)
        return PackedMatrix(format, weight, scales, joined)

    def embedding(self, table: Stored) -> PackedMatrix:
        """Plain: it is read by row, and where the head is tied to it, 4 bits are too few for logits."""
        self.formats[self.plain] += 1
        return PackedMatrix(self.plain, self._stacked([table], TYPES[self.plain]))

    def format_of(self, parts: Sequence[Stored], name: str) -> Format:
        """The format that this mode has for a matrix."""
        fits = parts[0].shape[1] % BLOCK == 0
        match self.mode:
            case "fp32" | "bf16":
                return self.plain
            case _ if name == HEAD:
                return self.plain
            case "fp8":
                return "fp8"
            case "auto":
                return "int4" if fits and all(part.format in ("Q4_0", "Q4_1") for part in parts) else "bf16"
            case "int4" if fits:
                return "int4"
            case _:
                return "int8"

    def _stacked(self, parts: Sequence[Stored], dtype: torch.dtype) -> torch.Tensor:
        shape = (sum(part.shape[0] for part in parts), parts[0].shape[1])
        stacked = torch.empty(shape, dtype=dtype, device=self.device)
        row = 0
        for part in parts:
            stacked[row : row + part.shape[0]] = part.dense()
            row += part.shape[0]
        return stacked

    def _rounded(self, part: Stored, format: Format) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """A part's weights and scales, some rows at a time."""
        at_once = max(1, AT_ONCE // part.shape[1])
        if format == "int4" and part.format in ("Q4_0", "Q4_1"):
            rows = part.rows()
            for start in range(0, len(rows), at_once):
                yield from_blocks(rows[start : start + at_once], part.format, self.device)
            return
        rounded = {"fp8": to_fp8, "int8": to_int8, "int4": to_int4}[format]
        for piece in part.dense().split(at_once):
            yield rounded(piece.to(self.device, torch.float32))


def to_fp8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, K] fp32 -> e4m3 [N, K], scales [N]."""
    scales = weight.abs().amax(1) / FP8_LARGEST
    scaled = weight / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    return scaled.clamp(-FP8_LARGEST, FP8_LARGEST).to(FP8), scales


def to_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, K] fp32 -> int8 [N, K], scales [N]."""
    scales = weight.abs().amax(1) / 127
    return (weight / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round().to(torch.int8), scales


def to_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, K] fp32 -> [N, K / 2] bytes, scales [N, K / 32, 2]: a block's range in 15 steps, as kernels/cpu/pack.h."""
    blocks = weight.view(len(weight), -1, BLOCK)
    low, high = blocks.amin(2), blocks.amax(2)
    scales = torch.stack(((high - low) / 15, low), dim=2).half()
    step, start = scales.float().unbind(2)  # [N, K / 32]: as they were rounded
    inverse = torch.where(step > 0, 1 / step, 0)
    levels = ((blocks - start[..., None]) * inverse[..., None]).round().clamp(0, 15).to(torch.uint8)
    return paired(levels).flatten(1), scales


def from_blocks(rows: Bytes, format: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of Q4_0 or Q4_1 blocks -> [N, K / 2] bytes, scales [N, K / 32, 2]; every weight stays what it is.

    A block's byte j has weight j in its lower half and weight j + 16 in its upper one; ours has neighbours.
    """
    header = 4 if format == "Q4_1" else 2
    blocks = torch.from_numpy(np.array(rows)).to(device).view(len(rows), -1, header + BLOCK // 2)
    numbers = blocks[..., :header].contiguous().view(torch.float16)  # [N, K / 32, 2 or 1]
    # Q4_0 has nibbles from -8; -8 d is exact in fp16 unless d itself is beyond any use
    scales = numbers if format == "Q4_1" else torch.cat((numbers, numbers * -8), dim=2)
    nibbles = blocks[..., header:]
    return paired(torch.cat((nibbles & 15, nibbles >> 4), dim=2)).flatten(1), scales


def paired(levels: torch.Tensor) -> torch.Tensor:
    """Nibbles [.., 2 n] -> bytes [.., n]: neighbours share one, the first is its lower half."""
    return levels[..., 0::2] | (levels[..., 1::2] << 4)


def multiply(x: torch.Tensor, matrix: PackedMatrix) -> torch.Tensor:
    """x [rows, K] -> x W^T + bias, [rows, N]."""
    return multiply_by(x, matrix, product(matrix.format, len(matrix.weight), x.shape[1], len(x), x.device))


def multiply_by(x: torch.Tensor, matrix: PackedMatrix, chosen: Product) -> torch.Tensor:
    """The same by this product: what a tuner times."""
    weight, scales, bias = matrix.weight, matrix.scales, matrix.bias
    launch: Mapping[str, Any] = chosen.launch
    match chosen.kernel:
        case "library":
            return _by_library(x, matrix)
        case "w8a8":
            assert scales is not None
            return w8a8_matmul(*quantize_rows(x), weight, scales, bias, dtype=x.dtype, **launch)
        case kernel if matrix.format == "int4":
            assert scales is not None
            few = int4_gemv if kernel == "gemv" else int4_matmul
            return few(x, weight, scales, bias, **launch)
        case kernel:
            return (gemv if kernel == "gemv" else flat_matmul)(x, weight, scales, bias, **launch)


def _by_library(x: torch.Tensor, matrix: PackedMatrix) -> torch.Tensor:
    weight, scales, bias = matrix.weight, matrix.scales, matrix.bias
    match matrix.format:
        case "fp8":
            assert scales is not None
            values, x_scales = quantize_rows_fp8(x)
            out = torch._scaled_mm(values, weight.t(), scale_a=x_scales, scale_b=scales[None], out_dtype=x.dtype)
            return out if bias is None else out.add_(bias)
        case "int4":
            assert scales is not None
            return F.linear(x, int4_unpacked(weight, scales, x.dtype), None if bias is None else bias.to(x.dtype))
        case "fp32" if on_gpu(x) and rounds_to_tf32():
            return flat_matmul(x, weight, None, bias)
        case _:
            return F.linear(x, weight, bias)


def rounds_to_tf32() -> bool:
    """Whether this process lets torch's products round fp32 to 10 bits. It is asked and never set: that is the user's
    business, and while it is so, fp32 is multiplied by a kernel that rounds nothing."""
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def on_gpu(x: torch.Tensor) -> bool:
    return x.is_cuda
