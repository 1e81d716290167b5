"""Activations in 8 bits, for products that have 8 bits on both sides.

int8 has a scale for each GROUP neighbouring values: one for a whole row, whose few huge values rule it, costs a small
model 3.3% of perplexity, this 0.8%. e4m3 is a floating type and bears one scale for a row, which is what libraries
take.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .fp8_cache import rounded_to_bits

GROUP = 128


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [M, K] -> int8 [M, K] and fp32 scales [M, ceil(K / GROUP)]: x is about their product.

    Floor: reads x once, writes half of that.
    """
    m, k = x.shape
    groups = triton.cdiv(k, GROUP)
    values = torch.empty((m, k), dtype=torch.int8, device=x.device)
    scales = torch.empty((m, groups), dtype=torch.float32, device=x.device)
    at_once = min(16, triton.next_power_of_2(groups))
    if m:
        _quantize_rows[(m, triton.cdiv(groups, at_once))](
            x.contiguous(), values, scales, k, groups, GROUPS=at_once, GROUP=GROUP, MOST=127.0, num_warps=4
        )
    return values, scales


def quantize_rows_fp8(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [M, K] -> e4m3 [M, K] and fp32 scales [M, 1]. Floor: as `quantize_rows`."""
    m, k = x.shape
    values = torch.empty((m, k), dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty((m, 1), dtype=torch.float32, device=x.device)
    if m:
        block = triton.next_power_of_2(k)
        _quantize_rows[(m, 1)](
            x.contiguous(), values.view(torch.uint8), scales, k, 1,
            GROUPS=1, GROUP=block, MOST=448.0, num_warps=max(1, min(16, block // 512)),
        )  # fmt: skip
    return values, scales


@triton.jit
def _quantize_rows(X, Values, Scales, K, groups, GROUPS: tl.constexpr, GROUP: tl.constexpr, MOST: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    k = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    x = tl.load(X + row * K + k, mask=k < K, other=0.0).to(tl.float32)  # [GROUPS, GROUP]
    scale = tl.max(tl.abs(x), 1) / MOST
    scaled = x * (1.0 / tl.maximum(scale, 1e-30))[:, None]
    if Values.dtype.element_ty == tl.int8:
        # halves go to the even neighbour, as torch's do: 1.5 * 2^23 leaves no room for a fraction
        values = ((scaled + 12582912.0) - 12582912.0).to(tl.int8)
    else:
        values = rounded_to_bits(scaled)
    tl.store(Values + row * K + k, values, mask=k < K)
    tl.store(Scales + row * groups + group, scale, mask=group < groups)
