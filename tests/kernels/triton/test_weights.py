"""What matrices are packed into, and what is multiplied by them, in every mode."""

from __future__ import annotations

from dataclasses import dataclass

import gguf
import numpy as np
import pytest
import torch
from ramify.kernels import twins
from ramify.kernels.ops import Compute
from ramify.kernels.torch_compute import TorchCompute
from ramify.kernels.triton import weights
from ramify.kernels.triton.compute import TritonCompute
from ramify.kernels.triton.products import MANY, Product
from ramify.kernels.triton.recorder import CudaRecorder
from ramify.kernels.triton.rehearsal import Rehearsal
from ramify.kernels.triton.weights import PackedMatrix, Packing, from_blocks, multiply, to_fp8, to_int4, to_int8

from . import tiny
from .close import BOUND, error
from .tiny import Dense

MODES = ("fp32", "bf16", "fp8", "int8", "int4")
# Half a step of each format, by a matrix's largest value.
ROUNDING = {"fp32": 0.0, "bf16": 2.0**-8, "fp8": 2.0**-4, "int8": 1 / 253, "int4": 1 / 14}
EIGHT = {"fp8": 6e-2, "int8": 2e-2}  # by the largest value: products whose activations are rounded to 8 bits too
WHOLE = {"fp32": 1e-5, "bf16": 2e-2, "fp8": 0.15, "int8": 6e-2, "int4": 0.35}  # relative error of a row of logits


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Blocks:
    """A matrix as a GGUF file has it."""

    bits: np.ndarray
    format: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, values: torch.Tensor, format: str) -> Blocks:
        kind = gguf.GGMLQuantizationType[format]
        return cls(gguf.quants.quantize(values.numpy(), kind), format, tuple(values.shape))

    def rows(self) -> np.ndarray:
        return self.bits

    def dense(self) -> torch.Tensor:
        return torch.from_numpy(gguf.quants.dequantize(self.bits, gguf.GGMLQuantizationType[self.format]))


def unpacked(matrix: PackedMatrix) -> torch.Tensor:
    """The weights that a packed matrix stands for, [N, K]."""
    if matrix.scales is None:
        return matrix.weight.float().cpu()
    if matrix.format == "int4":
        return twins.int4_unpacked(matrix.weight, matrix.scales, torch.float32).cpu()
    return (matrix.weight.float() * matrix.scales[:, None]).cpu()


# -- packing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["Q4_0", "Q4_1"])
def test_a_files_blocks_are_not_rounded_anew(format: str, device: torch.device) -> None:
    stored = Blocks.of(normal(7, 96), format)
    matrix = Packing("auto", device).linear([stored], name="x")
    assert matrix.format == "int4"
    assert torch.equal(unpacked(matrix), stored.dense())
    packed, scales = from_blocks(stored.rows(), format, device)
    wrong = twins.int4_unpacked((packed >> 4) | (packed << 4), scales, torch.float32)
    assert not torch.equal(wrong.cpu(), stored.dense())


def test_rounding_is_to_the_nearest() -> None:
    """Half a step of the format, and of fp16 for the 4 bits' scales."""
    weight = normal(5, 96)
    largest = weight.abs().amax(1, keepdim=True)
    values, scales = to_int8(weight)
    assert ((values.float() * scales[:, None] - weight).abs() <= 0.5001 * largest / 127).all()
    values, scales = to_fp8(weight)
    assert ((values.float() * scales[:, None] - weight).abs() <= weight.abs() / 16 + largest * 2**-19).all()
    blocks = weight.view(5, 3, 32)
    step = (blocks.amax(2) - blocks.amin(2)) / 15
    found = twins.int4_unpacked(*to_int4(weight), torch.float32).view(5, 3, 32)
    assert ((found - blocks).abs() <= 0.51 * step[..., None] + largest[..., None] * 2**-10).all()


@pytest.mark.parametrize("rounded", [to_int8, to_fp8, to_int4])
def test_a_row_of_zeros_stays_one(rounded: object) -> None:
    values, scales = rounded(torch.zeros(2, 32))  # type: ignore[operator]
    assert not values.view(torch.uint8).any()
    assert not scales.any()


