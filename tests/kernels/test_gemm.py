"""The compiled matrix products against float64, on every instruction set this machine has, by their C names."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import pytest
from ramify.kernels.build import FLAGS, SOURCES, CoreUnavailable, find_compiler

F32, BF16, I8, Q4 = range(4)
SOURCE_F32, SOURCE_F16, SOURCE_BF16, SOURCE_Q4_0, SOURCE_Q4_1, SOURCE_Q8_0 = range(6)
ROWS = [1, 2, 3, 5, 6, 7, 8, 13, 16, 31, 32, 64, 100, 300]


class MatrixFields(ctypes.Structure):
    """`ramify::Matrix`, field for field."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("n", ctypes.c_int32),
        ("k", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("wide_from", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("data", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inverse_smooth", ctypes.c_void_p),
        ("wide", ctypes.c_void_p),
    )


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def aligned(size: int) -> np.ndarray:
    """Bytes that start on a cache line, filled with what must never be read as a number (0xff: NaN)."""
    block = np.full(size + 64, 0xFF, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + size]


@dataclass
class Packed:
    """A packed matrix and the memory it lives in."""

    library: ctypes.CDLL
    fields: MatrixFields = field(default_factory=MatrixFields)
    memory: np.ndarray | None = None

    def multiply(self, x: np.ndarray, residual: np.ndarray | None = None, extra: int = 0) -> np.ndarray:
        """x W^T on one thread; y has `extra` columns beyond the matrix's, which must stay as they are."""
        rows = len(x)
        x = np.ascontiguousarray(x, np.float32)
        scratch = aligned(self.library.ramify_scratch_bytes(ctypes.byref(self.fields), rows))
        y = np.full((rows, self.fields.n + extra), 7.0, np.float32)
        padded = None
        if residual is not None:
            padded = np.zeros_like(y)
            padded[:, : self.fields.n] = residual
        self.library.ramify_multiply(
            ctypes.byref(self.fields),
            pointer(x),
            rows,
            pointer(scratch),
            pointer(y),
            ctypes.c_int64(y.shape[1]),
            None if padded is None else pointer(padded),
        )
        assert (y[:, self.fields.n :] == 7.0).all(), "wrote beyond the last column"
        return y[:, : self.fields.n]

    def best(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The largest output of each row, and its column."""
        values, columns = np.empty(len(x), np.float32), np.empty(len(x), np.int32)
        scratch = aligned(self.library.ramify_scratch_bytes(ctypes.byref(self.fields), len(x)))
        arguments = (pointer(x), len(x), pointer(scratch), pointer(values), pointer(columns))
        self.library.ramify_multiply_best(ctypes.byref(self.fields), *arguments)
        return values, columns


def pack(
    library: ctypes.CDLL,
    kind: int,
    weight: np.ndarray,
    *,
    group: int = 0,
    bias: np.ndarray | None = None,
    smooth: np.ndarray | None = None,
    source: int = SOURCE_F32,
    k: int = 0,
) -> Packed:
    """A packed matrix from rows of `source`: [n, k] fp32, or [n, bytes] of blocks that hold k values."""
    n, k = len(weight), k or weight.shape[1]
    group = group or k
    packed = Packed(library)
    size = library.ramify_matrix_bytes(kind, n, k, group)
    assert size > 0, size
    packed.memory = aligned(size)
    fields = ctypes.byref(packed.fields)
    assert library.ramify_matrix_lay_out(fields, kind, n, k, group, pointer(packed.memory)) == 0
    if smooth is not None:
        library.ramify_matrix_smooth(fields, pointer(smooth))
    if bias is not None:
        library.ramify_matrix_bias(fields, pointer(bias))
    half = n // 2  # in two parts, as stacked matrices are
    for start, part in ((0, weight[:half]), (half, weight[half:])):
        part = np.ascontiguousarray(part)
        row_bytes = ctypes.c_int64(part.strides[0])
        assert library.ramify_matrix_pack(fields, start, len(part), source, pointer(part), row_bytes) == 0
    return packed


def build(folder: Path, *flags: str) -> ctypes.CDLL:
    """The products for one instruction set, compiled as the core is."""
    try:
        compiler = find_compiler()
    except CoreUnavailable as unavailable:
        pytest.skip(str(unavailable))
    source, target = folder / "gemm.cpp", folder / "gemm.so"
    source.write_text('#include "gemm_exports.h"\n')
    subprocess.run([compiler, *FLAGS, *flags, f"-I{SOURCES}", str(source), "-o", str(target)], check=True)
    library = ctypes.CDLL(str(target))
    library.ramify_matrix_bytes.restype = ctypes.c_int64
    library.ramify_scratch_bytes.restype = ctypes.c_int64
    return library


MACHINES = {"native": ["-march=native"]}
if platform.machine() == "x86_64":
    MACHINES |= {"avx2": ["-march=x86-64-v3"], "sse": ["-march=x86-64"]}


@pytest.fixture(scope="module", params=MACHINES)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build(tmp_path_factory.mktemp(request.param), *MACHINES[request.param])


# -- what each kind should compute, in float64 -------------------------------------------------------------------------


def round_bf16(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def round_groups(values: np.ndarray, group: int) -> np.ndarray:
    """Each group of a row to 255 levels of its own scale, in fp32 as the kernel does, returned as float64."""
    out = np.empty(values.shape, np.float64)
    for start in range(0, values.shape[1], group):
        part = values[:, start : start + group].astype(np.float32)
        largest = np.abs(part).max(1, keepdims=True)
        inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
        out[:, start : start + group] = np.rint(part * inverse).astype(np.float64) * (largest / np.float32(127))
    return out


def expected(kind: int, x: np.ndarray, weight: np.ndarray, group: int) -> np.ndarray:
    """x W^T in float64 over the values the kind rounds to; for Q4 `weight` is already what its blocks hold."""
    if kind == BF16:
        x, weight = round_bf16(x), round_bf16(weight)
    elif kind == I8:
        x, weight = round_groups(x, group), round_groups(weight, weight.shape[1])
    elif kind == Q4:
        x = round_groups(x, 32)
    return x.astype(np.float64) @ weight.astype(np.float64).T


def error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@dataclass(frozen=True)
class Case:
    kind: int
    n: int
    k: int
    group: int = 0


CASES = [
    Case(F32, 96, 64),
    Case(F32, 50, 67),
    Case(F32, 1, 1),
    Case(BF16, 96, 64),
    Case(BF16, 49, 65),
    Case(I8, 96, 64),
    Case(I8, 145, 67),
    Case(I8, 100, 576, 192),
    Case(I8, 47, 200, 64),
    Case(I8, 31, 33, 32),
    Case(Q4, 96, 64),
    Case(Q4, 50, 576),
    Case(Q4, 17, 32),
]


def make(library: ctypes.CDLL, case: Case, seed: int = 0, **more: np.ndarray) -> tuple[Packed, np.ndarray]:
    """A packed matrix, and the dense weights that it holds."""
    weight = np.random.default_rng(seed).standard_normal((case.n, case.k)).astype(np.float32)
    if case.kind != Q4:
        return pack(library, case.kind, weight, group=case.group, **more), weight
    blocks = gguf.quantize(weight, gguf.GGMLQuantizationType.Q4_1)
    dense = gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q4_1)
    return pack(library, Q4, blocks, source=SOURCE_Q4_1, k=case.k, **more), dense


@pytest.mark.parametrize("case", CASES, ids=str)
def test_products_agree_with_float64(library: ctypes.CDLL, case: Case) -> None:
    packed, dense = make(library, case)
    random = np.random.default_rng(1)
    for rows in ROWS:
        x = random.standard_normal((rows, case.k)).astype(np.float32)
        want = expected(case.kind, x, dense, case.group or case.k)
        assert error(packed.multiply(x, extra=3), want) < 2e-6 * max(1, case.k**0.5), rows


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bias_residual_and_smoothing(library: ctypes.CDLL, case: Case) -> None:
    random = np.random.default_rng(2)
    bias, residual = random.standard_normal((2, 9, case.n)).astype(np.float32)
    smooth = random.uniform(0.5, 2, case.k).astype(np.float32)
    x = random.standard_normal((9, case.k)).astype(np.float32)
    packed, dense = make(library, case, bias=bias[0])
    want = expected(case.kind, x, dense, case.group or case.k) + bias[0] + residual
    assert error(packed.multiply(x, residual), want) < 1e-5
    if case.kind != Q4:
        packed, dense = make(library, case, smooth=smooth)
        want = expected(case.kind, x / smooth, dense * smooth, case.group or case.k)
        # one value in thousands falls on the other side of a rounding, as 1 / s is rounded itself
        assert error(packed.multiply(x), want) < {F32: 1e-5, BF16: 2e-3, I8: 2e-3}[case.kind]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_row_does_not_depend_on_its_company(library: ctypes.CDLL, case: Case) -> None:
    packed, _ = make(library, case)
    x = np.random.default_rng(3).standard_normal((300, case.k)).astype(np.float32)
    alone = np.concatenate([packed.multiply(row[None]) for row in x])
    for rows in ROWS:
        for start in (0, 300 - rows):
            together = packed.multiply(x[start : start + rows])
            assert np.array_equal(together, alone[start : start + rows]), (rows, start)


def test_a_planted_error_is_seen(library: ctypes.CDLL) -> None:
    for case in CASES[::3]:
        packed, dense = make(library, case)
        x = np.random.default_rng(4).standard_normal((8, case.k)).astype(np.float32)
        want = expected(case.kind, x, dense, case.group or case.k)
        assert packed.memory is not None
        packed.memory[2] ^= 0x20  # one bit of the first weight
        assert error(packed.multiply(x), want) > 1e-5


def test_q4_blocks_are_kept_as_they_are(library: ctypes.CDLL) -> None:
    """With one activation at a time, the product is the weight itself: the file's own, to fp32's last bits."""
    weight = np.random.default_rng(5).standard_normal((40, 64)).astype(np.float32)
    for source, name in ((SOURCE_Q4_0, "Q4_0"), (SOURCE_Q4_1, "Q4_1")):
        quantization = gguf.GGMLQuantizationType[name]
        blocks = gguf.quantize(weight, quantization)
        packed = pack(library, Q4, blocks, source=source, k=64)
        assert error(packed.multiply(np.eye(64)).T, gguf.dequantize(blocks, quantization)) < 1e-6, name


def test_dense_weights_become_q4_as_well_as_they_can(library: ctypes.CDLL) -> None:
    weight = np.random.default_rng(6).standard_normal((40, 64)).astype(np.float32)
    got = pack(library, Q4, weight).multiply(np.eye(64)).T
    step = (weight.reshape(40, 2, 32).max(2) - weight.reshape(40, 2, 32).min(2)) / 15
    assert (np.abs(got - weight).reshape(40, 2, 32) <= 0.51 * step[..., None]).all()


@pytest.mark.parametrize("source", [SOURCE_F16, SOURCE_BF16, SOURCE_Q4_0, SOURCE_Q4_1, SOURCE_Q8_0])
def test_every_source_is_read(library: ctypes.CDLL, source: int) -> None:
    name = {SOURCE_F16: "F16", SOURCE_BF16: "BF16", SOURCE_Q4_0: "Q4_0", SOURCE_Q4_1: "Q4_1", SOURCE_Q8_0: "Q8_0"}
    quantization = gguf.GGMLQuantizationType[name[source]]
    weight = np.random.default_rng(7).standard_normal((50, 96)).astype(np.float32)
    weight[0, :8] = [0, -0.0, 6e-8, -3e-6, 1e-4, 65504, -2, 0.333]
    rows = gguf.quantize(weight, quantization)
    want = gguf.dequantize(rows, quantization)
    got = np.empty(96, np.float32)
    for row, dense in zip(np.ascontiguousarray(rows).view(np.uint8).reshape(50, -1), want, strict=True):
        library.ramify_read_row(source, pointer(np.ascontiguousarray(row)), 96, pointer(got))
        np.testing.assert_allclose(got, dense, rtol=1e-6, atol=1e-7 * np.abs(dense).max())
    packed = pack(library, F32, rows.view(np.uint8).reshape(50, -1), source=source, k=96)
    np.testing.assert_allclose(packed.multiply(np.eye(96)).T, want, rtol=1e-6, atol=1e-6)


def test_a_twin_serves_many_rows(library: ctypes.CDLL) -> None:
    narrow, dense = make(library, Case(Q4, 96, 64))
    wide = pack(library, I8, dense, group=32)
    narrow.fields.wide = ctypes.addressof(wide.fields)
    narrow.fields.wide_from = 12
    x = np.random.default_rng(8).standard_normal((12, 64)).astype(np.float32)
    assert np.array_equal(narrow.multiply(x), wide.multiply(x))
    assert not np.array_equal(narrow.multiply(x[:11]), wide.multiply(x[:11]))


@pytest.mark.parametrize("kind", [F32, BF16, I8, Q4])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_so_and_harms_no_other_row(library: ctypes.CDLL, kind: int, value: float) -> None:
    packed, _ = make(library, Case(kind, 48, 64, 32))
    x = np.random.default_rng(9).standard_normal((9, 64)).astype(np.float32)
    healthy = packed.multiply(x)
    x[4, 40] = value
    got = packed.multiply(x)
    assert not np.isfinite(got[4]).any()
    assert np.array_equal(np.delete(got, 4, 0), np.delete(healthy, 4, 0))


def test_zeros_and_outliers(library: ctypes.CDLL) -> None:
    for case in CASES[::2]:
        packed, dense = make(library, case)
        assert (packed.multiply(np.zeros((3, case.k))) == 0).all()
        x = np.full((1, case.k), 1e4, np.float32)
        want = expected(case.kind, x, dense, case.group or case.k)
        assert error(packed.multiply(x), want) < 1e-4


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda library: library.ramify_matrix_bytes(Q4, 48, 48, 32), -2),
        (lambda library: library.ramify_matrix_bytes(9, 48, 48, 48), -1),
        (lambda library: library.ramify_matrix_bytes(F32, 0, 48, 48), -1),
        (lambda library: library.ramify_matrix_bytes(I8, 48, 96, 33), -3),
    ],
)
def test_what_cannot_be_packed_is_refused(library: ctypes.CDLL, call: Callable[[ctypes.CDLL], int], why: int) -> None:
    assert call(library) == why


def test_rows_outside_of_the_matrix_are_refused(library: ctypes.CDLL) -> None:
    packed, dense = make(library, Case(F32, 10, 8))
    arguments = (SOURCE_F32, pointer(dense), ctypes.c_int64(32))
    for start, count in ((-1, 2), (9, 2), (0, 11), (0, -1)):
        assert library.ramify_matrix_pack(ctypes.byref(packed.fields), start, count, *arguments) == -4


@pytest.mark.parametrize("case", [*CASES, Case(I8, 1000, 64), Case(Q4, 1000, 64)], ids=str)
def test_the_best_column_of_each_row(library: ctypes.CDLL, case: Case) -> None:
    packed, _ = make(library, case)
    for rows in (1, 3, 8, 64, 65, 150):
        x = np.random.default_rng(rows).standard_normal((rows, case.k)).astype(np.float32)
        if rows == 3:
            x[1] = 0  # all outputs are equal: the first is the best
        logits = packed.multiply(x)
        values, columns = packed.best(x)
        assert np.array_equal(columns, logits.argmax(1)), rows
        assert np.array_equal(values, logits.max(1)), rows
