"""Compiles every kernel ahead of time, for GPUs that are not here, and reads off what the machine code needs.

    python -m ramify.kernels.triton.ahead          the table, as docs/kernels.md has it

Triton compiles for a named target without a GPU, and its wheel carries NVIDIA's assembler and disassembler.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import (
    decode_attention,
    extend_attention,
    flat_matmul,
    follow,
    gemv,
    pages,
    quantize_rows,
    quantized_matmul,
    rows,
    sampling,
    write_kv,
)

TARGETS = (80, 90, 100)
SHARED_MEMORY = {80: 166_912, 90: 232_448, 100: 232_448}  # bytes that one program may have
REGISTERS = 255  # of one thread


@dataclass(frozen=True, slots=True)
class Variant:
    """A kernel with everything fixed that is fixed when it is compiled."""

    name: str
    kernel: Any
    pointers: Mapping[str, str]  # those that are not "*i32"
    constants: Mapping[str, Any]
    scalars: Mapping[str, str] = field(default_factory=dict)
    warps: int = 4
    stages: int = 2
    tensor_cores: bool = False  # whether it must use them: wgmma on sm_90


@dataclass(frozen=True, slots=True)
class Report:
    """What one variant needs on one target."""

    variant: str
    target: int
    registers: int
    spilled: int  # bytes of local memory: anything but 0 is slow
    shared: int  # bytes
    instruction: str  # of the matrix products: mma.sync, wgmma, tcgen05, or none


def variants() -> Iterator[Variant]:
    """Every kernel in the shapes that models have."""
    for head in (64, 128, 256):
        tile, block, warps = {64: (64, 64, 4), 128: (128, 64, 8), 256: (64, 32, 8)}[head]
        tensors = {**dict.fromkeys(("Q", "K", "V", "Out"), "*bf16"), "Scales": "*fp32"}
        numbers = {"scale": "fp32", "cap": "fp32"}
        for windowed, capped in ((False, False), (True, True)):
            constants = {
                "HKV": 8, "GROUP": 4, "D": head, "BLOCK_D": head, "PAGE": 16, "BLOCK_M": tile,
                "BLOCK_N": 32 if windowed else block, "WINDOWED": windowed, "CAPPED": capped, "EXACT": False,
                "KIND": 0,
            }  # fmt: skip
            name = f"extend_attention head {head}" + (" window, cap" if windowed else "")
            yield Variant(name, extend_attention._extend, tensors, constants, numbers, warps, tensor_cores=True)
        constants = {
            "HEADS": 32, "GROUP": 4, "D": head, "BLOCK_D": head, "PAGE": 16, "BLOCK_M": 128 if head < 256 else 64,
            "BLOCK_N": block if head < 256 else 32, "CAPPED": False, "EXACT": False, "KIND": 0, "UNIFY": False,
        }  # fmt: skip
        partial = {**tensors, "Mixed": "*fp32", "Weight": "*fp32"}
        yield Variant(f"decode_attention head {head}", decode_attention._decode, partial, constants, numbers, 8, 2)
        merge = {"HEADS": 32, "D": head, "BLOCK_D": head, "BLOCK_P": 16}
        merged = {"Mixed": "*fp32", "Weight": "*fp32", "Out": "*bf16"}
        yield Variant(f"merge head {head}", decode_attention._merge, merged, merge)
    yield from _row_variants()
    yield from _product_variants()


def _row_variants() -> Iterator[Variant]:
    half = {"X": "*bf16", "Residual": "*bf16", "Out": "*bf16", "W": "*fp32", "Table": "*bf16"}
    for add in (False, True):
        yield Variant(
            f"rms_norm 4096{' with residual' if add else ''}", rows._rms_norm, half, {"BLOCK": 4096, "ADD": add},
            {"eps": "fp32"}, 8,
        )  # fmt: skip
    for tanh in (False, True):
        yield Variant(f"gated {'gelu' if tanh else 'silu'}", rows._gated, half, {"BLOCK": 1024, "TANH": tanh})
    yield Variant("take_rows", rows._take_rows, half, {"BLOCK": 1024, "SCALED": True}, {"scale": "fp32"})
    cache = {"QKV": "*bf16", "Q": "*bf16", "K": "*bf16", "V": "*bf16", "Cos": "*fp32", "Sin": "*fp32",
             "q_norm": "*fp32", "k_norm": "*fp32", "Scales": "*fp32"}  # fmt: skip
    for normed in (False, True):
        constants = {
            "H": 32, "HKV": 8, "D": 128, "HALF": 64, "TOGETHER": 8, "Q_NORM": normed, "K_NORM": normed, "KIND": 0
        }  # fmt: skip
        name = f"write_kv{' with norms' if normed else ''}"
        yield Variant(name, write_kv._write_kv, cache, constants, {"eps": "fp32"}, 2)
    yield Variant("apply_masks", sampling._apply_masks, {"Logits": "*fp32"}, {"BLOCK": 4096}, warps=8)
    drawn = {"Logits": "*fp32", "temperature": "*fp32", "top_p": "*fp32", "min_p": "*fp32", "seed": "*i64",
             "Logprob": "*fp32", "Edited": "*fp32", "Total": "*fp32"}  # fmt: skip
    yield Variant("sample", sampling._sample, drawn, {"BLOCK": 4096}, warps=16)
    edits = dict.fromkeys(("Logits", "Bias", "Factor", "Penalty"), "*fp32")
    yield Variant("edit", sampling._edit, edits, {"BLOCK": 256})
    yield Variant("follow", follow._follow, {}, {"BLOCK": 1024})
    yield Variant("move_pages", pages._move_pages, {"Source": "*bf16", "Target": "*bf16"}, {"CHUNK": 4096})


def _product_variants() -> Iterator[Variant]:
    halves = {"X": "*bf16", "Out": "*bf16", "Bias": "*fp32"}
    kinds = {"bf16": ("*bf16", None), "int8": ("*i8", "*fp32"), "fp8": ("*u8", "*fp32")}
    for kind, (weight, scales) in kinds.items():
        tensors = {**halves, "W": weight} | ({"Scales": scales} if scales else {})
        absent = {} if scales else {"Scales": None}
        for asked in (1, 4):
            tile = {"ROWS": asked, "BLOCK_N": 4, "BLOCK_K": 1024, "UNIT": 8}
            yield Variant(f"gemv {kind} {asked} rows", gemv._gemv, tensors, {**absent, **tile})
        for asked, split in ((16, True), (64, False), (128, False)):
            tile = {"BLOCK_M": asked, "BLOCK_N": 64, "BLOCK_K": 64, "SPLIT": split}
            out = {"Out": "*fp32"} if split else {}
            yield Variant(
                f"flat_matmul {kind} {asked} rows", flat_matmul._flat, {**tensors, **out}, {**absent, **tile}, {},
                4 if asked <= 64 else 8, 4, tensor_cores=asked >= 64,
            )  # fmt: skip
    four = {**halves, "Packed": "*i32"}
    for asked in (1, 2):
        tile = {"ROWS": asked, "BLOCK_N": 8, "WORDS": 128}
        yield Variant(f"int4_gemv {asked} rows", gemv._int4_gemv, four, tile)
    for asked, split in ((16, True), (64, False), (128, False)):
        tile = {"BLOCK_M": asked, "BLOCK_N": 64, "BLOCK_K": 64, "SPLIT": split}
        tensors = {**four, "Packed": "*u8"} | ({"Out": "*fp32"} if split else {})
        yield Variant(
            f"int4_matmul {asked} rows", quantized_matmul._int4, tensors, tile, {}, 4 if asked <= 64 else 8, 3,
            tensor_cores=asked >= 64,
        )  # fmt: skip
    yield Variant("int4_unpacked", quantized_matmul._int4_unpacked, {**four, "Packed": "*u8"}, {"BLOCK": 512})
    eight = {**halves, "X": "*i8", "XScales": "*fp32", "W": "*i8", "Scales": "*fp32"}
    for asked in (64, 128):
        tile = {"BLOCK_M": asked, "BLOCK_N": 64, "GROUP": 128}
        yield Variant(f"w8a8_matmul {asked} rows", quantized_matmul._w8a8, eight, tile, {}, 8, 3, tensor_cores=True)
    yield Variant("add_parts", flat_matmul._add_parts, {**halves, "Parts": "*fp32"}, {"BLOCK": 256})
    for name, values, constants in (
        ("quantize_rows int8", "*i8", {"GROUPS": 16, "GROUP": 128, "MOST": 127.0}),
        ("quantize_rows fp8", "*u8", {"GROUPS": 1, "GROUP": 16384, "MOST": 448.0}),
    ):
        tensors = {"X": "*bf16", "Values": values, "Scales": "*fp32"}
        yield Variant(name, quantize_rows._quantize_rows, tensors, constants, {}, 4 if "int8" in name else 16)


def compiled(variant: Variant, target: int) -> Report:
    """Compile for sm_<target> and read the report; raises what the compiler raises."""
    names = variant.kernel.arg_names
    signature = {
        name: "constexpr"
        if name in variant.constants
        else variant.pointers.get(name) or variant.scalars.get(name) or _guess(name)
        for name in names
    }
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if signature[name].startswith("*") or name in ALIGNED
    }
    constants = {(names.index(name),): value for name, value in variant.constants.items()}
    source = ASTSource(variant.kernel, signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": variant.warps, "num_stages": variant.stages}
    result = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    registers, spilled = _resources(result.asm["cubin"])
    return Report(variant.name, target, registers, spilled, result.metadata.shared, _instruction(result.asm["ptx"]))


ALIGNED = {"q_row", "q_head", "k_slot", "k_head", "o_row", "o_head", "width", "stride", "size", "K", "N"}
SCALARS = ALIGNED | {
    "window", "tiles", "M", "blocks", "splits", "groups", "units", "length", "exponent", "words", "vocabulary",
    "source_plane", "target_plane",
}  # fmt: skip


def _guess(name: str) -> str:
    return "i32" if name in SCALARS else "*i32"


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread and bytes of local memory, as NVIDIA's own tool reads them off the machine code."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        shown = subprocess.run(
            [str(tool), "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        )
    registers = re.search(r"REG:(\d+)", shown.stdout)
    local = re.search(r"LOCAL:(\d+)", shown.stdout)
    stack = re.search(r"STACK:(\d+)", shown.stdout)
    if registers is None or local is None or stack is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {shown.stdout[:200]}")
    return int(registers[1]), int(local[1]) + int(stack[1])


def _instruction(ptx: str) -> str:
    for name, marks in (("wgmma", "wgmma.mma_async"), ("tcgen05", "tcgen05.mma"), ("mma.sync", "mma.sync")):
        if marks in ptx:
            return name
    return "none"


def markdown(reports: list[Report]) -> str:
    """The reports as a table, a row for each variant."""
    lines = [
        "| kernel | " + " | ".join(f"sm_{target}" for target in TARGETS) + " |",
        "|---|" + "---|" * len(TARGETS),
    ]
    for name in dict.fromkeys(report.variant for report in reports):
        cells = [
            f"{r.registers} reg, {r.shared / 1024:.0f} kB, {r.instruction}"
            + (f", {r.spilled} B spilled" if r.spilled else "")
            for r in reports
            if r.variant == name
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def document() -> str:
    """docs/kernels.md: the table, and what it was made with."""
    reports = [compiled(variant, target) for variant in variants() for target in TARGETS]
    return f"{HEADING}\nTriton {triton.__version__}.\n\n{markdown(reports)}\n"


HEADING = """# What the kernels compile to

Every kernel, compiled ahead of time for three generations of GPUs by `python -m ramify.kernels.triton.ahead`: registers
of a thread, shared memory of a program, and the instruction that does its matrix products. A test makes the table anew.
"""

if __name__ == "__main__":
    print(document(), end="")  # noqa: T201
