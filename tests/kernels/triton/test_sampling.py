"""Masks and draws: exactly the tokens that may be drawn, as often as they should be."""

from __future__ import annotations

import pytest
import torch
from ramify.kernels import twins
from ramify.kernels.triton.sampling import DeviceDraws, apply_masks, sample

VOCABULARY = 4500  # more than one block


def asked(
    rows: int,
    device: torch.device,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    masks: torch.Tensor | None = None,
    seed: int = 0,
) -> DeviceDraws:
    """Draws from rows 0, 1, ... that ask for the same; draw i has the mask i, where there are any."""

    def same(value: float, dtype: torch.dtype) -> torch.Tensor:
        return torch.full((rows,), value, dtype=dtype, device=device)

    none = same(0, torch.int32)[:0]
    return DeviceDraws(
        rows=torch.arange(rows, dtype=torch.int32, device=device),
        temperature=same(temperature, torch.float32),
        top_k=same(top_k, torch.int32),
        top_p=same(top_p, torch.float32),
        min_p=same(min_p, torch.float32),
        seed=torch.arange(rows, device=device) + seed,
        masks=packed([[]], device) if masks is None else masks,
        mask_of=same(-1, torch.int32),
        edited=same(-1, torch.int32),
        edited_rows=none,
        edit_row=none,
        edit_ids=none,
        edit_bias=none.float(),
        edit_factor=none.float(),
        edit_penalty=none.float(),
    )


def packed(allowed: list[list[int]], device: torch.device) -> torch.Tensor:
    bits = torch.zeros((len(allowed), -(-VOCABULARY // 32) * 32), dtype=torch.int64)
    for row, tokens in enumerate(allowed):
        bits[row, tokens] = 1
    words = (bits.view(len(allowed), -1, 32) << torch.arange(32)).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(device, torch.int32)


def one_row(device: torch.device, spread: float = 3.0) -> torch.Tensor:
    return (torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(0)) * spread).to(device)


def test_masks_forbid_and_leave_the_rest(device: torch.device) -> None:
    masks = packed([[0, 31, 32, 4499], [], list(range(VOCABULARY))], device)
    logits = one_row(device).repeat(4, 1)
    expected = logits.clone()
    mask_of = torch.tensor([0, -1, 1, 2], dtype=torch.int32, device=device)
    twins.apply_masks(expected, masks, mask_of)
    apply_masks(logits, masks, mask_of)
    assert torch.equal(logits, expected)
    assert logits.isfinite().sum(1).tolist() == [4, VOCABULARY, 0, VOCABULARY]
    apply_masks(logits, masks, mask_of.roll(1))
    assert not torch.equal(logits, expected)


@pytest.mark.parametrize(
    "cut",
    [
        {"top_k": 3},
        {"top_p": 0.5},
        {"min_p": 0.2},
        {"top_k": 5, "top_p": 0.7},
        {"top_k": 1},
        {"top_p": 1e-4},
        {"top_k": 6, "top_p": 0.9, "min_p": 0.1, "temperature": 2.0},
        {"temperature": 0.5, "top_p": 0.8},
    ],
    ids=str,
)
def test_truncation_keeps_what_sorting_keeps(cut: dict[str, float], device: torch.device) -> None:
    row = one_row(device)
    tokens = sample(row.repeat(12, 1), asked(12, device, **cut)).tokens  # type: ignore[arg-type]
    kept = set(twins.truncated(row, **{"temperature": 1.0, **cut}).nonzero().flatten().tolist())  # type: ignore[arg-type]
    drawn = set(tokens.tolist())
    assert drawn <= kept
    assert len(drawn) > 1 or len(kept) == 1  # and not always the best


def surprise(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson's chi-squared by its degrees of freedom: near 1 when the counts come from the expected shares."""
    return float(((counts - expected) ** 2 / expected).sum() / (len(counts) - 1))


def test_draws_come_as_often_as_they_should(device: torch.device) -> None:
    logits = torch.full((VOCABULARY,), float("-inf"), device=device)
    shares = torch.tensor([0.6, 0.25, 0.1, 0.05])
    places = [0, 100, 4096, 4499]
    logits[places] = shares.log().to(device)
    number = 120
    found = sample(logits.repeat(number, 1), asked(number, device))
    tokens = found.tokens
    counts = torch.stack([(tokens == place).sum() for place in places]).cpu().float()
    assert counts.sum() == number
    assert surprise(counts, shares * number) < 4.0
    assert surprise(counts, torch.full((4,), number / 4)) > 4.0  # draws without weights would be seen
    expected = logits.log_softmax(-1)[tokens.long()]
    assert torch.allclose(found.logprobs, expected, atol=1e-5)


def test_greedy_masked_and_impossible_rows(device: torch.device) -> None:
    row = one_row(device)
    rows = asked(4, device, temperature=0.0, masks=packed([[7, 4400], []], device))
    rows.mask_of.copy_(torch.tensor([-1, 0, 1, -1]))
    found = sample(row.repeat(4, 1), rows)
    best = 7 if row[7] > row[4400] else 4400
    assert found.tokens.tolist() == [int(row.argmax()), best, -1, int(row.argmax())]
    assert torch.allclose(found.logprobs[1], row.log_softmax(-1)[best], atol=1e-5)
    assert found.ranks[0] == 1 and found.ranks[1] == 1 + int((row > row[best]).sum())


def test_a_row_does_not_see_its_batch(device: torch.device) -> None:
    rows = torch.stack([one_row(device, spread) for spread in (1.0, 2.0, 3.0)])
    together = sample(rows, asked(3, device, top_p=0.9)).tokens
    alone = sample(rows[2:], asked(1, device, top_p=0.9, seed=2)).tokens
    assert alone[0] == together[2]
    others = [int(sample(rows[2:], asked(1, device, top_p=0.9, seed=seed)).tokens[0]) for seed in range(3, 9)]
    assert any(other != together[2] for other in others)  # the seed does decide
