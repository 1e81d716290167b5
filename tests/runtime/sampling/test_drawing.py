"""Draws for a device: they say what the host's sampler would do with the same rows, and read back as its choices."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ramify.errors import RequestFailed
from ramify.kernels import twins
from ramify.kernels.draws import Draws
from ramify.runtime.sampling.drawing import Drawing
from ramify.runtime.sampling.params import SamplingParams
from ramify.runtime.sampling.sampler import Edits, RowState, Sampler
from ramify.runtime.sampling.truncation import truncate

VOCABULARY = 300
EOS = 2
WORDS = -(-VOCABULARY // 32)
SAMPLER = Sampler(VOCABULARY, text_of=lambda token: f"<{token}>", eos_tokens=(EOS,))
DRAWING = Drawing(VOCABULARY, SAMPLER.text_of)


class Allows:
    """A matcher that allows the same tokens for ever; few of them as ids, many as a mask."""

    def __init__(self, tokens: list[int]) -> None:
        self.ids = np.array(sorted(tokens), np.int32)
        self.words = np.zeros(WORDS, np.uint32)
        for token in tokens:
            self.words[token // 32] |= np.uint32(1 << token % 32)
        self.words.setflags(write=False)

    def mask(self) -> npt.NDArray[np.uint32]:
        return self.words

    def allowed(self, limit: int = 256) -> npt.NDArray[np.int32] | None:
        return self.ids if len(self.ids) <= 40 else None


def some_state(chooser: random.Random) -> RowState:
    """A request of any kind, some tokens into its output."""
    params: dict[str, Any] = {"temperature": chooser.choice([0.0, 0.3, 1.0]), "seed": chooser.randrange(1 << 40)}
    biased = chooser.sample(range(VOCABULARY), 9)
    extras: list[dict[str, Any]] = [
        {"top_k": chooser.choice([1, 5, 1000])}, {"top_p": 0.7}, {"min_p": 0.1}, {"repetition_penalty": 1.4},
        {"frequency_penalty": 0.7}, {"presence_penalty": -0.5}, {"min_tokens": 5, "stop_token_ids": [7, 11]},
        {"logit_bias": {token: chooser.choice([-100.0, 3.0, 90.0, float("-inf")]) for token in biased}},
        {"logprobs": chooser.choice([0, 1, 4])}, {"ignore_eos": True},
    ]  # fmt: skip
    for extra in chooser.sample(extras, chooser.randrange(len(extras))):
        params |= extra
    prompt = [chooser.randrange(VOCABULARY) for _ in range(30)]
    state = SAMPLER.row(SamplingParams(**params), prompt)
    state.accept([chooser.randrange(VOCABULARY) for _ in range(chooser.randrange(9))])
    many = chooser.choice([None, 1, 3, 30, 100])
    if many is not None:
        state.matcher = Allows(chooser.sample(range(VOCABULARY), many))  # type: ignore[assignment]
    state.look()
    return state


def some_rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def final_row(state: RowState, row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the host draws from."""
    if state.allowed is None:
        return state.edited(row)
    alone = np.full(VOCABULARY, -np.inf, np.float32)
    alone[state.allowed] = state.few(row)
    return alone


