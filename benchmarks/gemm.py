"""Times the compiled matrix products against torch's and against the machine: `python -m benchmarks.gemm [--quick]`.

Weights are rotated through enough copies to come from memory, as they do in a step. Every time is the shortest of many,
activations converted or quantized included; GB/s counts the weights as stored.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ramify.kernels.build import FLAGS, SOURCES, find_compiler
from ramify.kernels.native_core import Kind, MatrixStruct
from ramify.kernels.native_pack import Arena

SHAPES = {"qkv": (576, 960), "out": (576, 576), "gate, up": (576, 3072), "down": (1536, 576), "head": (576, 49152)}
ROWS = (1, 4, 8, 16, 32, 64, 128, 256, 512, 2048)
COLD = 80 << 20  # bytes of weights to rotate through: more than the caches hold
OPERATIONS = 2e10  # to spend on one measurement
GROUP = 192  # activations that share a scale in an 8-bit product


@dataclass(frozen=True)
class Timing:
    seconds: float
    operations: float
    bytes: int

    def __str__(self) -> str:
        speed = f"{self.operations / self.seconds / 1e9:6.0f} GOP/s {self.bytes / self.seconds / 1e9:5.1f} GB/s"
        return f"{self.seconds * 1e6:9.1f} us {speed}"


def build(folder: Path) -> ctypes.CDLL:
    """The products and the clock of gemm.cpp, compiled as the core is."""
    target = folder / "gemm.so"
    source = Path(__file__).with_suffix(".cpp")
    subprocess.run([find_compiler(), *FLAGS, f"-I{SOURCES}", str(source), "-o", str(target)], check=True)
    library = ctypes.CDLL(str(target))
    for name in ("bench_product", "bench_read", "bench_peak"):
        getattr(library, name).restype = ctypes.c_double
    for name in ("ramify_matrix_bytes", "ramify_scratch_bytes"):
        getattr(library, name).restype = ctypes.c_int64
    return library


def address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@dataclass
class Ours:
    """Packed copies of one matrix."""

    library: ctypes.CDLL
    kind: Kind
    weight: np.ndarray  # [n, k]
    threads: int

    def __post_init__(self) -> None:
        n, k = self.weight.shape
        group = GROUP if self.kind == Kind.I8 else k
        self.bytes = int(self.library.ramify_matrix_bytes(self.kind, n, k, group))
        self.arena = Arena()
        self.matrices = [MatrixStruct() for _ in range(max(1, COLD // self.bytes))]
        for matrix in self.matrices:
            memory = ctypes.c_void_p(self.arena.take(self.bytes))
            self.library.ramify_matrix_lay_out(ctypes.byref(matrix), self.kind, n, k, group, memory)
            row_bytes = ctypes.c_int64(4 * k)
            self.library.ramify_matrix_pack(ctypes.byref(matrix), 0, n, 0, address(self.weight), row_bytes)

    def time(self, x: np.ndarray, repeats: int) -> float:
        n = len(self.weight)
        scratch = self.arena.take(self.library.ramify_scratch_bytes(ctypes.byref(self.matrices[0]), len(x)))
        y = np.zeros((len(x), n), np.float32)
        count = len(self.matrices)
        addresses = (ctypes.c_void_p * count)(*(ctypes.addressof(matrix) for matrix in self.matrices))
        arguments = (addresses, count, address(x), len(x), ctypes.c_void_p(scratch), address(y), self.threads, repeats)
        return float(self.library.bench_product(*arguments))


Product = Callable[[torch.Tensor, object], torch.Tensor]


def torch_products(kind: Kind, weight: torch.Tensor) -> dict[str, tuple[Callable[[], object], Product]]:
    """Torch's ways to multiply by a matrix of this kind: how to make one copy of it, and how to multiply."""
    if kind == Kind.F32:
        return {"mm": (weight.clone, lambda x, w: torch.mm(x, w.T))}  # type: ignore[attr-defined]
    if kind == Kind.BF16:
        return {"mm": (weight.bfloat16, lambda x, w: torch.mm(x.bfloat16(), w.T).float())}  # type: ignore[attr-defined]
    if kind == Kind.I8:

        def packed() -> object:
            scale = float(weight.abs().max() / 127)
            quantized = torch.quantize_per_tensor(weight, scale, 0, torch.qint8)
            return torch.ops.quantized.linear_prepack(quantized, None)

        def scales() -> object:
            return weight.mul(127).clamp(-127, 127).to(torch.int8), torch.ones(len(weight), dtype=torch.bfloat16)

        def int8pack(x: torch.Tensor, w: object) -> torch.Tensor:
            return torch._weight_int8pack_mm(x.bfloat16(), *w).float()  # type: ignore[misc]

        return {
            "linear_dynamic": (packed, lambda x, w: torch.ops.quantized.linear_dynamic(x, w)),
            "int8pack": (scales, int8pack),
        }

    def four_bits() -> object:
        levels = torch.randint(0, 16, weight.shape, dtype=torch.int32)
        blocks = torch.ones(weight.shape[1] // 32, len(weight), 2, dtype=torch.bfloat16)
        return torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels, 1), blocks

    def int4pack(x: torch.Tensor, w: object) -> torch.Tensor:
        levels, blocks = w  # type: ignore[misc]
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x.bfloat16(), levels, 32, blocks).float()

    return {"int4pack": (four_bits, int4pack)}


