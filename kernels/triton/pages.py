"""Moves pages of KV: within the cache, and between it and a contiguous buffer (offload, migration).

They are moved as bits, of whatever type they are: in words of 4 bytes where a page is made of words, 16 bytes a thread.

Floor: each moved byte is read once and written once: 4 layers page_size Hkv D width bytes for each page.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

CHUNK = 4096  # words that one program moves


def copy_pages(cache: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> None:
    """Pages source[i] -> target[i] of every layer, keys and values; cache [layers, 2, pages, ...]; int32 indices.

    No page may be both a source and a target.
    """
    _move(_planes(cache), _planes(cache), source, target)


def gather_pages(cache: torch.Tensor, pages: torch.Tensor) -> torch.Tensor:
    """The pages of every layer in one contiguous buffer [layers, 2, len(pages), ...]."""
    out = torch.empty((*cache.shape[:2], len(pages), *cache.shape[3:]), dtype=cache.dtype, device=cache.device)
    order = torch.arange(len(pages), dtype=torch.int32, device=cache.device)
    _move(_planes(cache), _planes(out), pages, order)
    return out


def scatter_pages(cache: torch.Tensor, pages: torch.Tensor, buffer: torch.Tensor) -> None:
    """The opposite of `gather_pages`: a buffer's pages go to these places of the cache."""
    order = torch.arange(len(pages), dtype=torch.int32, device=cache.device)
    _move(_planes(buffer), _planes(cache), order, pages)


def _planes(cache: torch.Tensor) -> torch.Tensor:
    """[layers, 2, pages, ...] as [planes, pages, words of a page]."""
    pages = cache.view(cache.shape[0] * cache.shape[1], cache.shape[2], math.prod(cache.shape[3:])).view(torch.uint8)
    return pages.view(torch.int32) if pages.shape[2] % 4 == 0 else pages


def _move(source: torch.Tensor, target: torch.Tensor, taken: torch.Tensor, put: torch.Tensor) -> None:
    """[planes, pages, size] to [planes, pages, size], page taken[i] to page put[i] in every plane."""
    planes, _, size = source.shape
    if len(taken):
        _move_pages[(planes, len(taken), triton.cdiv(size, CHUNK))](
            source, target, taken, put, size, source.stride(0), target.stride(0), CHUNK=CHUNK, num_warps=4
        )


@triton.jit
def _move_pages(Source, Target, taken, put, size, source_plane, target_plane, CHUNK: tl.constexpr):
    plane = tl.program_id(0).to(tl.int64)
    page = tl.program_id(1)
    i = tl.program_id(2) * CHUNK + tl.arange(0, CHUNK)
    inside = i < size
    x = tl.load(Source + plane * source_plane + tl.load(taken + page).to(tl.int64) * size + i, mask=inside)
    tl.store(Target + plane * target_plane + tl.load(put + page).to(tl.int64) * size + i, x, mask=inside)