def applied(draws: Draws, draw: int, row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The row that is drawn from, by what Draws says of its fields."""
    row = row.copy()
    for edit in range(draws.edit_start[draw], draws.edit_start[draw + 1]):
        value = row[draws.edit_ids[edit]] + draws.edit_bias[edit]
        value = value / draws.edit_factor[edit] if value > 0 else value * draws.edit_factor[edit]
        row[draws.edit_ids[edit]] = value - draws.edit_penalty[edit]
    if draws.mask_of[draw] >= 0:
        words = draws.masks[draws.mask_of[draw]]
        row[[token for token in range(VOCABULARY) if not words[token // 32] >> (token % 32) & 1]] = -np.inf
    return row


def as_the_host(seed: int) -> None:
    chooser = random.Random(seed)
    states = [some_state(chooser) for _ in range(40)]
    logits = some_rows(50, seed)
    places = chooser.sample(range(50), 40)
    draws = DRAWING.draws(states, places)
    choices = DRAWING.choices(states, twins.choose(logits, draws).read())
    for draw, (state, place, choice) in enumerate(zip(states, places, choices, strict=True)):
        row = logits[place].numpy()
        final, params = final_row(state, row), state.params
        np.testing.assert_allclose(applied(draws, draw, row), final, rtol=1e-5, atol=1e-5)
        [host] = SAMPLER.sample(logits[place][None].clone(), [state])
        assert (choice.token is None) == (host.token is None)
        if choice.token is None:
            assert str(choice.error) == str(host.error)
            continue
        if params.greedy:
            assert choice.token == host.token
        else:
            ids, weights = truncate(
                final, int(final.argmax()), params.temperature, params.top_k, params.top_p, params.min_p
            )
            kept = np.flatnonzero(weights) if ids is None else ids
            assert choice.token in kept
            if len(kept) == 1:
                assert choice.token == host.token
        if params.logprobs is None:
            assert choice.logprobs is None
        else:
            expected = SAMPLER.token_logprobs(logits[place][None], [choice.token], params.logprobs)[0]
            assert choice.logprobs is not None
            entries = [(one.token, one.text, one.rank) for one in (choice.logprobs.chosen, *choice.logprobs.top)]
            assert entries == [(one.token, one.text, one.rank) for one in (expected.chosen, *expected.top)]
            assert choice.logprobs.chosen.logprob == pytest.approx(expected.chosen.logprob, abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_a_device_chooses_as_the_host_would(seed: int) -> None:
    as_the_host(seed)


@pytest.mark.parametrize("lost", ["bias", "factor", "penalty"])
def test_an_edit_that_is_lost_would_be_seen(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = RowState.edits

    def without(state: RowState) -> Edits | None:
        edits = sound(state)
        blank = np.full_like(edits.bias, 1 if lost == "factor" else 0) if edits is not None else None
        return edits._replace(**{lost: blank}) if edits is not None else None

    monkeypatch.setattr(RowState, "edits", without)
    with pytest.raises(AssertionError):
        for seed in range(8):
            as_the_host(seed)


def test_equal_masks_are_sent_once() -> None:
    shared, other = Allows(list(range(100, 200))), Allows(list(range(50, 200)))
    states = []
    for matcher in (shared, shared, other, shared, None):
        state = SAMPLER.row(SamplingParams())
        state.matcher = matcher  # type: ignore[assignment]
        state.look()
        states.append(state)
    draws = DRAWING.draws(states, range(5))
    assert draws.masks.shape == (2, WORDS) and draws.mask_of.tolist() == [0, 0, 1, 0, -1]
    assert (draws.masks[0] == shared.words).all() and (draws.masks[1] == other.words).all()


def test_seeds_depend_on_request_and_position_alone() -> None:
    def seeds(*states: RowState) -> list[int]:
        return DRAWING.draws(states, range(len(states))).seed.tolist()

    first, again, second = (SAMPLER.row(SamplingParams(seed=5), index=index) for index in (0, 0, 1))
    assert seeds(first) == seeds(again) != seeds(second)
    before = seeds(first)
    first.accept([9])
    assert seeds(first) != before
    first.take_back([9])
    assert seeds(second, first)[1:] == before
    many = [SAMPLER.row(SamplingParams(seed=-(2**63)), index=index) for index in range(200)]
    assert len(set(seeds(*many))) == 200


def test_broken_logits_and_empty_masks_are_errors_of_their_rows() -> None:
    logits = some_rows(3, 0)
    logits[1, 5] = float("nan")
    barred = SAMPLER.row(SamplingParams(logit_bias=dict.fromkeys(range(VOCABULARY), float("-inf"))))
    states = [barred, SAMPLER.row(SamplingParams()), SAMPLER.row(SamplingParams())]
    choices = DRAWING.choices(states, twins.choose(logits, DRAWING.draws(states, range(3))).read())
    assert choices[2].token is not None and choices[2].error is None
    assert "no token is allowed here" in str(choices[0].error) and "broken" in str(choices[1].error)
    assert all(isinstance(choice.error, RequestFailed) for choice in choices[:2])


def test_nothing_to_draw_is_fine() -> None:
    chosen = twins.choose(some_rows(3, 0), DRAWING.draws([], [])).read()
    assert len(chosen.tokens) == 0 and DRAWING.choices([], chosen) == []
