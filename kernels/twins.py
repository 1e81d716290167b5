"""The GPU kernels' twins in plain torch, name for name: what each of them is tested against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .draws import ChosenTokens, Draws
from .noise import gumbel
from .ops import Gate


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, residual: torch.Tensor | None = None) -> torch.Tensor:
    """See kernels/triton/rows.py."""
    if residual is not None:
        residual += x
        x = residual
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


def gated(x: torch.Tensor, gate: Gate) -> torch.Tensor:
    """See kernels/triton/rows.py."""
    opened, up = x.chunk(2, dim=-1)
    return (F.silu(opened) if gate == "silu" else F.gelu(opened, approximate="tanh")) * up


def take_rows(table: torch.Tensor, index: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """See kernels/triton/rows.py."""
    rows = table.index_select(0, index.long())
    return rows if scale == 1.0 else rows * torch.tensor(scale, dtype=rows.dtype, device=rows.device)


def apply_masks(logits: torch.Tensor, masks: torch.Tensor, mask_of: torch.Tensor) -> None:
    """See kernels/triton/sampling.py."""
    allowed = unpacked(masks, logits.shape[1])
    for row, mask in enumerate(mask_of.tolist()):
        if mask >= 0:
            logits[row].masked_fill_(~allowed[mask], float("-inf"))


def unpacked(masks: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """[M, words] int32 -> [M, vocabulary] bool."""
    bits = (masks[:, :, None] >> torch.arange(32, device=masks.device)) & 1
    return bits.flatten(1)[:, :vocabulary].bool()


def truncated(
    logits: torch.Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> torch.Tensor:
    """The probabilities that one row of (masked) logits [V] is drawn from, by sorting: top-k, top-p, min-p."""
    if temperature == 0.0:
        return F.one_hot(logits.argmax(), len(logits)).float()
    weights = (logits.double() / temperature).softmax(-1)
    order = weights.argsort(descending=True, stable=True)
    kept = torch.ones(len(weights), dtype=torch.bool, device=logits.device)
    if 0 < top_k < len(weights):
        kept &= logits >= logits[order[top_k - 1]]
    if top_p < 1.0:
        ranked = (weights * kept)[order]
        enough = (ranked.cumsum(0) >= top_p * ranked.sum()).float().argmax()  # the first that makes it enough
        kept &= logits >= logits[order[enough]]
    if min_p > 0.0:
        kept &= weights >= min_p * weights.max()
    return weights * kept / (weights * kept).sum()


def follow(tokens: torch.Tensor, follows: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """See kernels/triton/follow.py."""
    return torch.where(follows < 0, tokens, drawn[follows.clamp(min=0).long()].clamp(min=0))


@dataclass(frozen=True, slots=True)
class TorchChosen:
    """Draws as tensors on the device that made them."""

    tokens: torch.Tensor  # [D] int32
    logprobs: torch.Tensor  # [D] fp32
    top_ids: torch.Tensor  # [D, top] int32
    top_logprobs: torch.Tensor  # [D, top] fp32
    ranks: torch.Tensor  # [D] int32

    def read(self) -> ChosenTokens:
        if self.tokens.is_cuda:  # copies of nothing would not wait
            torch.cuda.current_stream(self.tokens.device).synchronize()
        return ChosenTokens(
            self.tokens.cpu().numpy(),
            self.logprobs.cpu().numpy(),
            self.top_ids.cpu().numpy(),
            self.top_logprobs.cpu().numpy(),
            self.ranks.cpu().numpy(),
        )


def choose(logits: torch.Tensor, draws: Draws) -> TorchChosen:
    """The draws, row by row in plain torch; `logits` [R, vocabulary] stay as they are. See kernels/triton/choosing.py,
    whose draws are these, one by one."""
    device, vocabulary = logits.device, logits.shape[1]
    count = len(draws.rows)
    own = logits[torch.from_numpy(draws.rows.astype(np.int64)).to(device)].float()  # [D, vocabulary]: copies
    logprobs = own.log_softmax(-1)
    allowed = unpacked(torch.from_numpy(draws.masks.view(np.int32)).to(device), vocabulary)
    tokens = torch.full((count,), -1, dtype=torch.int64, device=device)
    for d in range(count):
        row = _edited(own[d], draws, d)
        if draws.mask_of[d] >= 0:
            row = row.masked_fill(~allowed[draws.mask_of[d]], float("-inf"))
        if row.max().isfinite():
            heat = float(draws.temperature[d])
            kept = truncated(row, heat, int(draws.top_k[d]), float(draws.top_p[d]), float(draws.min_p[d])) > 0
            if heat > 0.0:
                noise = torch.from_numpy(gumbel(int(draws.seed[d]), vocabulary)).to(device)
                row = row / heat + noise
            tokens[d] = row.masked_fill(~kept, float("-inf")).argmax()
    best = logprobs.topk(draws.top, dim=-1)
    chosen = logprobs.gather(1, tokens.clamp(min=0)[:, None])[:, 0]
    ranks = 1 + (own > own.gather(1, tokens.clamp(min=0)[:, None])).sum(-1)
    return TorchChosen(tokens.int(), chosen, best.indices.int(), best.values, ranks.int())


def _edited(row: torch.Tensor, draws: Draws, d: int) -> torch.Tensor:
    here = slice(int(draws.edit_start[d]), int(draws.edit_start[d + 1]))
    ids, bias, factor, penalty = (
        torch.from_numpy(values[here]).to(row.device)
        for values in (draws.edit_ids.astype(np.int64), draws.edit_bias, draws.edit_factor, draws.edit_penalty)
    )
    values = row[ids] + bias
    values = torch.where(values > 0, values / factor, values * factor) - penalty
    return row.index_put((ids,), values)


def flat_matmul(
    x: torch.Tensor,
    weight: torch.Tensor,
    scales: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    **_: int,
) -> torch.Tensor:
    """See kernels/triton/flat_matmul.py; launches change nothing here."""
    product = x.float() @ weight.float().T
    if scales is not None:
        product = product * scales
    return (product if bias is None else product + bias).to(x.dtype)


gemv = flat_matmul  # kernels/triton/gemv.py: the same for a few rows


def int4_unpacked(packed: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """See kernels/triton/quantized_matmul.py."""
    nibbles = torch.stack((packed & 15, packed >> 4), dim=2).view(len(packed), -1, 32).float()  # [N, K / 32, 32]
    scale, minimum = scales.float()[..., None].unbind(2)
    return (nibbles * scale + minimum).flatten(1).to(dtype)


def int4_matmul(
    x: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None = None, **_: int
) -> torch.Tensor:
    """See kernels/triton/quantized_matmul.py; launches change nothing here."""
    return flat_matmul(x, int4_unpacked(packed, scales, torch.float32), None, bias)


int4_gemv = int4_matmul  # kernels/triton/gemv.py: the same for a few rows


def w8a8_matmul(
    x: torch.Tensor,
    x_scales: torch.Tensor,
    weight: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    dtype: torch.dtype,
    **_: int,
) -> torch.Tensor:
    """See kernels/triton/quantized_matmul.py."""
    wide = x.double() * x_scales.double().repeat_interleave(128, dim=1)[:, : x.shape[1]]
    product = wide @ weight.double().T * scales
    return (product if bias is None else product + bias).to(dtype)


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """See kernels/triton/quantize_rows.py."""
    m, k = x.shape
    grouped = F.pad(x.float(), (0, -k % 128)).view(m, -(-k // 128), 128)
    scales = grouped.abs().amax(2) / 127
    inverse = 1 / scales.clamp_min(1e-30)
    return (grouped * inverse[..., None]).round().to(torch.int8).flatten(1)[:, :k], scales


def quantize_rows_fp8(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """See kernels/triton/quantize_rows.py."""
    scales = x.float().abs().amax(1, keepdim=True) / 448
    inverse = 1 / scales.clamp_min(1e-30)
    return (x.float() * inverse).clamp(-448, 448).to(torch.float8_e4m3fn), scales


def copy_pages(cache: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> None:
    """See kernels/triton/pages.py."""
    bits = cache.view(torch.uint8)  # torch indexes bytes, and no fp8
    bits[:, :, target.long()] = bits[:, :, source.long()]


def gather_pages(cache: torch.Tensor, pages: torch.Tensor) -> torch.Tensor:
    """See kernels/triton/pages.py."""
    return cache.view(torch.uint8)[:, :, pages.long()].contiguous().view(cache.dtype)


def scatter_pages(cache: torch.Tensor, pages: torch.Tensor, buffer: torch.Tensor) -> None:
    """See kernels/triton/pages.py."""
    cache.view(torch.uint8)[:, :, pages.long()] = buffer.view(torch.uint8)
