"""Masks, truncation and the draw for every row of logits in one kernel, without a sort.

A row is read a few times, from cache after the first: once for its maximum and sum, a few times to find where top-k
and top-p cut (a search over the bits of the threshold, three thresholds a pass), once to draw by Gumbel's trick: the
largest of logit / temperature - log(-log(u)) is a draw from the softmax. The noise depends on the row's seed
alone, so a batch changes nothing.

Floor: one read of the logits and of the masks' words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """What each row asks for, as tensors on the device, [R] each."""

    temperature: torch.Tensor  # fp32; 0: the largest logit
    top_k: torch.Tensor  # int32; 0: all
    top_p: torch.Tensor  # fp32; 1: all
    min_p: torch.Tensor  # fp32; 0: all
    seed: torch.Tensor  # int64; of the request and of the position in it: no two draws may share one
    mask: torch.Tensor  # int32: the row of `masks`, or -1


def apply_masks(logits: torch.Tensor, masks: torch.Tensor, mask_of: torch.Tensor) -> None:
    """Logits [R, V] of tokens that their row's mask forbids become -inf, in place.

    masks [M, ceil(V / 32)] int32, bit i % 32 of word i // 32 allows token i; mask_of [R] int32, -1: everything.
    """
    rows, vocabulary = logits.shape
    if rows:
        _apply_masks[(rows, triton.cdiv(vocabulary, 4096))](
            logits, masks, mask_of, vocabulary, logits.stride(0), masks.stride(0), BLOCK=4096, num_warps=8
        )


@triton.jit
def _apply_masks(Logits, Masks, mask_of, vocabulary, stride, words, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    mask = tl.load(mask_of + row).to(tl.int64)
    if mask >= 0:
        i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = i < vocabulary
        word = tl.load(Masks + mask * words + i // 32, mask=inside, other=-1)
        forbidden = inside & (((word >> (i % 32)) & 1) == 0)
        tl.store(Logits + row * stride + i, float("-inf"), mask=forbidden)


def sample(logits: torch.Tensor, masks: torch.Tensor, rows: SamplingRows) -> tuple[torch.Tensor, torch.Tensor]:
    """One token for each row of logits [R, V] (not changed), int32, and its log-probability under the model's own
    softmax (before masks, temperature and truncation), fp32. A row with no finite logit gives token -1.

    Order: mask, temperature, top-k, top-p over what top-k left, min-p. Ties at a cut stay in.
    """
    count, vocabulary = logits.shape
    tokens = torch.empty(count, dtype=torch.int32, device=logits.device)
    logprobs = torch.empty(count, dtype=torch.float32, device=logits.device)
    if count:
        _sample[(count,)](
            logits, masks, rows.mask, rows.temperature, rows.top_k, rows.top_p, rows.min_p, rows.seed,
            tokens, logprobs, vocabulary, logits.stride(0), masks.stride(0), BLOCK=4096, num_warps=16,
        )  # fmt: skip
    return tokens, logprobs


@triton.jit
def _row(Logits, Masks, mask, start, vocabulary, words, BLOCK: tl.constexpr):
    """One block of a row, masked: its indices and its logits."""
    i = start + tl.arange(0, BLOCK)
    inside = i < vocabulary
    x = tl.load(Logits + i, mask=inside, other=float("-inf")).to(tl.float32)
    if mask >= 0:
        word = tl.load(Masks + mask * words + i // 32, mask=inside, other=0)
        x = tl.where(((word >> (i % 32)) & 1) == 1, x, float("-inf"))
    return i, x


@triton.jit
def _value(bits):
    """The float whose order among floats is that of `bits` among integers."""
    return tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF).to(tl.float32, bitcast=True)


@triton.jit
def _sample(
    Logits, Masks, mask_of, temperature, top_k, top_p, min_p, seed, Token, Logprob,
    vocabulary, stride, words, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    x_row = Logits + row * stride
    mask = tl.load(mask_of + row).to(tl.int64)
    heat = tl.load(temperature + row)

    raw_best = -float("inf")  # of the model's own row, for the log-probability
    raw_sum = 0.0
    best = -float("inf")  # of the masked row
    winner = -1
    for start in range(0, vocabulary, BLOCK):
        i, x = _row(x_row, Masks, mask, start, vocabulary, words, BLOCK)
        raw = tl.load(x_row + i, mask=i < vocabulary, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(raw_best, tl.max(raw, 0))
        settled = tl.where(higher == -float("inf"), 0.0, higher)
        raw_sum = raw_sum * tl.exp(raw_best - settled) + tl.sum(tl.exp(raw - settled), 0)
        raw_best = higher
        top, at = tl.max(x, 0, return_indices=True)
        winner = tl.where(top > best, start + at, winner)
        best = tl.maximum(best, top)

    if heat > 0.0 and best > -float("inf"):
        k = tl.load(top_k + row)
        p = tl.load(top_p + row)
        least = tl.load(min_p + row)
        cut = tl.where(least > 0.0, best + tl.log(tl.maximum(least, 1e-30)) * heat, -float("inf"))
        floor = -float("inf")
        if k > 0 and k < vocabulary:
            floor = _threshold(x_row, Masks, mask, vocabulary, words, best, heat, k.to(tl.float32), False, floor, BLOCK)
        if p < 1.0:
            whole = 0.0
            for start in range(0, vocabulary, BLOCK):
                _, x = _row(x_row, Masks, mask, start, vocabulary, words, BLOCK)
                whole += tl.sum(tl.where(x >= floor, tl.exp((x - best) / heat), 0.0), 0)
            floor = _threshold(x_row, Masks, mask, vocabulary, words, best, heat, p * whole, True, floor, BLOCK)
        cut = tl.maximum(cut, floor)
        noise_seed = tl.load(seed + row)
        high = -float("inf")
        for start in range(0, vocabulary, BLOCK):
            i, x = _row(x_row, Masks, mask, start, vocabulary, words, BLOCK)
            u = tl.minimum(tl.maximum(tl.rand(noise_seed, i), 1e-10), 0.99999994)  # neither logarithm is infinite
            drawn = tl.where((x >= cut) & (x > -float("inf")), x / heat - tl.log(-tl.log(u)), -float("inf"))
            top, at = tl.max(drawn, 0, return_indices=True)
            winner = tl.where(top > high, start + at, winner)
            high = tl.maximum(high, top)
    tl.store(Token + row, winner)
    chosen = tl.load(x_row + tl.maximum(winner, 0)).to(tl.float32)
    tl.store(Logprob + row, chosen - raw_best - tl.log(raw_sum))


@triton.jit
def _threshold(
    x_row, Masks, mask, vocabulary, words, best, heat, wanted, weighted: tl.constexpr, floor, BLOCK: tl.constexpr
):  # fmt: skip
    """The largest float t such that the tokens with logit >= t (and >= floor) are `wanted` many, or weigh as much."""
    low = tl.full([], -2139095041, tl.int64)  # the order of -inf, a little below every finite float
    bits = best.to(tl.int32, bitcast=True)
    high = tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)  # the order of the maximum, which always qualifies or is all
    high = high.to(tl.int64) + 1
    while high - low > 1:  # invariant: `low` is enough, `high` is not
        step = tl.maximum((high - low) // 4, 1)
        a, b, c = low + step, low + 2 * step, low + 3 * step
        at_a = 0.0
        at_b = 0.0
        at_c = 0.0
        for start in range(0, vocabulary, BLOCK):
            _, x = _row(x_row, Masks, mask, start, vocabulary, words, BLOCK)
            w = tl.where((x >= floor) & (x > -float("inf")), 1.0, 0.0)
            if weighted:
                w = w * tl.exp((x - best) / heat)
            at_a += tl.sum(tl.where(x >= _value(a.to(tl.int32)), w, 0.0), 0)
            at_b += tl.sum(tl.where(x >= _value(b.to(tl.int32)), w, 0.0), 0)
            at_c += tl.sum(tl.where(x >= _value(c.to(tl.int32)), w, 0.0), 0)
        if at_c >= wanted:
            low = c
        elif at_b >= wanted:
            low = b
            high = tl.minimum(high, c)
        elif at_a >= wanted:
            low = a
            high = tl.minimum(high, b)
        else:
            high = a
    return _value(low.to(tl.int32))