@pytest.mark.parametrize("mode", MODES)
def test_parts_are_stacked_and_rounded_piece_by_piece(
    mode: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [Dense(normal(5, 64)), Blocks.of(normal(3, 64, seed=1), "Q4_1"), Dense(normal(1, 64, seed=2))]
    bias = [normal(5), normal(3), normal(1)]
    whole = Packing(mode, device).linear(parts, bias, name="x")
    monkeypatch.setattr(weights, "AT_ONCE", 2 * 64)
    pieces = Packing(mode, device).linear(parts, bias, name="x")
    assert torch.equal(unpacked(whole), unpacked(pieces))
    expected = torch.cat([part.dense() for part in parts])
    assert error(unpacked(whole), expected) <= ROUNDING[mode]
    assert whole.bias is not None
    assert error(whole.bias.cpu().float(), torch.cat(bias)) <= (4e-3 if mode == "bf16" else 0)


def test_what_becomes_what(device: torch.device) -> None:
    dense, four = [Dense(normal(2, 64))], [Blocks.of(normal(2, 64), "Q4_0")]
    odd = [Dense(normal(2, 40))]
    for mode, parts, name, expected in (
        ("auto", four, "x", "int4"), ("auto", dense, "x", "bf16"), ("auto", [*four, *dense], "x", "bf16"),
        ("int4", dense, "x", "int4"), ("int4", odd, "x", "int8"), ("int8", odd, "x", "int8"),
        ("fp8", four, "x", "fp8"), ("int4", four, "lm_head", "bf16"), ("fp32", four, "x", "fp32"),
    ):  # fmt: skip
        assert Packing(mode, device).format_of(parts, name) == expected, (mode, name)
    assert Packing("int4", device).embedding(dense[0]).format == "bf16"


# -- products ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 17, 70])
@pytest.mark.parametrize("format", MODES)
def test_rows_times_a_packed_matrix(format: str, rows: int, device: torch.device) -> None:
    """gemv, flat and w8a8 or the library, as the rule has it, against the weights that the matrix stands for."""
    dtype = torch.float32 if format == "fp32" else torch.bfloat16
    bias = normal(48, seed=3)
    matrix = Packing(format, device).linear([Dense(normal(48, 96))], [bias], name="x")
    x = normal(rows, 96, seed=1).to(device, dtype)
    expected = x.float().cpu() @ unpacked(matrix).T + bias
    bound = EIGHT.get(format, 0) if rows > MANY else 0
    bound = bound or BOUND[dtype]
    assert error(multiply(x, matrix).float().cpu(), expected) <= bound
    assert error(multiply(x.flip(1), matrix).float().cpu(), expected) > bound


def test_the_library_takes_what_int4_unpacks_to(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = Packing("int4", device).linear([Dense(normal(48, 96))], [normal(48, seed=3)], name="x")
    x = normal(5, 96, seed=1).to(device)
    flat = multiply(x, matrix)
    monkeypatch.setattr(weights, "product", lambda *_: Product("library"))
    assert error(multiply(x, matrix), flat) <= 1e-5


def test_fp32_is_not_rounded_to_tf32(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the process lets torch's products do: ours are done by a kernel that cannot, and nothing is set."""
    calls: list[int] = []

    def flat(x: torch.Tensor, weight: torch.Tensor, *rest: torch.Tensor | None) -> torch.Tensor:
        calls.append(len(x))
        return twins.flat_matmul(x, weight, *rest)

    monkeypatch.setattr(weights, "flat_matmul", flat)
    monkeypatch.setattr(weights, "on_gpu", lambda x: True)
    matrix = Packing("fp32", device).linear([Dense(normal(8, 32))], name="x")
    before = torch.get_float32_matmul_precision()
    try:
        multiply(normal(3, 32).to(device), matrix)
        assert calls == []
        torch.set_float32_matmul_precision("high")
        multiply(normal(4, 32).to(device), matrix)
        assert calls == [4]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert not weights.rounds_to_tf32()


# -- whole models -----------------------------------------------------------------------------------------------------


def logits(place: Compute) -> torch.Tensor:
    forward = tiny.packed(place.ops)
    place.allocate(tiny.SHAPE)
    run = place.compile(forward)
    tables = tiny.Tables(0)
    sequences = [tables.new(), tables.new()]
    steps = [tables.step(sequences, rows=9), tables.step(sequences[:1])]  # a prompt, then one token by decoding
    return torch.cat([run(step).clone().cpu() for step in steps])


@pytest.mark.parametrize("mode", MODES)
def test_a_whole_model_in_each_mode(mode: str, device: torch.device) -> None:
    expected = logits(TorchCompute("fp32"))
    place = TritonCompute(mode, device)
    found = logits(place)
    worst = ((found - expected).norm(dim=1) / expected.norm(dim=1)).max()
    assert worst <= WHOLE[mode]
    assert mode == "fp32" or worst > 1e-4  # it did run in that mode
    assert f"Triton kernels, {mode} on " in place.summary
    if mode not in ("fp32", "bf16"):
        assert f": 1 bf16, 8 {mode} matrices" in place.summary


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fp8", "int8", "int4"])
def test_decode_steps_are_recorded_with_packed_weights(mode: str, device: torch.device) -> None:
    """In padded buckets; what a product makes on its way lies where the recording had it."""
    recorder = CudaRecorder(device) if device.type == "cuda" else Rehearsal()
    place, plain = TritonCompute(mode, device, recorder=recorder), TritonCompute(mode, device, graphs=False)
    runs = []
    for compute in (place, plain):
        forward = tiny.packed(compute.ops)
        runs.append(compute.compile(forward))
        tiny.ready(compute)
    tables = tiny.Tables(0)
    sequences = [tables.new() for _ in range(3)]
    for chosen in (sequences, sequences, sequences[:1]):
        step = tables.step(chosen)
        recorded, eager = (run(step).clone().cpu() for run in runs)
        assert error(recorded, eager) <= BOUND[torch.bfloat16]
    assert place.graphs is not None
    assert plain.graphs is None
