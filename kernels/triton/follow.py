"""The tokens of a step's rows, where some were drawn on the device and nobody has read them yet."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


def follow(tokens: torch.Tensor, follows: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """tokens, follows [T] int32 -> [T] int32: where follows is not negative, that element of `drawn`, at least 0.

    Floor: reads two numbers and writes one for each row, and reads each draw that is followed.
    """
    out = torch.empty_like(tokens)
    if len(tokens):
        _follow[(triton.cdiv(len(tokens), 1024),)](tokens, follows, drawn, out, len(tokens), BLOCK=1024, num_warps=4)
    return out


@triton.jit(do_not_specialize=["M"])
def _follow(Tokens, follows, drawn, Out, M, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < M
    draw = tl.load(follows + i, mask=inside, other=-1)
    given = tl.load(Tokens + i, mask=inside, other=0)
    token = tl.load(drawn + draw, mask=inside & (draw >= 0), other=0)  # -1, no token, is followed as token 0
    tl.store(Out + i, tl.where(draw >= 0, tl.maximum(token, 0), given), mask=inside)
