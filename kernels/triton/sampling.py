"""Masks, truncation and the draw for every row of logits in one kernel, without a sort.

A row is read a few times, from cache after the first: once for its maximum and sum, a few times to find where top-k
and top-p cut (a search over thresholds, three a pass: first where cuts usually are, then over their bits, until one
token is left between what is enough and what is not), once to draw by Gumbel's trick: the largest of
logit / temperature - log(-log(u)) is a draw from the softmax, and once for the rank of what was drawn. The noise
depends on the draw's seed alone, so a batch changes nothing; kernels/noise.py makes the same.

Floor: one read of the logits and of the masks' words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl


@dataclass(frozen=True, slots=True)
class DeviceDraws:
    """What is to be drawn (kernels/draws.py), as tensors on the device: [D] each but for masks and edits."""

    rows: torch.Tensor  # int32, of the logits
    temperature: torch.Tensor  # fp32; 0: the largest logit
    top_k: torch.Tensor  # int32; 0: all
    top_p: torch.Tensor  # fp32; 1: all
    min_p: torch.Tensor  # fp32; 0: all
    seed: torch.Tensor  # int64; of the request and of the position in it: no two draws may share one
    masks: torch.Tensor  # [M, words] int32; tokens past the last word are forbidden
    mask_of: torch.Tensor  # int32: the row of `masks`, or -1
    edited: torch.Tensor  # int32: the row of the edited logits, or -1
    edited_rows: torch.Tensor  # [X] int32: the rows of the logits that are edited, one for each draw with edits
    edit_row: torch.Tensor  # [E] int32: the row of the edited logits that an edit changes
    edit_ids: torch.Tensor  # [E] int32
    edit_bias: torch.Tensor  # [E] fp32
    edit_factor: torch.Tensor  # [E] fp32
    edit_penalty: torch.Tensor  # [E] fp32


@dataclass(frozen=True, slots=True)
class Sampled:
    """What came of the draws, [D] each."""

    tokens: torch.Tensor  # int32; -1: no token has a finite logit
    logprobs: torch.Tensor  # fp32, of the model's own softmax: before edits, masks, temperature and truncation
    ranks: torch.Tensor  # int32: 1 + how many tokens the model held likelier
    totals: torch.Tensor  # fp32: the logarithm of the sum of exp(logit) over the row


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
        word = tl.load(Masks + mask * words + i // 32, mask=i // 32 < words, other=0)
        forbidden = inside & (((word >> (i % 32)) & 1) == 0)
        tl.store(Logits + row * stride + i, float("-inf"), mask=forbidden)


def edited_logits(logits: torch.Tensor, draws: DeviceDraws) -> torch.Tensor:
    """The rows of logits [R, V] that draws edit, edited: [X, V]. Floor: reads and writes each such row once."""
    copied = logits.index_select(0, draws.edited_rows)
    count = len(draws.edit_ids)
    if count:
        _edit[(triton.cdiv(count, 256),)](
            copied, draws.edit_row, draws.edit_ids, draws.edit_bias, draws.edit_factor, draws.edit_penalty,
            count, copied.stride(0), BLOCK=256, num_warps=4,
        )  # fmt: skip
    return copied


@triton.jit(do_not_specialize=["M"])
def _edit(Logits, edit_row, edit_ids, Bias, Factor, Penalty, M, stride, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < M
    place = tl.load(edit_row + i, mask=inside, other=0).to(tl.int64) * stride
    place += tl.load(edit_ids + i, mask=inside, other=0)
    v = tl.load(Logits + place, mask=inside, other=0.0) + tl.load(Bias + i, mask=inside, other=0.0)
    factor = tl.load(Factor + i, mask=inside, other=1.0)
    v = tl.where(v > 0.0, tl.div_rn(v, factor), v * factor) - tl.load(Penalty + i, mask=inside, other=0.0)
    tl.store(Logits + place, v, mask=inside)


def sample(
    logits: torch.Tensor, draws: DeviceDraws, drawn: torch.Tensor | None = None, into: Sampled | None = None
) -> Sampled:
    """One token for each draw from rows of logits [R, V] fp32 (not changed).

    Order: edits, mask, temperature, top-k, top-p over what top-k left, min-p. Ties at a cut stay in. The tokens are
    written to `drawn` [>= D] int32 too, where it is given, and the results to `into`, where that is.
    """
    count, vocabulary = len(draws.rows), logits.shape[1]
    if into is None:
        numbers = torch.empty((2, count), dtype=torch.int32, device=logits.device)
        shares = torch.empty((2, count), dtype=torch.float32, device=logits.device)
        into = Sampled(numbers[0], shares[0], numbers[1], shares[1])
    if count:
        edited = edited_logits(logits, draws) if len(draws.edited_rows) else logits
        _sample[(count,)](
            logits, edited, draws.masks, draws.rows, draws.mask_of, draws.edited, draws.temperature, draws.top_k,
            draws.top_p, draws.min_p, draws.seed, into.tokens, into.tokens if drawn is None else drawn,
            into.logprobs, into.ranks, into.totals,
            vocabulary, logits.stride(0), draws.masks.shape[1], BLOCK=4096, num_warps=16,
        )  # fmt: skip
    return into


@triton.jit
def _row(Logits, Masks, mask, start, vocabulary, words, BLOCK: tl.constexpr):
    """One block of a row, masked: its indices and its logits."""
    i = start + tl.arange(0, BLOCK)
    inside = i < vocabulary
    x = tl.load(Logits + i, mask=inside, other=float("-inf")).to(tl.float32)
    if mask >= 0:
        word = tl.load(Masks + mask * words + i // 32, mask=i // 32 < words, other=0)
        x = tl.where(((word >> (i % 32)) & 1) == 1, x, float("-inf"))
    return i, x


@triton.jit
def _value(bits):
    """The float whose order among floats is that of `bits` among integers."""
    return tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF).to(tl.float32, bitcast=True)


@triton.jit
def _first(high, at, best):
    """The smallest of the indices whose lanes hold the largest value; -1 when that is -inf, or no number."""
    index = tl.min(tl.where(high == best, at, 2147483647), 0)
    return tl.where((best == -float("inf")) | (index == 2147483647), -1, index)


@triton.jit
def _order(value):
    """The inverse: int64, so that there is room on both sides."""
    bits = value.to(tl.int32, bitcast=True)
    return tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF).to(tl.int64)


@triton.jit
def _sample(
    Logits, Edited, Masks, rows, mask_of, edited, temperature, top_k, top_p, min_p, seed,
    Token, Drawn, Logprob, Rank, Total, vocabulary, stride, words, BLOCK: tl.constexpr,
):  # fmt: skip
    draw = tl.program_id(0).to(tl.int64)
    raw_row = Logits + tl.load(rows + draw).to(tl.int64) * stride
    x_row = raw_row
    place = tl.load(edited + draw).to(tl.int64)
    if place >= 0:
        x_row = Edited + place * stride
    mask = tl.load(mask_of + draw).to(tl.int64)
    heat = tl.load(temperature + draw)

    # every lane keeps its own, and lanes meet once a pass: what they say to each other costs more than reading does
    raw_high = tl.full([BLOCK], float("-inf"), tl.float32)  # of the model's own row, for the log-probability
    raw_sum = tl.zeros([BLOCK], tl.float32)
    high = tl.full([BLOCK], float("-inf"), tl.float32)  # of the edited and masked row
    at = tl.zeros([BLOCK], tl.int32)
    for start in range(0, vocabulary, BLOCK):
        i, x = _row(x_row, Masks, mask, start, vocabulary, words, BLOCK)
        raw = tl.load(raw_row + i, mask=i < vocabulary, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(raw_high, raw)
        settled = tl.where(higher == -float("inf"), 0.0, higher)
        raw_sum = raw_sum * tl.exp(raw_high - settled) + tl.exp(raw - settled)
        raw_high = higher
        at = tl.where(x > high, i, at)
        high = tl.maximum(high, x)
    raw_best = tl.max(raw_high, 0)
    settled_best = tl.where(raw_best == -float("inf"), 0.0, raw_best)
    total = raw_best + tl.log(tl.sum(raw_sum * tl.exp(raw_high - settled_best), 0))
    best = tl.max(high, 0)
    winner = _first(high, at, best)

    if heat > 0.0 and best > -float("inf"):
        k = tl.load(top_k + draw)
        p = tl.load(top_p + draw)
        least = tl.load(min_p + draw)
        cut = tl.where(least > 0.0, best + tl.log(tl.maximum(least, 1e-30)) * heat, -float("inf"))
        floor = -float("inf")
        if k > 0 and k < vocabulary:
            floor = _threshold(x_row, Masks, mask, vocabulary, words, best, heat, k.to(tl.float32), False, floor, BLOCK)
        if p < 1.0:
            steepness = 1.4426950408889634 / heat
            weights = tl.zeros([BLOCK], tl.float32)
            for start in range(0, vocabulary, BLOCK):
                _, x = _row(x_row, Masks, mask, start, vocabulary, words, BLOCK)
                weights += tl.where(x >= floor, tl.exp2((x - best) * steepness), 0.0)
            whole = tl.sum(weights, 0)
            floor = _threshold(x_row, Masks, mask, vocabulary, words, best, heat, p * whole, True, floor, BLOCK)
        cut = tl.maximum(cut, floor)
        noise_seed = tl.load(seed + draw)
        high = tl.full([BLOCK], float("-inf"), tl.float32)
        for start in range(0, vocabulary, BLOCK):
            i, x = _row(x_row, Masks, mask, start, vocabulary, words, BLOCK)
            u = tl.minimum(tl.maximum(tl.rand(noise_seed, i), 1e-10), 0.99999994)  # neither logarithm is infinite
            noisy = tl.where((x >= cut) & (x > -float("inf")), x / heat - tl.log(-tl.log(u)), -float("inf"))
            at = tl.where(noisy > high, i, at)
            high = tl.maximum(high, noisy)
        winner = _first(high, at, tl.max(high, 0))
    tl.store(Token + draw, winner)
    tl.store(Drawn + draw, winner)
    chosen = tl.load(raw_row + tl.maximum(winner, 0)).to(tl.float32)
    likelier = tl.zeros([BLOCK], tl.int32)
    for start in range(0, vocabulary, BLOCK):
        i = start + tl.arange(0, BLOCK)
        raw = tl.load(raw_row + i, mask=i < vocabulary, other=float("-inf")).to(tl.float32)
        likelier += (raw > chosen).to(tl.int32)
    tl.store(Rank + draw, 1 + tl.sum(likelier, 0))
    tl.store(Total + draw, total)
    tl.store(Logprob + draw, chosen - total)


@triton.jit
def _threshold(
    x_row, Masks, mask, vocabulary, words, best, heat, wanted, weighted: tl.constexpr, floor, BLOCK: tl.constexpr
):  # fmt: skip
    """A float t such that the tokens with logit >= t (and >= floor) are the fewest that are `wanted` many, or weigh so
    much. A search that ends when one token or none is left between what is enough and what is not; ties stay together.
    """
    low = tl.full([], -2139095041, tl.int64)  # the order of -inf, a little below every finite float
    high = _order(best) + 1  # the maximum always qualifies, or is all there is
    at_low = vocabulary.to(tl.float32) + 1.0  # how many tokens reach `low`, at most; and `high`
    at_high = 0.0
    steepness = 1.4426950408889634 / heat
    a = _order(best - 12.0 * heat)  # any three would do: these are where a cut usually is
    b = _order(best - 6.0 * heat)
    c = _order(best - 2.0 * heat)
    while (high - low > 1) & (at_low - at_high > 1.0):  # invariant: `low` is enough, `high` is not
        counts = tl.zeros([BLOCK], tl.int32)  # a lane's three counts, ten bits each: it sees fewer than 1024 tokens
        heavy_a = tl.zeros([BLOCK], tl.float32)
        heavy_b = tl.zeros([BLOCK], tl.float32)
        heavy_c = tl.zeros([BLOCK], tl.float32)
        value_a = tl.maximum(floor, _value(a.to(tl.int32)))
        value_b = tl.maximum(floor, _value(b.to(tl.int32)))
        value_c = tl.maximum(floor, _value(c.to(tl.int32)))
        for start in range(0, vocabulary, BLOCK):
            _, x = _row(x_row, Masks, mask, start, vocabulary, words, BLOCK)
            there = x > -float("inf")
            reaches_a = there & (x >= value_a)
            reaches_b = there & (x >= value_b)
            reaches_c = there & (x >= value_c)
            counts += reaches_a.to(tl.int32) + (reaches_b.to(tl.int32) << 10) + (reaches_c.to(tl.int32) << 20)
            if weighted:
                w = tl.exp2((x - best) * steepness)
                heavy_a += tl.where(reaches_a, w, 0.0)
                heavy_b += tl.where(reaches_b, w, 0.0)
                heavy_c += tl.where(reaches_c, w, 0.0)
        at_a = tl.sum(counts & 1023, 0).to(tl.float32)
        at_b = tl.sum((counts >> 10) & 1023, 0).to(tl.float32)
        at_c = tl.sum(counts >> 20, 0).to(tl.float32)
        weight_a = at_a
        weight_b = at_b
        weight_c = at_c
        if weighted:
            weight_a = tl.sum(heavy_a, 0)
            weight_b = tl.sum(heavy_b, 0)
            weight_c = tl.sum(heavy_c, 0)
        if weight_c >= wanted:
            low = c
            at_low = at_c
        elif weight_b >= wanted:
            low = b
            at_low = at_b
            high = tl.minimum(high, c)
            at_high = at_c
        elif weight_a >= wanted:
            low = a
            at_low = at_a
            high = tl.minimum(high, b)
            at_high = at_b
        else:
            high = a
            at_high = at_a
        step = tl.maximum((high - low) // 4, 1)
        a, b, c = low + step, low + 2 * step, low + 3 * step
    return tl.maximum(floor, _value(low.to(tl.int32)))
