"""Kernels that work row by row: norms, gated activations, embeddings, selected rows. All are bound by memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..ops import Gate


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, residual: torch.Tensor | None = None) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, computed in fp32: [T, width]; weight is fp32.

    With a residual, x is first added to it in place: the residual becomes the sum, which is what is normalized.
    Floor: reads x (and the residual) and writes the result (and the residual), once each.
    """
    rows, width = x.shape
    out = torch.empty_like(x)
    if rows:
        _rms_norm[(rows,)](
            x, weight, residual if residual is not None else x, out, width, x.stride(0), eps,
            BLOCK=triton.next_power_of_2(width), ADD=residual is not None, num_warps=_warps(width),
        )  # fmt: skip
    return out


@triton.jit
def _rms_norm(X, W, Residual, Out, width, stride, eps, BLOCK: tl.constexpr, ADD: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)
    inside = i < width
    x = tl.load(X + row * stride + i, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        x += tl.load(Residual + row * width + i, mask=inside, other=0.0).to(tl.float32)
        x = x.to(X.dtype.element_ty)  # the sum is kept in the working type, and normalized as it is kept
        tl.store(Residual + row * width + i, x, mask=inside)
        x = x.to(tl.float32)
    scale = 1.0 / tl.sqrt_rn(tl.sum(x * x, 0) / width + eps)
    w = tl.load(W + i, mask=inside, other=0.0)
    tl.store(Out + row * width + i, (x * scale * w).to(Out.dtype.element_ty), mask=inside)


def gated(x: torch.Tensor, gate: Gate) -> torch.Tensor:
    """[T, 2 F] packed gate, up -> act(gate) * up: [T, F]. Floor: reads x once, writes the result once."""
    rows, width = x.shape[0], x.shape[1] // 2
    out = torch.empty((rows, width), dtype=x.dtype, device=x.device)
    block = min(1024, triton.next_power_of_2(width))
    if rows:
        _gated[(rows, triton.cdiv(width, block))](x, out, width, BLOCK=block, TANH=gate == "gelu_tanh", num_warps=4)
    return out


@triton.jit
def _gated(X, Out, width, BLOCK: tl.constexpr, TANH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = i < width
    g = tl.load(X + row * 2 * width + i, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(X + row * 2 * width + width + i, mask=inside, other=0.0).to(tl.float32)
    if TANH:  # gelu(g) = g / (1 + exp(-2 u)), u = sqrt(2 / pi) (g + 0.044715 g^3)
        opened = g * _sigmoid(2.0 * 0.7978845608028654 * (g + 0.044715 * g * g * g))
    else:
        opened = g * _sigmoid(g)
    opened = opened.to(X.dtype.element_ty).to(tl.float32)  # as two separate operations would round it
    tl.store(Out + row * width + i, (opened * up).to(Out.dtype.element_ty), mask=inside)


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(tl.minimum(-x, 80.0)))  # beyond that it is 0 in fp32 anyway


def take_rows(table: torch.Tensor, index: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Rows of a [N, width] table, times `scale` (rounded to the table's type): embeddings, and rows for logits.

    Floor: reads and writes each taken row once.
    """
    width = table.shape[1]
    out = torch.empty((len(index), width), dtype=table.dtype, device=table.device)
    block = min(1024, triton.next_power_of_2(width))
    if len(index):
        rounded = float(torch.tensor(scale, dtype=table.dtype))
        _take_rows[(len(index), triton.cdiv(width, block))](
            table, index, out, width, rounded, BLOCK=block, SCALED=scale != 1.0, num_warps=4
        )
    return out


@triton.jit
def _take_rows(Table, index, Out, width, scale, BLOCK: tl.constexpr, SCALED: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = i < width
    x = tl.load(Table + tl.load(index + row).to(tl.int64) * width + i, mask=inside)
    if SCALED:
        x = (x.to(tl.float32) * scale).to(Table.dtype.element_ty)
    tl.store(Out + row * width + i, x, mask=inside)


def _warps(width: int) -> int:
    return 4 if width <= 2048 else 8
