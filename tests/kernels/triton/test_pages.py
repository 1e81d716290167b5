"""The moving of pages against its twins."""

from __future__ import annotations

import pytest
import torch
from ramify.kernels import twins
from ramify.kernels.triton.pages import copy_pages, gather_pages, scatter_pages

TYPES = [torch.float32, torch.bfloat16, torch.float16]


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
