"""Draws on the device against their twin in plain torch, token by token: the noise is the same on both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from ramify.kernels import twins
from ramify.kernels.draws import ChosenTokens, Draws
from ramify.kernels.noise import philox, uniform
from ramify.kernels.triton.choosing import choose

VOCABULARY = 4500  # more than one block, and no multiple of 32


def random_draws(number: int, rows: int, *, seed: int = 0, top: int = 3, vocabulary: int = VOCABULARY) -> Draws:
    """Of everything a little: half of the rows with edits, some with masks, all kinds of truncation."""
    rng = np.random.default_rng(seed)
    edits = [int(rng.integers(1, 40)) if rng.random() < 0.5 else 0 for _ in range(number)]
    masks = rng.integers(0, 2**32, (3, -(-vocabulary // 32)), dtype=np.uint32)
    masks[2] = 0
    masks[2, 1] = 6  # two tokens
    likely = np.arange(vocabulary)
    if vocabulary == VOCABULARY:
        likely = some_logits(rows, torch.device("cpu")).amax(0).topk(60).indices.numpy()  # so that edits matter
    ids = [rng.choice(likely, count, replace=False) for count in edits]
    total = sum(edits)

    def floats(values: object) -> np.ndarray:
        return np.asarray(values, np.float32)

    def ints(values: object) -> np.ndarray:
        return np.asarray(values, np.int32)

    return Draws(
        rows=ints(rng.integers(0, rows, number)),
        temperature=floats(rng.choice([0.0, 0.5, 1.0, 1.7], number)),
        top_k=ints(rng.choice([0, 1, 5, 60], number)),
        top_p=floats(rng.choice([1.0, 0.9, 0.3], number)),
        min_p=floats(rng.choice([0.0, 0.05], number)),
        seed=rng.integers(-(2**62), 2**62, number),
        masks=masks,
        mask_of=ints(rng.choice([-1, -1, 0, 1, 2], number)),
        edit_start=ints(np.cumsum([0, *edits])),
        edit_ids=ints(np.concatenate(ids)),
        edit_bias=floats(rng.choice([0.0, 4.0, -100.0], total)),
        edit_factor=floats(rng.choice([1.0, 1.3, 0.7], total)),
        edit_penalty=floats(rng.choice([0.0, 0.4], total)),
        top=top,
    )


def some_logits(rows: int, device: torch.device) -> torch.Tensor:
    return (torch.randn((rows, VOCABULARY), generator=torch.Generator().manual_seed(0)) * 3).to(device)


def drawn(logits: torch.Tensor, draws: Draws) -> ChosenTokens:
    place = torch.full((len(draws.rows) + 3,), -9, dtype=torch.int32, device=logits.device)
    found = choose(logits, draws, place).read()
    assert place.tolist() == [*found.tokens.tolist(), -9, -9, -9]  # where the next step looks for them
    return found


def same(found: ChosenTokens, expected: ChosenTokens) -> bool:
    return bool(
        np.array_equal(found.tokens, expected.tokens)
        and np.array_equal(found.ranks, expected.ranks)
        and np.array_equal(found.top_ids, expected.top_ids)
        and np.allclose(found.logprobs, expected.logprobs, atol=1e-4)
        and np.allclose(found.top_logprobs, expected.top_logprobs, atol=1e-4)
    )


@pytest.fixture(scope="module")
def many(device: torch.device) -> tuple[torch.Tensor, Draws, ChosenTokens]:
    logits, draws = some_logits(4, device), random_draws(32, 4)
    before = logits.clone()
    found = drawn(logits, draws)
    assert torch.equal(logits, before)
    return logits, draws, found


def test_every_draw_is_the_twins(many: tuple[torch.Tensor, Draws, ChosenTokens]) -> None:
    logits, draws, found = many
    assert same(found, twins.choose(logits, draws).read())
    assert len(set(found.tokens.tolist())) > 12


@pytest.mark.parametrize(
    "plant",
    [
        lambda draws: replace(draws, seed=draws.seed + 1),
        lambda draws: replace(draws, seed=draws.seed ^ (1 << 40)),  # its upper half counts
        lambda draws: replace(draws, rows=np.roll(draws.rows, 1)),
        lambda draws: replace(draws, mask_of=np.full_like(draws.mask_of, -1)),
        lambda draws: replace(draws, edit_bias=-draws.edit_bias),
        lambda draws: replace(draws, edit_factor=1 / draws.edit_factor),
        lambda draws: replace(draws, edit_penalty=draws.edit_penalty + 5),
        lambda draws: replace(draws, edit_ids=(draws.edit_ids + 1) % VOCABULARY),
        lambda draws: replace(draws, top_k=np.zeros_like(draws.top_k)),
        lambda draws: replace(draws, top_p=np.ones_like(draws.top_p)),
    ],
    ids=["seed", "upper seed", "rows", "masks", "bias", "factor", "penalty", "ids", "top-k", "top-p"],
)
def test_what_is_asked_for_matters(
    plant: Callable[[Draws], Draws], many: tuple[torch.Tensor, Draws, ChosenTokens]
) -> None:
    """The check above sees each of these."""
    logits, draws, found = many
    assert not same(found, twins.choose(logits, plant(draws)).read())


def test_nothing_drawn_and_nothing_possible(device: torch.device) -> None:
    logits = some_logits(2, device)
    none = random_draws(2, 2)
    nothing = drawn(
        logits,
        replace(
            none,
            **{name: getattr(none, name)[:0] for name in ("rows", "temperature", "top_k", "top_p", "min_p", "seed")},
            **{name: getattr(none, name)[:0] for name in ("mask_of", "edit_ids", "edit_bias", "edit_factor")},
            edit_penalty=none.edit_penalty[:0],
            edit_start=none.edit_start[:1],
        ),
    )
    assert nothing.tokens.shape == (0,) and nothing.top_ids.shape == (0, 3)
    masks = np.zeros((1, none.masks.shape[1]), np.uint32)
    impossible = drawn(logits, replace(none, masks=masks, mask_of=np.zeros(2, np.int32)))
    assert impossible.tokens.tolist() == [-1, -1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the interpreter
def test_what_is_no_number_breaks_nothing(device: torch.device) -> None:
    """A broken model's logits: some token or none, but no index that is out of bounds."""
    logits = some_logits(3, device)
    logits[0] = float("nan")
    logits[1, ::2] = float("nan")
    logits[2, 77] = float("inf")
    found = drawn(logits, replace(random_draws(6, 3, top=0), rows=np.array([0, 1, 2, 0, 1, 2], np.int32)))
    assert ((found.tokens >= -1) & (found.tokens < VOCABULARY)).all()


