"""Products with packed weights, and the moving of pages, against their twins."""

from __future__ import annotations

import pytest
import torch
from ramify.kernels import twins
from ramify.kernels.triton.pages import copy_pages, gather_pages, scatter_pages
from ramify.kernels.triton.quantized_matmul import int4_matmul, int8_matmul, w8a8_matmul

from .close import BOUND, assert_close, error

SHAPES = [(0, 8, 32, 1), (1, 70, 96, 1), (5, 64, 64, 2), (17, 33, 160, 3), (70, 10, 32, 4), (1, 1, 32, 1)]
TYPES = [torch.float32, torch.bfloat16, torch.float16]


def made(m: int, n: int, k: int, device: torch.device) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(m + n + k)

    def whole(low: int, high: int, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator).to(device, dtype)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    return {
        "x": normal(m, k),
        "packed": whole(0, 256, n, k // 2, dtype=torch.uint8),
        "scales": normal(n, k // 32).abs().half(),
        "minima": normal(n, k // 32).half(),
        "weight": whole(-127, 128, n, k, dtype=torch.int8),
        "row_scales": normal(n).abs(),
        "x8": whole(-127, 128, m, k, dtype=torch.int8),
        "x_scales": normal(m).abs(),
    }


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("m", "n", "k", "splits"), SHAPES)
def test_products(m: int, n: int, k: int, splits: int, dtype: torch.dtype, device: torch.device) -> None:
    a = made(m, n, k, device)
    x = a["x"].to(dtype)
    four = (a["packed"], a["scales"], a["minima"])
    assert_close(int4_matmul(x, *four, splits=splits), twins.int4_matmul(x, *four), dtype)
    eight = (a["weight"], a["row_scales"])
    assert_close(int8_matmul(x, *eight, splits=splits), twins.int8_matmul(x, *eight), dtype)
    both = (a["x8"], a["x_scales"], *eight, dtype)
    assert_close(w8a8_matmul(*both), twins.w8a8_matmul(*both), dtype)


def test_planted_mistakes_are_seen(device: torch.device) -> None:
    a, exact = made(5, 64, 64, device), BOUND[torch.float32]
    swapped = (a["packed"] >> 4) | (a["packed"] << 4)  # the nibbles the other way around
    four = (a["scales"], a["minima"])
    assert error(int4_matmul(a["x"], swapped, *four), twins.int4_matmul(a["x"], a["packed"], *four)) > exact
    eight = (a["weight"], a["row_scales"])
    assert error(int8_matmul(a["x"], a["weight"], a["row_scales"].roll(1)), twins.int8_matmul(a["x"], *eight)) > exact
    both = (a["x8"], a["x_scales"], *eight, torch.float32)
    rolled = (a["x8"], a["x_scales"].roll(1), *eight, torch.float32)
    assert error(w8a8_matmul(*rolled), twins.w8a8_matmul(*both)) > exact


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_pages_move_whole_and_alone(count: int, dtype: torch.dtype, device: torch.device) -> None:
    cache = torch.randn((3, 2, 9, 16, 2, 70), generator=torch.Generator().manual_seed(1)).to(device, dtype)
    source = torch.tensor([1, 3, 8][:count], dtype=torch.int32, device=device)
    target = torch.tensor([0, 7, 2][:count], dtype=torch.int32, device=device)
    expected = cache.clone()
    twins.copy_pages(expected, source, target)
    copy_pages(cache, source, target)
    assert torch.equal(cache, expected)
    buffer = gather_pages(cache, source)
    assert torch.equal(buffer, twins.gather_pages(cache, source))
    emptied, twin = torch.zeros_like(cache), torch.zeros_like(cache)
    scatter_pages(emptied, source, buffer)
    twins.scatter_pages(twin, source, buffer)
    assert torch.equal(emptied, twin)
    if count > 1:
        assert not torch.equal(gather_pages(cache, source.flip(0)), buffer)
