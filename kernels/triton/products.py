"""Which kernel multiplies by a matrix: FlashDecoding++'s choice by shape, from a table, fixed for each number of rows.

    gemv       up to MOST_ROWS rows, no tensor cores
    flat       tiles as high as there are rows, cut along the width
    w8a8       int8 weights and activations in 8 bits
    library    torch's: plain weights as they are, fp8 with fp8 activations, int4 unpacked first

The same shape on the same device always takes the same product with the same launch, so a graph may record it and a
text repeats. `tuning.json` has what was measured, under "products": {"sm_90": [{"format": "int4", "n": 4096, "k": 4096,
"rows": 16, "kernel": "flat", "splits": 4, ...}]}. An entry is for up to so many rows; nothing measured: `by_rule`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Literal

import torch
import triton

from .flat_matmul import rows_of_tile
from .gemv import MOST_ROWS
from .tuning import TABLE, device_name

Format = Literal["fp32", "bf16", "fp8", "int8", "int4"]
Kernel = Literal["gemv", "flat", "w8a8", "library"]
Entry = Mapping[str, Any]
PLAIN = ("fp32", "bf16")
LAUNCH = ("block_n", "block_k", "words", "splits", "warps", "stages")  # what of an entry the kernels are given
# Rows that are multiplied without tensor cores. Instructions that sm_90 issues for each weight in the loop, counted in
# the machine code, for 1, 2 and 4 rows without and for 16 with: int4 5.4, 7.3, 11.1 and 7.8; int8 4.1, 5.8, 8.7 and
# 4.6; fp8 5.6, 7.5, 11.1 and 5.4. At 4.3 TB/s and 132 processors of 1.755 GHz, memory brings a weight of int4 in the
# time of 4.3 instructions, one of 8 bits in that of 6.9.
FEW = {"int4": 2, "int8": 1, "fp8": 1}
TILE = 16  # rows that tensor cores compute at least: fewer cost as much
MANY = 64  # rows from which arithmetic counts, and activations in 8 bits
VERY_MANY = 1024  # rows whose arithmetic outweighs unpacking: 4.6 bytes a weight to move, for 2048 operations
MOST_SPLITS = 16
PROCESSORS = 4  # of Triton's interpreter


@dataclass(frozen=True, slots=True)
class Product:
    """A kernel and its launch; what the launch leaves out is the kernel's own default."""

    kernel: Kernel
    launch: Mapping[str, int] = field(default_factory=dict)


@lru_cache(maxsize=1 << 16)
def product(format: Format, n: int, k: int, rows: int, device: torch.device) -> Product:
    """What multiplies `rows` rows by an [n, k] matrix of this format: measured, or by rule."""
    return measured(entries(device_name(device)), format, n, k, rows) or by_rule(format, n, k, rows, device)


@cache
def entries(device: str) -> Sequence[Entry]:
    """The table's part for a device, as `device_name` calls it."""
    found: Sequence[Entry] = json.loads(TABLE.read_text(encoding="utf-8")).get("products", {}).get(device, [])
    return found


def measured(table: Sequence[Entry], format: Format, n: int, k: int, rows: int) -> Product | None:
    """The entry of this matrix for the fewest rows that are enough; None where there is none."""
    fitting = [e for e in table if (e["format"], e["n"], e["k"]) == (format, n, k) and e["rows"] >= rows]
    if not fitting:
        return None
    entry = min(fitting, key=lambda e: e["rows"])
    return Product(entry["kernel"], {name: entry[name] for name in LAUNCH if name in entry})


def by_rule(format: Format, n: int, k: int, rows: int, device: torch.device) -> Product:
    """Without a measurement: the library for plain weights; for packed ones, kernels that read them packed."""
    if format in PLAIN:
        return Product("library")
    if rows <= FEW[format]:
        return Product("gemv", {"words": 256} if format == "int4" else {})
    if rows > MANY and format == "int8":
        return Product("w8a8")
    if rows > MANY and format == "fp8" and possible("library", format, n, k, rows, device):
        return Product("library")
    if rows >= VERY_MANY and format == "int4":
        return Product("library")
    block_k = 128 if rows <= MANY else 64  # of higher tiles, two blocks of 128 would be all that fits
    return Product("flat", {"block_k": block_k, "splits": splits(n, k, rows, device, block_k=block_k)})


def splits(n: int, k: int, rows: int, device: torch.device, block_n: int = 64, block_k: int = 64) -> int:
    """Into how many parts the width is cut, so that two tiles are there for each processor, each of four blocks."""
    tiles = triton.cdiv(rows, rows_of_tile(rows)) * triton.cdiv(n, block_n)
    wanted = 2 * processors(device) // tiles
    return int(max(1, min(wanted, k // (4 * block_k), MOST_SPLITS)))


def possible(kernel: Kernel, format: Format, n: int, k: int, rows: int, device: torch.device) -> bool:
    """Whether this kernel can do it; `flat` always can."""
    match kernel:
        case "gemv":
            return rows <= MOST_ROWS
        case "w8a8":
            return format == "int8"
        case "library" if format == "fp8":  # what torch._scaled_mm asks for
            return n % 16 == 0 and k % 16 == 0 and (device.type != "cuda" or device_name(device) >= "sm_89")
        case "library":
            return format != "int8"
        case _:
            return True


def candidates(format: Format, n: int, k: int, rows: int, device: torch.device) -> Iterator[Product]:
    """What a tuner should time for this shape; by far not all that could be launched.

    Activations in 8 bits are offered only for rows whose arithmetic may count: below, they would cost quality for bytes
    that nobody waits for.
    """
    eight = {"int8": "w8a8", "fp8": "library"}.get(format)
    for kernel in ("w8a8", "library"):
        if possible(kernel, format, n, k, rows, device) and (kernel != eight or rows > TILE):
            yield Product(kernel)
    if rows <= MOST_ROWS:
        for columns in (4, 8, 16):
            for words in (128, 256) if format == "int4" else (0,):
                yield Product("gemv", {"block_n": columns} | ({"words": words} if words else {}))
    if rows <= 4 * MANY or format == "int4":
        by_two = splits(n, k, rows, device)
        for block_k in (64, 128):
            most = max(1, min(MOST_SPLITS, k // block_k))
            for cuts in sorted({1, max(1, by_two // 2), by_two, min(most, 2 * by_two)}):
                for stages in (3, 4):
                    yield Product("flat", {"block_k": block_k, "splits": cuts, "stages": stages})


@cache
def processors(device: torch.device) -> int:
    if device.type != "cuda":
        return PROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
