"""The compiled core as ctypes sees it: the mirror of what cpu/core.cpp and cpu/gemm_exports.h export."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from enum import IntEnum


class Kind(IntEnum):
    """How a packed matrix holds its weights."""

    F32 = 0
    BF16 = 1
    I8 = 2
    Q4 = 3


SOURCES = {"F32": 0, "F16": 1, "BF16": 2, "Q4_0": 3, "Q4_1": 4, "Q8_0": 5}  # formats that the core reads itself


class Op(IntEnum):
    EMBED = 0
    NORM = 1
    MATMUL = 2
    ATTENTION = 3
    GATED = 4
    ADD = 5
    SELECT = 6
    SOFTCAP = 7


class Prologue(IntEnum):
    """What a product does to its input first."""

    NONE = 0
    NORM = 1
    SILU = 2
    GELU_TANH = 3


class MatrixStruct(Structure):
    _fields_ = (
        ("kind", c_int32),
        ("n", c_int32),
        ("k", c_int32),
        ("group", c_int32),
        ("wide_from", c_int32),
        ("reserved", c_int32),
        ("data", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
        ("inverse_smooth", c_void_p),
        ("wide", c_void_p),
    )


class InstructionStruct(Structure):
    _fields_ = (
        ("op", c_int32),
        ("selected", c_int32),
        ("input", c_int32),
        ("other", c_int32),
        ("output", c_int32),
        ("width", c_int32),
        ("kind", c_int32),
        ("number", c_float),
        ("stride", c_int64),
        ("data", c_void_p),
        ("norm", c_void_p),
    )


class AttentionStruct(Structure):
    _fields_ = (
        ("layer", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("window", c_int32),
        ("half", c_int32),
        ("scale", c_float),
        ("softcap", c_float),
        ("norm_eps", c_float),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("q_norm", c_void_p),
        ("k_norm", c_void_p),
    )


class CacheStruct(Structure):
    _fields_ = (
        ("layers", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("page_size", c_int32),
        ("pages", c_int32),
        ("bf16", c_int32),
    )


class StepStruct(Structure):
    _fields_ = (
        ("tokens", c_void_p),
        ("positions", c_void_p),
        ("query_start", c_void_p),
        ("context", c_void_p),
        ("pages", c_void_p),
        ("page_start", c_void_p),
        ("logit_rows", c_void_p),
        ("column_start", c_void_p),
        ("columns", c_void_p),
        ("rows", c_int32),
        ("sequences", c_int32),
        ("page_count", c_int32),
        ("logit_count", c_int32),
    )


class CountersStruct(Structure):
    _fields_ = (
        ("steps", c_int64),
        ("tokens", c_int64),
        ("kv_bytes_read", c_int64),
        ("nanoseconds", c_int64 * len(Op)),
        ("plan_nanoseconds", c_int64),
    )


# Why the core refuses a step, by the number it returns.
REJECTIONS = {
    1: "the cache was never allocated: call allocate() before the first step",
    2: "a token is outside of the vocabulary",
    3: "positions must be the last ones of their sequence's context, and within the rotary tables",
    4: "a page is outside of the pool",
    5: "a page table is shorter than its sequence's context",
    6: "query_start and page_start must be ascending, logit_rows within the step, columns within the vocabulary",
    7: "out of memory for the step's activations",
}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tells ctypes the signatures; returns the library."""
    signatures: dict[str, tuple[object, tuple[object, ...]]] = {
        "ramify_open": (c_void_p, (c_int32,)),
        "ramify_close": (None, (c_void_p,)),
        "ramify_page_bytes": (c_int64, (POINTER(CacheStruct),)),
        "ramify_allocate": (c_int32, (c_void_p, POINTER(CacheStruct))),
        "ramify_cache": (c_void_p, (c_void_p,)),
        "ramify_program": (
            c_void_p,
            (
                c_void_p,
                POINTER(InstructionStruct),
                c_int32,
                POINTER(AttentionStruct),
                c_int32,
                POINTER(c_int32),
                c_int32,
                c_int32,
                c_int32,
            ),
        ),
        "ramify_program_close": (None, (c_void_p,)),
        "ramify_step": (c_int32, (c_void_p, POINTER(StepStruct), c_void_p)),
        "ramify_mask": (None, (c_void_p, c_int32, c_void_p, c_void_p, c_int32)),
        "ramify_profile": (None, (c_void_p, c_int32)),
        "ramify_counters": (None, (c_void_p, POINTER(CountersStruct))),
        "ramify_matrix_bytes": (c_int64, (c_int32, c_int32, c_int32, c_int32)),
        "ramify_matrix_lay_out": (c_int32, (POINTER(MatrixStruct), c_int32, c_int32, c_int32, c_int32, c_void_p)),
        "ramify_matrix_smooth": (None, (POINTER(MatrixStruct), c_void_p)),
        "ramify_matrix_bias": (None, (POINTER(MatrixStruct), c_void_p)),
        "ramify_scratch_bytes": (c_int64, (POINTER(MatrixStruct), c_int32)),
        "ramify_multiply": (
            None,
            (POINTER(MatrixStruct), c_void_p, c_int32, c_void_p, c_void_p, c_int64, c_void_p),
        ),
        "ramify_matrix_pack": (c_int32, (POINTER(MatrixStruct), c_int32, c_int32, c_int32, c_void_p, c_int64)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
