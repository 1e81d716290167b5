"""Products with plain and packed weights against their twins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import triton
import triton.language as tl
from ramify.kernels import twins
from ramify.kernels.triton import flat_matmul, gemv, quantize_rows, quantized_matmul

from .close import BOUND, assert_close, error

FP8 = flat_matmul.FP8
SHAPES = [(0, 8, 32, 1), (1, 19, 96, 1), (3, 9, 160, 3), (17, 67, 160, 2), (70, 10, 32, 4)]
RAGGED = [(3, 9, 37, 2), (1, 1, 1, 1)]  # widths that only the matrices without blocks of 32 can have
TYPES = [torch.float32, torch.bfloat16, torch.float16]


def normal(*shape: int, seed: int, device: torch.device) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def weights(n: int, k: int, kind: str, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, ...]:
    """A matrix [n, k], and its scales."""
    dense = normal(n, k, seed=1, device=device)
    if kind == "plain":
        return (dense.to(dtype),)
    scales = normal(n, seed=2, device=device).abs()
    return ((dense * 40).round().clamp(-127, 127).to(torch.int8) if kind == "int8" else (dense * 100).to(FP8)), scales


def nibbles(n: int, k: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    bits = torch.randint(0, 256, (n, k // 2), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    numbers = normal(n, k // 32, 2, seed=4, device=device)
    numbers[..., 0].abs_()
    return bits.to(device), numbers.half()


def poisoned(call: Callable[[], torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """The call's result, where memory that it takes is full of NaN before it is written."""
    empty = torch.empty

    def full(*args: object, **kwargs: object) -> torch.Tensor:
        made = empty(*args, **kwargs)  # type: ignore[call-overload]
        return made.fill_(float("nan") if made.is_floating_point() and made.itemsize > 1 else 77)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", full)
        return call()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["plain", "int8", "fp8"])
