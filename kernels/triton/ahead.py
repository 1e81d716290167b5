"""Compiles every kernel ahead of time, for GPUs that are not here, and reads off what the machine code needs.

    python -m ramify.kernels.triton.ahead          the table, as docs/kernels.md has it

Triton compiles for a named target without a GPU, and its wheel carries NVIDIA's assembler and disassembler.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import floors
from .variants import ALL_TARGETS, Variant, variants

SHARED_MEMORY = {80: 101_376, 90: 232_448, 100: 232_448}  # bytes of one program: of a generation, its smallest (sm_86)
REGISTERS = 255  # of one thread


@dataclass(frozen=True, slots=True)
class Report:
    """What one variant needs on one target."""

    variant: str
    target: int
    registers: int
    spilled: int  # bytes of local memory: anything but 0 is slow
    shared: int  # bytes
    instruction: str  # of the matrix products: mma.sync, wgmma, tcgen05, or none


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
        "| kernel | " + " | ".join(f"sm_{target}" for target in ALL_TARGETS) + " |",
        "|---|" + "---|" * len(ALL_TARGETS),
    ]
    for name in dict.fromkeys(report.variant for report in reports):
        found = {report.target: report for report in reports if report.variant == name}
        cells = [cell(found[target]) if target in found else "-" for target in ALL_TARGETS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(report: Report) -> str:
    """What a variant needs on one target, as the table has it."""
    spilled = f", {report.spilled} B spilled" if report.spilled else ""
    return f"{report.registers} reg, {report.shared / 1024:.0f} kB, {report.instruction}{spilled}"


def wrong(variant: Variant, report: Report) -> str | None:
    """What keeps a launch from being fast, or from running at all; such a launch is not for the table."""
    if report.spilled:
        return "spills"
    if report.shared > SHARED_MEMORY[report.target] or report.registers > REGISTERS:
        return "does not fit"
    if variant.tensor_cores and report.target == 90 and report.instruction != "wgmma":
        return "misses the tensor cores"
    return None


def document() -> str:
    """docs/kernels.md: the table, and what it was made with."""
    reports = [compiled(variant, target) for variant in variants() for target in variant.targets]
    made = f"Triton {triton.__version__}.\n\n{markdown(reports)}"
    return f"{HEADING}\n{made}\n\n{FLOORS}\n{floors.markdown()}\n"


HEADING = """# What the kernels compile to

Every kernel, and every launch of the tuning table, compiled ahead of time for three generations of GPUs by
`python -m ramify.kernels.triton.ahead`: registers of a thread, shared memory of a program, and the instruction that
does its matrix products. That nothing spills, all of it fits, and what should use wgmma on sm_90 does, is tested.
"""
FLOORS = """## What each kernel cannot do without

The bytes that must move and the operations of its products, counted from the shape (`kernels/triton/floors.py`), at
shapes of Llama 3 8B in bf16. The times are arithmetic with an H200's two ceilings and no measurement: timings are held
against them.
"""

if __name__ == "__main__":
    print(document(), end="")  # noqa: T201
