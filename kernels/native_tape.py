"""Records a model's forward pass as a tape for the compiled core, fuses what can be fused, and lays out its buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .native_core import Op, Prologue
from .native_pack import PackedMatrix, PackedTable, PackedVector, Packer
from .ops import AttentionSpec, Forward, Gate, Ops, Stored


@dataclass(frozen=True, slots=True)
class Value:
    """An activation while it is recorded: `width` numbers for each of the step's rows, or of its logit rows."""

    index: int
    width: int
    selected: bool


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operation on recorded values; the fields mean what they mean in cpu/tape.h."""

    op: Op
    input: Value | None
    output: Value
    other: Value | None = None
    kind: int = 0
    number: float = 1.0
    data: PackedMatrix | PackedTable | PackedVector | None = None
    norm: PackedVector | None = None
    spec: AttentionSpec | None = None

    @property
    def reads(self) -> tuple[Value, ...]:
        return tuple(value for value in (self.input, self.other) if value is not None)


@dataclass(frozen=True, slots=True)
class Tape:
    """Instructions in order, and the buffer of every value: `buffers[value.index]`, of `widths[buffer]` numbers a row.

    The last instruction's output has a buffer of its own, of width 0: the caller's memory takes its place.
    """

    instructions: tuple[Instruction, ...]
    buffers: dict[int, int]
    widths: tuple[int, ...]


class RecordingOps(Ops):
    """Packs parameters at once; given the forward pass, writes down what it asks for."""

    def __init__(self, packer: Packer, ropes: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.packer = packer
        self.ropes = ropes
        self.instructions: list[Instruction] = []

    def vector(self, values: torch.Tensor) -> PackedVector:
        return self.packer.vector(values)

    def linear(self, parts: Sequence[Stored], bias: Sequence[torch.Tensor] | None = None, *, name: str) -> PackedMatrix:
        return self.packer.linear(parts, bias, name=name)

    def embedding(self, table: Stored) -> PackedTable:
        return self.packer.table(table)

    def rope_table(self, cos: torch.Tensor, sin: torch.Tensor) -> int:
        self.ropes.append((cos.float().contiguous(), sin.float().contiguous()))
        return len(self.ropes) - 1

    def embed(self, table: PackedTable, scale: float = 1.0) -> Value:
        return self._write(Op.EMBED, None, table.width, kind=table.source, number=scale, data=table)

    def rms_norm(self, x: Value, weight: PackedVector, eps: float) -> Value:
        return self._write(Op.NORM, x, x.width, number=eps, data=weight)

    def matmul(self, x: Value, weight: PackedMatrix | PackedTable, residual: Value | None = None) -> Value:
        matrix = self.packer.table_matrix(weight) if isinstance(weight, PackedTable) else weight
        return self._write(Op.MATMUL, x, matrix.outputs, other=residual, data=matrix)

    def attention(self, qkv: Value, spec: AttentionSpec) -> Value:
        return self._write(Op.ATTENTION, qkv, spec.heads * spec.head_dim, spec=spec)

    def gated(self, x: Value, gate: Gate) -> Value:
        return self._write(Op.GATED, x, x.width // 2, kind=0 if gate == "silu" else 1)

    def add(self, x: Value, y: Value) -> Value:
        return self._write(Op.ADD, x, x.width, other=y)

    def select(self, x: Value) -> Value:
        return self._write(Op.SELECT, x, x.width)

    def softcap(self, x: Value, cap: float) -> Value:
        return self._write(Op.SOFTCAP, x, x.width, number=cap)

    def _write(
        self,
        op: Op,
        x: Value | None,
        width: int,
        *,
        other: Value | None = None,
        kind: int = 0,
        number: float = 1.0,
        data: PackedMatrix | PackedTable | PackedVector | None = None,
        spec: AttentionSpec | None = None,
    ) -> Value:
        selected = op is Op.SELECT or (x is not None and x.selected)
        output = Value(len(self.instructions), width, selected)
        self.instructions.append(Instruction(op, x, output, other, kind, number, data, None, spec))
        return output


def record(forward: Forward, packer: Packer, ropes: list[tuple[torch.Tensor, torch.Tensor]]) -> Tape:
    """The forward pass as a tape. Packs tied heads, if they are not packed yet."""
    ops = RecordingOps(packer, ropes)
    logits = forward(ops)
    assert ops.instructions[-1].output == logits, "a forward pass must end with what it returns"
    return lay_out(fuse(ops.instructions))


def fuse(instructions: Sequence[Instruction]) -> list[Instruction]:
    """Norms and gates that feed one product become the prologue of that product."""
    uses: dict[int, int] = {}
    for instruction in instructions:
        for value in instruction.reads:
            uses[value.index] = uses.get(value.index, 0) + 1
    made = {instruction.output.index: instruction for instruction in instructions}
    gone: set[int] = set()
    fused: list[Instruction] = []
    for instruction in instructions:
        source = made.get(instruction.input.index) if instruction.input is not None else None
        if instruction.op is Op.MATMUL and source is not None and uses[source.output.index] == 1:
            if source.op is Op.NORM and isinstance(source.data, PackedVector):
                instruction = replace(
                    instruction, input=source.input, kind=Prologue.NORM, number=source.number, norm=source.data
                )
                gone.add(source.output.index)
            elif source.op is Op.GATED:
                prologue = Prologue.SILU if source.kind == 0 else Prologue.GELU_TANH
                instruction = replace(instruction, input=source.input, kind=prologue)
                gone.add(source.output.index)
        fused.append(instruction)
    return [instruction for instruction in fused if instruction.output.index not in gone]


def lay_out(instructions: Sequence[Instruction]) -> Tape:
    """Buffers for the values: reused once the last reader is done, and in place where an operation allows it."""
    last_use = {value.index: step for step, instruction in enumerate(instructions) for value in instruction.reads}
    final = instructions[-1].output.index
    if instructions[-1].op is Op.SOFTCAP and instructions[-1].input is not None:
        final = instructions[-1].input.index  # capped in place, in the caller's memory
    widths, buffers, free = [0], {final: 0, instructions[-1].output.index: 0}, dict[int, list[int]]()
    for step, instruction in enumerate(instructions):
        output = instruction.output
        in_place = instruction.other if instruction.op in (Op.MATMUL, Op.ADD) else None
        if output.index in buffers:
            pass
        elif (
            in_place is not None
            and last_use[in_place.index] == step
            and in_place != instruction.input
            and in_place.width == output.width
        ):
            buffers[output.index] = buffers[in_place.index]
        elif free.get(output.width):
            buffers[output.index] = free[output.width].pop()
        else:
            buffers[output.index] = len(widths)
            widths.append(output.width)
        for value in dict.fromkeys(instruction.reads):
            if last_use[value.index] == step and buffers[value.index] not in (buffers[output.index], 0):
                free.setdefault(value.width, []).append(buffers[value.index])
    return Tape(tuple(instructions), buffers, tuple(widths))
