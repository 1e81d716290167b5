"""Runs models on the compiled CPU core: the forward pass is recorded once, and each step is one call into C++."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref, c_int32
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .draws import Ints, Words
from .native_core import (
    REJECTIONS,
    AttentionStruct,
    CacheStruct,
    CountersStruct,
    InstructionStruct,
    Op,
    StepStruct,
    declare,
)
from .native_pack import PackedTable, Packer
from .native_tape import Instruction, RecordingOps, Tape, record
from .ops import Bytes, CacheShape, Compute, Forward, Step

TILE = 16  # tokens in a tile of the cache: pages are whole tiles
RUN = 8  # pages that lie together in the cache: memory is taken for whole runs
LARGEST_HEAD = 256


def physical_cores() -> int:
    """The cores this process may run on, hardware threads of one core counted once."""
    allowed = os.sched_getaffinity(0)
    siblings = set()
    for cpu in allowed:
        try:
            siblings.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text("ascii"))
        except OSError:
            return len(allowed)
    return len(siblings)


class NativeCompute(Compute):
    """The compiled core on `threads` threads (the caller's is one of them). One step runs at a time.

    mode: fp32 (exact; bit for bit the same for a row, whatever else is in the batch), bf16, int8, int4 (in blocks of
    32), or auto. `smoothing` is the largest magnitude of each input channel, by a linear's name (see Packer).
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        mode: str = "auto",
        threads: int | None = None,
        smoothing: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self._library = declare(library)
        self.mode = mode
        self.threads = threads or physical_cores()
        self._packer = Packer(library, mode, smoothing or {})
        self._ropes: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._shape: CacheShape | None = None
        self._core: int | None = library.ramify_open(self.threads)
        if self._core is None:
            raise MemoryError(f"the compiled core could not start {self.threads} threads")
        weakref.finalize(self, library.ramify_close, self._core)

    @property
    def summary(self) -> str:  # type: ignore[override]  # it grows while the model is packed
        packer = self._packer
        packed = ", ".join(f"{count} {kind}" for kind, count in sorted(packer.kinds.items()))
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        line = f"compiled CPU core, {self.mode}, {threads}"
        if packed:
            line += f": {packed} matrices, {'fp32' if self.mode == 'fp32' else 'bf16'} cache"
        if {"Q4", "I8"} <= packer.kinds.keys():
            line += f"; Q4 below {packer.wide_from} rows, I8 from there"
        return line if packer.choice is None else f"{line}; {packer.choice.reason}"

    @property
    def ops(self) -> RecordingOps:
        return RecordingOps(self._packer, self._ropes)

    def allocate(self, shape: CacheShape) -> None:
        if not self._library.ramify_allocate(self._core, byref(self._cache(shape))):
            size = self.bytes_per_page(shape) * shape.pages / 1e9
            raise MemoryError(f"no memory for a cache of {shape.pages} pages ({size:.1f} GB): ask for fewer pages")
        self._shape = shape

    def bytes_per_page(self, shape: CacheShape) -> int:
        return int(self._library.ramify_page_bytes(byref(self._cache(shape))))

    def _cache(self, shape: CacheShape) -> CacheStruct:
        if shape.page_size <= 0 or shape.page_size % TILE != 0:
            raise ValueError(
                f"page_size={shape.page_size}: the compiled core's pages are multiples of {TILE} tokens "
                f"({TILE}, {2 * TILE}, {3 * TILE}, ...); choose one of them, or set RAMIFY_NATIVE=0"
            )
        if shape.head_dim % 2 != 0 or not 0 < shape.head_dim <= LARGEST_HEAD:
            raise ValueError(f"head_dim={shape.head_dim}: the compiled core takes even ones up to {LARGEST_HEAD}")
        bf16 = int(self.mode != "fp32")
        return CacheStruct(shape.layers, shape.kv_heads, shape.head_dim, shape.page_size, shape.pages, bf16)

    def compile(self, forward: Forward) -> Callable[[Step], torch.Tensor]:
        return Program(self, record(forward, self._packer, self._ropes)).step

    def mask(self, logits: torch.Tensor, rows: Sequence[int], masks: Sequence[Words]) -> None:
        columns = logits.shape[1]
        if not logits.is_contiguous() or logits.dtype != torch.float32 or logits.device.type != "cpu":
            return super().mask(logits, rows, masks)
        for row, words in zip(rows, masks, strict=True):
            if not 0 <= row < len(logits) or len(words) * 32 < columns or not words.flags.c_contiguous:
                raise ValueError(f"a mask of {len(words)} words for row {row} of logits {tuple(logits.shape)}")
        where = np.array(rows, dtype=np.int32)
        pointers = np.array([words.ctypes.data for words in masks], dtype=np.uint64)
        self._library.ramify_mask(logits.data_ptr(), columns, where.ctypes.data, pointers.ctypes.data, len(where))
        return None

    def cache_memory(self) -> Bytes:
        """The cache as it lies in memory (the layout is the core's business): to save it, move it, or poison it."""
        assert self._shape is not None, "the cache has no memory before `allocate`"
        size = self.bytes_per_page(self._shape) * (-(-self._shape.pages // RUN) * RUN)
        address = self._library.ramify_cache(self._core)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    # -- what it did ----------------------------------------------------------------------------------------------

    def profile(self, on: bool = True, *, own_time: bool = False) -> None:
        """Measure the time of every kind of operation from now on: by the wall, or the calling thread's own time, which
        tells more on a busy machine when there is only one thread."""
        self._library.ramify_profile(self._core, 0 if not on else 2 if own_time else 1)

    def counters(self) -> dict[str, int]:
        """Since the start: steps, tokens, kv_bytes_read; while profiling, nanoseconds by operation and for planning."""
        counted = CountersStruct()
        self._library.ramify_counters(self._core, byref(counted))
        times = {f"ns_{op.name.lower()}": counted.nanoseconds[op] for op in Op}
        return {
            "steps": counted.steps,
            "tokens": counted.tokens,
            "kv_bytes_read": counted.kv_bytes_read,
            **times,
            "ns_plan": counted.plan_nanoseconds,
        }


class Program:
    """A recorded forward pass in the core's memory. It keeps alive everything that the tape points to."""

    def __init__(self, compute: NativeCompute, tape: Tape) -> None:
        self._compute, self._tape = compute, tape
        self._library = compute._library
        specs = [instruction.spec for instruction in tape.instructions if instruction.spec is not None]
        layers = (AttentionStruct * max(1, len(specs)))()
        code = (InstructionStruct * len(tape.instructions))()
        attention = 0
        for place, instruction in enumerate(tape.instructions):
            code[place] = self._encode(instruction, attention)
            if instruction.spec is not None:
                layers[attention] = self._attention(instruction)
                attention += 1
        table = tape.instructions[0].data
        assert isinstance(table, PackedTable), "a forward pass starts by embedding its tokens"
        positions = min((len(compute._ropes[spec.rope][0]) for spec in specs), default=2**31 - 1)
        self._vocabulary = tape.instructions[-1].output.width
        widths = (c_int32 * len(tape.widths))(*tape.widths)
        self._handle = self._library.ramify_program(
            compute._core, code, len(code), layers, attention, widths, len(widths), table.outputs, positions
        )
        if self._handle is None:
            raise MemoryError("no memory for the compiled core's program")
        weakref.finalize(self, self._library.ramify_program_close, self._handle)
        self._logits = torch.empty((0, self._vocabulary))

    def _encode(self, instruction: Instruction, attention: int) -> InstructionStruct:
        buffers, data = self._tape.buffers, instruction.data
        address = data.rows.ctypes.data if isinstance(data, PackedTable) else data.address if data is not None else None
        row_width = instruction.output if instruction.op in (Op.EMBED, Op.GATED) else instruction.input
        assert row_width is not None, "only embedding has no input"
        return InstructionStruct(
            op=instruction.op,
            selected=int(instruction.output.selected),
            input=buffers[instruction.input.index] if instruction.input is not None else -1,
            other=buffers[instruction.other.index] if instruction.other is not None else -1,
            output=buffers[instruction.output.index],
            width=row_width.width,
            kind=attention if instruction.spec is not None else instruction.kind,
            number=instruction.number,
            stride=data.rows.strides[0] if isinstance(data, PackedTable) else 0,
            data=address,
            norm=instruction.norm.address if instruction.norm is not None else None,
        )

    def _attention(self, instruction: Instruction) -> AttentionStruct:
        spec = instruction.spec
        assert spec is not None, "only attention has one"
        cos, sin = self._compute._ropes[spec.rope]
        return AttentionStruct(
            layer=spec.layer,
            heads=spec.heads,
            kv_heads=spec.kv_heads,
            head_dim=spec.head_dim,
            window=spec.window or 0,
            half=cos.shape[1],
            scale=spec.scale,
            softcap=spec.softcap or 0.0,
            norm_eps=spec.norm_eps,
            cos=cos.data_ptr(),
            sin=sin.data_ptr(),
            q_norm=spec.q_norm.address if spec.q_norm is not None else None,
            k_norm=spec.k_norm.address if spec.k_norm is not None else None,
        )

    def step(self, step: Step) -> torch.Tensor:
        """Runs one step: [R, vocabulary] logits in fp32, overwritten by the next step. A step that does not fit the
        cache or the model is refused with a ValueError before anything is written."""
        arrays = [
            contiguous(array)
            for array in (
                step.tokens,
                step.positions,
                step.query_start,
                step.context,
                step.pages,
                step.page_start,
                step.logit_rows,
            )
        ]
        if step.columns is not None:
            arrays += [contiguous(step.columns.start), contiguous(step.columns.ids)]
        addresses = [array.ctypes.data for array in arrays] + [None, None]  # null: all columns
        wanted = len(step.logit_rows)
        if wanted > len(self._logits):
            self._logits = torch.empty((wanted, self._vocabulary))
        view = StepStruct(
            *addresses[:9],
            len(step.tokens),
            len(step.context),
            len(step.pages),
            wanted,
        )
        rejection = self._library.ramify_step(self._handle, byref(view), self._logits.data_ptr())
        if rejection:
            raise ValueError(f"the step is not sound: {REJECTIONS[rejection]}")
        return self._logits[:wanted]


def contiguous(array: np.ndarray[Any, Any]) -> Ints:
    """The array as the core reads it; the same object if it already is."""
    return np.ascontiguousarray(array, dtype=np.int32)
