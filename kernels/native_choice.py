"""Chooses how `auto` holds weights that are not 4-bit in their file, by a few milliseconds of measurement."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from .native_core import Kind, MatrixStruct

SIZE = 768  # inputs and outputs of the matrix that is tried
ROWS = (1, 32)  # one stream, and many
TRIES = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """The kind for `auto`, and the measurement behind it in a few words."""

    kind: Kind
    reason: str


def fastest_kind(library: ctypes.CDLL, group: int) -> Choice:
    """8 bits or bf16, whichever multiplies faster on this machine; the fidelity of both is good enough."""
    seconds = {kind: time_kind(library, kind, group) for kind in (Kind.I8, Kind.BF16)}
    best = min(seconds, key=seconds.__getitem__)
    other = next(kind for kind in seconds if kind is not best)
    return Choice(best, f"{best.name} is {seconds[other] / seconds[best]:.1f}x as fast as {other.name} here")


def time_kind(library: ctypes.CDLL, kind: Kind, group: int) -> float:
    """Seconds for one product of each number of rows, on this thread."""
    matrix = MatrixStruct()
    weights = np.zeros((SIZE, SIZE), np.float32)
    block = aligned(library.ramify_matrix_bytes(kind, SIZE, SIZE, group))
    library.ramify_matrix_lay_out(matrix, kind, SIZE, SIZE, group, block.ctypes.data)
    library.ramify_matrix_pack(matrix, 0, SIZE, 0, weights.ctypes.data, weights.strides[0])
    x = np.ones((max(ROWS), SIZE), np.float32)
    y = np.empty_like(x)
    scratch = aligned(library.ramify_scratch_bytes(matrix, max(ROWS)))
    total = 0.0
    for rows in ROWS:
        best = float("inf")
        for _ in range(TRIES):
            begin = perf_counter()
            library.ramify_multiply(matrix, x.ctypes.data, rows, scratch.ctypes.data, y.ctypes.data, SIZE, None)
            best = min(best, perf_counter() - begin)
        total += best
    return total


def aligned(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Zeros at an address that is a multiple of 64."""
    memory = np.zeros(size + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    return memory[offset : offset + size]