def test_tokens_past_a_mask_are_forbidden(device: torch.device) -> None:
    """A model's vocabulary may be padded past the tokenizer's."""
    logits = torch.zeros((1, VOCABULARY), device=device)
    logits[0, 4400] = 9.0
    draws = random_draws(1, 1, top=0)
    narrow = replace(
        draws,
        temperature=np.zeros(1, np.float32),
        masks=np.full((2, 100), 0xFFFFFFFF, np.uint32),
        mask_of=np.zeros(1, np.int32),
        edit_bias=np.zeros_like(draws.edit_bias),
        edit_penalty=np.zeros_like(draws.edit_penalty),
    )
    assert drawn(logits, narrow).tokens[0] < 3200
    assert drawn(logits, replace(narrow, mask_of=np.full(1, -1, np.int32))).tokens[0] == 4400


@triton.jit
def _rand(Seed, Out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(Out + i, tl.rand(tl.load(Seed), i))


@pytest.mark.parametrize("seed", [0, 1, -5, 2**40 + 3, 12345678901234567])
def test_the_noise_is_tritons(seed: int, device: torch.device) -> None:
    out = torch.empty(1024, device=device)
    _rand[(1,)](torch.tensor([seed], device=device), out, BLOCK=1024)
    assert np.array_equal(out.cpu().numpy(), uniform(seed, 1024))


def test_philox_is_the_papers() -> None:
    """The first of Random123's known answers for philox4x32-10: counter 0 under key 0."""
    assert philox(0, 1).tolist() == [0x6627E8D5]