@pytest.mark.parametrize(("m", "n", "k", "splits"), SHAPES + RAGGED)
def test_flat_and_gemv(
    m: int, n: int, k: int, splits: int, kind: str, dtype: torch.dtype, device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    x, bias = normal(m, k, seed=0, device=device).to(dtype), normal(n, seed=5, device=device)
    matrix = weights(n, k, kind, dtype, device)
    scales = matrix[1] if len(matrix) > 1 else None
    given = bias if n % 2 else None
    expected = twins.flat_matmul(x, matrix[0], scales, given)
    found = poisoned(lambda: flat_matmul.flat_matmul(x, matrix[0], scales, given, splits=splits), monkeypatch)
    assert_close(found, expected, dtype)
    if m <= gemv.MOST_ROWS:
        found = poisoned(lambda: gemv.gemv(x, matrix[0], scales, given, block_k=64), monkeypatch)
        assert_close(found, expected, dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("m", "n", "k", "splits"), SHAPES)
def test_int4(
    m: int, n: int, k: int, splits: int, dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, bias, four = (
        normal(m, k, seed=0, device=device).to(dtype),
        normal(n, seed=5, device=device),
        nibbles(n, k, device),
    )
    given = bias if n % 2 else None
    expected = twins.int4_matmul(x, *four, given)
    found = poisoned(lambda: quantized_matmul.int4_matmul(x, *four, given, splits=splits), monkeypatch)
    assert_close(found, expected, dtype)
    if m <= gemv.MOST_ROWS:
        assert_close(poisoned(lambda: gemv.int4_gemv(x, *four, given, words=8), monkeypatch), expected, dtype)
    unpacked = poisoned(lambda: quantized_matmul.int4_unpacked(*four, dtype), monkeypatch)
    assert_close(unpacked, twins.int4_unpacked(*four, dtype), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("m", "n", "k"), [(0, 8, 32), (1, 9, 128), (17, 67, 300), (70, 10, 37)])
def test_eight_bits_on_both_sides(
    m: int, n: int, k: int, dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, bias = normal(m, k, seed=0, device=device).to(dtype), normal(n, seed=5, device=device)
    x[:1] = 0  # a row without a scale
    values, scales = quantize_rows.quantize_rows(x)
    expected_values, expected_scales = twins.quantize_rows(x)
    assert torch.equal(values, expected_values)
    assert torch.equal(scales, expected_scales)
    matrix = weights(n, k, "int8", dtype, device)
    given = bias if n % 2 else None
    found = poisoned(lambda: quantized_matmul.w8a8_matmul(values, scales, *matrix, given, dtype=dtype), monkeypatch)
    assert_close(found, twins.w8a8_matmul(values, scales, *matrix, given, dtype=dtype), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("m", "k"), [(0, 32), (1, 96), (17, 300)])
def test_rows_in_fp8(m: int, k: int, dtype: torch.dtype, device: torch.device) -> None:
    x = normal(m, k, seed=0, device=device).to(dtype)
    x[:1] = 0
    values, scales = quantize_rows.quantize_rows_fp8(x)
    expected_values, expected_scales = twins.quantize_rows_fp8(x)
    assert torch.equal(scales, expected_scales)
    assert torch.equal(values.view(torch.uint8), expected_values.view(torch.uint8))


def test_every_fp8_number_is_read_exactly(device: torch.device) -> None:
    """Subnormal ones and zeros with a sign too: the kernels take them apart by their bits."""
    numbers = torch.arange(256, dtype=torch.uint8, device=device)
    weight = numbers[~numbers.view(FP8).float().isnan()][:, None].repeat(1, 16).view(FP8)
    x, scales = torch.eye(1, 16, device=device), torch.ones(len(weight), device=device)
    assert torch.equal(flat_matmul.flat_matmul(x, weight, scales)[0], weight[:, 0].float())
    assert torch.equal(gemv.gemv(x, weight, scales)[0], weight[:, 0].float())


@triton.jit
def _halves(Bytes, Out, WIDE: tl.constexpr):
    i = tl.arange(0, 256)
    half = flat_matmul.as_half(tl.load(Bytes + i), tl.bfloat16 if WIDE else tl.float16)
    tl.store(Out + i, half.to(tl.int16, bitcast=True))


@pytest.mark.parametrize(("wide", "factor"), [(True, 2.0**120), (False, 2.0**8)])
def test_every_fp8_number_fits_tensor_cores(wide: bool, factor: float, device: torch.device) -> None:
    """In the halves that GPUs multiply, which the interpreter's products do without."""
    numbers = torch.arange(256, dtype=torch.uint8, device=device)
    out = torch.empty(256, dtype=torch.int16, device=device)
    _halves[(1,)](numbers, out, WIDE=wide)
    meant = numbers.view(FP8).float()
    real = ~meant.isnan()
    found = out.view(torch.bfloat16 if wide else torch.float16).float() * factor
    assert torch.equal(found[real], meant[real])


def test_more_rows_than_a_tile_has(device: torch.device) -> None:
    x = normal(130, 64, seed=0, device=device)
    four, (eight, scales) = nibbles(5, 64, device), weights(5, 64, "int8", torch.float32, device)
    assert_close(quantized_matmul.int4_matmul(x, *four, splits=2), twins.int4_matmul(x, *four), torch.float32)
    assert_close(flat_matmul.flat_matmul(x, eight, scales), twins.flat_matmul(x, eight, scales), torch.float32)
    rounded = quantize_rows.quantize_rows(x)
    found = quantized_matmul.w8a8_matmul(*rounded, eight, scales, dtype=torch.float32)
    assert_close(found, twins.w8a8_matmul(*rounded, eight, scales, dtype=torch.float32), torch.float32)


def test_planted_mistakes_are_seen(device: torch.device) -> None:
    exact = BOUND[torch.float32]
    x = normal(3, 64, seed=0, device=device)
    packed, numbers = nibbles(33, 64, device)
    swapped = (packed >> 4) | (packed << 4)  # neighbours the other way around
    for kernel in (quantized_matmul.int4_matmul, gemv.int4_gemv):
        assert error(kernel(x, swapped, numbers), twins.int4_matmul(x, packed, numbers)) > exact
        assert error(kernel(x, packed, numbers.flip(2)), twins.int4_matmul(x, packed, numbers)) > exact
    for kind in ("int8", "fp8"):
        weight, scales = weights(33, 64, kind, torch.float32, device)
        for product in (flat_matmul.flat_matmul, gemv.gemv):
            assert error(product(x, weight, scales.roll(1)), twins.flat_matmul(x, weight, scales)) > exact
    weight, scales = weights(33, 64, "int8", torch.float32, device)
    values, x_scales = quantize_rows.quantize_rows(x)
    found = quantized_matmul.w8a8_matmul(values, x_scales.roll(1, 0), weight, scales, dtype=torch.float32)
    assert error(found, twins.w8a8_matmul(values, x_scales, weight, scales, dtype=torch.float32)) > exact
    bias = normal(33, seed=5, device=device)
    cut = flat_matmul.flat_matmul(x, weight, scales, bias, splits=2)
    assert error(cut, twins.flat_matmul(x, weight, scales, bias * 2)) > exact  # added once for each part