@dataclass
class Theirs:
    """Torch's copies of one matrix, for one of its ways."""

    name: str
    copies: list[object]
    multiply: Product

    def time(self, x: torch.Tensor, repeats: int) -> float:
        best = float("inf")
        for i in range(repeats):
            start = time.perf_counter()
            self.multiply(x, self.copies[i % len(self.copies)])
            best = min(best, time.perf_counter() - start)
        return best


def measure(
    library: ctypes.CDLL, kind: Kind, names: Sequence[str], rows: Sequence[int], threads: int, peak: float
) -> None:
    for name in names:
        k, n = SHAPES[name]
        weight = np.random.default_rng(0).standard_normal((n, k)).astype(np.float32) / 8
        ours = Ours(library, kind, weight, threads)
        others = [
            Theirs(label, [make() for _ in ours.matrices], multiply)
            for label, (make, multiply) in torch_products(kind, torch.from_numpy(weight)).items()
        ]
        for count in rows:
            x = np.random.default_rng(1).standard_normal((count, k)).astype(np.float32)
            operations = 2.0 * count * n * k
            repeats = max(10, min(300, int(OPERATIONS / operations)))
            timing = Timing(ours.time(x, repeats), operations, ours.bytes)
            seconds, label = min((other.time(torch.from_numpy(x), repeats), other.name) for other in others)
            share = operations / timing.seconds / peak
            print(f"{kind.name:4} {name:8} K {k:4} N {n:5} M {count:4} {timing}  {share:4.0%} of the peak", end="  ")
            print(f"{seconds / timing.seconds:5.2f} x torch ({label} {seconds * 1e6:.1f} us)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two shapes, four numbers of rows")
    parser.add_argument("--kinds", nargs="*", default=[kind.name for kind in Kind])
    parser.add_argument("--rows", nargs="*", type=int)
    parser.add_argument("--shapes", nargs="*", choices=SHAPES)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = options.rows or ((1, 8, 32, 256) if options.quick else ROWS)
    names = options.shapes or (("gate, up", "down") if options.quick else tuple(SHAPES))
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        memory = np.ones(256 << 20, np.uint8)
        read = library.bench_read(address(memory), ctypes.c_int64(memory.nbytes), options.threads)
        peaks = {kind: library.bench_peak(kind, options.threads) for kind in Kind}
        listed = ", ".join(f"{kind.name} {peak / 1e9:.0f} GOP/s" for kind, peak in peaks.items())
        print(f"{options.threads} threads; memory {read / 1e9:.1f} GB/s; peaks: {listed}")
        del memory
        for kind in options.kinds:
            measure(library, Kind[kind], names, rows, options.threads, peaks[Kind[kind]])


if __name__ == "__main__":
    main()
