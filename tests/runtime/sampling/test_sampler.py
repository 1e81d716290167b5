"""The sampler: every option against a naive formula, rows that never see each other, errors that stay in their row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ramify.errors import InvalidRequest, RequestFailed
from ramify.runtime.sampling.params import SamplingParams
from ramify.runtime.sampling.sampler import Choice, RowState, Sampler

VOCABULARY = 1000
EOS = 2


@pytest.fixture
def sampler() -> Sampler:
    return Sampler(VOCABULARY, text_of=lambda token: f"<{token}>", eos_tokens=(EOS,))


def some_logits(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def one(sampler: Sampler, row: torch.Tensor, params: SamplingParams, **options: Any) -> Choice:
    return sampler.sample(row[None], [sampler.row(params, **options)])[0]


def test_greedy_is_the_best_token(sampler: Sampler) -> None:
    logits = some_logits(6)
    choices = sampler.sample(logits, [sampler.row(SamplingParams(temperature=0)) for _ in range(6)])
    assert [choice.token for choice in choices] == logits.argmax(-1).tolist()
    assert all(choice.logprobs is None and choice.error is None for choice in choices)


def test_equal_logits_give_the_smallest_id(sampler: Sampler) -> None:
    row = torch.zeros(VOCABULARY)
    row[[40, 30, 999]] = 5.0
    assert one(sampler, row, SamplingParams(temperature=0)).token == 30


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_and_layouts_of_logits(sampler: Sampler, dtype: torch.dtype) -> None:
    logits = some_logits(8).to(dtype).T.contiguous().T[::2]
    rows = [sampler.row(SamplingParams(seed=1)) for _ in range(4)]
    single = [one(sampler, row.float().contiguous(), SamplingParams(seed=1)).token for row in logits]
    assert [choice.token for choice in sampler.sample(logits, rows)] == single


PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_p=st.sampled_from([1.0, 0.95, 0.5]),
    top_k=st.sampled_from([-1, 1, 40]),
    min_p=st.sampled_from([0.0, 0.05]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    presence_penalty=st.sampled_from([0.0, -0.5]),
    logit_bias=st.sampled_from([{}, {5: 3.0, 6: -math.inf}]),
    min_tokens=st.sampled_from([0, 5]),
    logprobs=st.sampled_from([None, 0, 4]),
    seed=st.integers(-(2**63), 2**63 - 1),
)


def advanced(sampler: Sampler, params: SamplingParams, output: list[int]) -> RowState:
    state = sampler.row(params, [1, 2, 3, 3])
    state.accept(output)
    return state


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(st.tuples(PARAMS, st.lists(st.integers(0, VOCABULARY - 1), max_size=8)), min_size=1, max_size=8),
    seed=st.integers(0, 10**6),
    shuffle=st.randoms(use_true_random=False),
)
def test_a_row_does_not_depend_on_its_batch(
    sampler: Sampler, requests: list[tuple[SamplingParams, list[int]]], seed: int, shuffle: Any
) -> None:
    """Bit for bit, log-probabilities included: in a batch, alone, in another order, a second time."""
    logits = some_logits(len(requests), seed)
    before = logits.clone()
    together = sampler.sample(logits, [advanced(sampler, *request) for request in requests])
    assert torch.equal(logits, before), "the logits are not changed"
    assert all(choice.error is None for choice in together)
    order = list(range(len(requests)))
    shuffle.shuffle(order)
    shuffled = sampler.sample(logits[order], [advanced(sampler, *requests[i]) for i in order])
    assert [together[i] for i in order] == shuffled
    for i, request in enumerate(requests):
        state = advanced(sampler, *request)
        assert sampler.sample(logits[i : i + 1], [state]) == [together[i]]
        assert sampler.sample(logits[i : i + 1], [state]) == [together[i]], "sampling does not advance the state"


def naive(row: np.ndarray, params: SamplingParams, prompt: list[int], output: list[int]) -> np.ndarray:
    """The edited row by the book, one token at a time, in double precision."""
    row = row.astype(np.float64)
    for token, bias in params.logit_bias.items():
        row[token] += bias
    if len(output) < params.min_tokens:
        row[[EOS, *params.stop_token_ids]] = -np.inf
    for token in {*prompt, *output}:
        row[token] = (
            row[token] / params.repetition_penalty if row[token] > 0 else row[token] * params.repetition_penalty
        )
    for token in set(output):
        row[token] -= params.frequency_penalty * output.count(token) + params.presence_penalty
    return row


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    params=PARAMS,
    prompt=st.lists(st.integers(0, 20), max_size=10),
    output=st.lists(st.integers(0, 150), max_size=200),
    seed=st.integers(0, 1000),
)
def test_edits(sampler: Sampler, params: SamplingParams, prompt: list[int], output: list[int], seed: int) -> None:
    row = some_logits(1, seed)[0].numpy()
    state = sampler.row(params.replace(stop_token_ids=(9,)), prompt)
    state.accept(output[:3])
    state.accept(output[3:])
    expected = naive(row, state.params, prompt, output)
    if state.untouched:
        np.testing.assert_array_equal(expected, row)
    else:
        np.testing.assert_allclose(state.edited(row), expected, rtol=1e-5, atol=1e-5)


def test_penalties_of_more_tokens_than_there_was_room_for(sampler: Sampler) -> None:
    params = SamplingParams(repetition_penalty=1.3, frequency_penalty=0.7, presence_penalty=0.2)
    state = sampler.row(params, range(100))
    output = [*range(50, 400), *range(60, 200, 3), 7, 7]
    state.accept(output)
    row = some_logits(1)[0].numpy()
    np.testing.assert_allclose(state.edited(row), naive(row, params, list(range(100)), output), rtol=1e-5, atol=1e-5)


def test_min_tokens_puts_off_every_end(sampler: Sampler) -> None:
    row = torch.zeros(VOCABULARY)
    row[EOS], row[9], row[50] = 9.0, 8.0, 7.0
    state = sampler.row(SamplingParams(temperature=0, min_tokens=2, stop_token_ids=[9]))
    for expected in (50, 50, EOS):
        assert sampler.sample(row[None], [state])[0].token == expected
        state.accept([50])
    ignoring = sampler.row(SamplingParams(temperature=0, min_tokens=2, ignore_eos=True))
    assert sampler.sample(row[None], [ignoring])[0].token == EOS, "an ignored end of sequence is a token like any other"


def test_mask_leaves_only_allowed_tokens(sampler: Sampler) -> None:
    allowed = [33, 64, 999]
    bits = np.zeros(-(-VOCABULARY // 32), np.uint32)
    for token in allowed:
        bits[token // 32] |= np.uint32(1 << (token % 32))
    logits = some_logits(1).repeat(200, 1)
    rows = [sampler.row(SamplingParams(seed=i, temperature=3)) for i in range(200)]
    for state in rows:
        state.mask = bits
    assert {choice.token for choice in sampler.sample(logits, rows)} == set(allowed)
    rows[0].mask = None
    rows[0].params = SamplingParams(temperature=0)
    assert sampler.sample(logits[:1], rows[:1])[0].token == int(logits[0].argmax())


def raising(row: np.ndarray) -> None:
    raise ZeroDivisionError("a callback's own mistake")


def broken_rows() -> dict[str, tuple[torch.Tensor, dict[str, Any]]]:
    good = some_logits(1)[0]
    nan, infinite = good.clone(), good.clone()
    nan[7], infinite[7] = math.nan, math.inf
    return {
        "NaN": (nan, {}),
        "infinite": (infinite, {}),
        "nothing possible": (torch.full_like(good, -math.inf), {}),
        "nothing allowed": (good, {"mask": np.zeros(-(-VOCABULARY // 32), np.uint32)}),
        "mask too short": (good, {"mask": np.zeros(1, np.uint32)}),
        "callback": (good, {"edit": raising}),
    }


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logprobs", [None, 2])
@pytest.mark.parametrize("kind", broken_rows())
def test_a_broken_row_fails_alone(sampler: Sampler, kind: str, temperature: float, logprobs: int | None) -> None:
    row, attributes = broken_rows()[kind]
    good = some_logits(2, seed=1)
    params = SamplingParams(temperature=temperature, seed=3, logprobs=logprobs)
    state = sampler.row(params)
    for name, value in attributes.items():
        setattr(state, name, value)
    alone = sampler.sample(good, [sampler.row(params), sampler.row(params)])
    first, broken, last = sampler.sample(
        torch.stack((good[0], row, good[1])), [sampler.row(params), state, sampler.row(params)]
    )
    assert [first, last] == alone
    assert broken.token is None
    assert isinstance(broken.error, (RequestFailed, ZeroDivisionError, ValueError))


def test_the_same_seed_gives_the_same_text(sampler: Sampler) -> None:
    def text(seed: int | None, index: int = 0) -> list[int | None]:
        state = sampler.row(SamplingParams(seed=seed), index=index)
        tokens = []
        for step in range(20):
            tokens.append(sampler.sample(some_logits(1, step), [state])[0].token)
            state.accept([tokens[-1] or 0])
        return tokens

    assert text(5) == text(5)
    texts = [text(5), text(6), text(-5), text(5, index=1), text(5, index=2), text(6, index=1), text(None), text(None)]
    assert len({tuple(one) for one in texts}) == len(texts)


def test_log_probabilities_are_the_models_own(sampler: Sampler) -> None:
    row = some_logits(1)[0]
    row[500] = row[400]
    params = SamplingParams(temperature=0.5, top_k=3, logit_bias={400: 100}, logprobs=5, seed=1)
    chosen = one(sampler, row, params)
    exact = torch.log_softmax(row.double(), -1)
    assert chosen.logprobs is not None
    assert chosen.token == chosen.logprobs.chosen.token == 400
    order = sorted(range(VOCABULARY), key=lambda i: (-float(row[i]), i))
    assert chosen.logprobs.chosen.rank == 1 + sum(row > row[400])
    assert [entry.token for entry in chosen.logprobs.top] == order[:5]
    assert [entry.rank for entry in chosen.logprobs.top] == [1, 2, 3, 4, 5]
    for entry in (chosen.logprobs.chosen, *chosen.logprobs.top):
        assert entry.logprob == pytest.approx(float(exact[entry.token]), abs=1e-5)
        assert entry.text == f"<{entry.token}>"


def test_prompts_scores_and_distributions(sampler: Sampler) -> None:
    logits = some_logits(4)
    exact = torch.log_softmax(logits.double(), -1)
    tokens = [1, 20, 300, 999]
    expected = exact[range(4), tokens].tolist()
    assert sampler.score(logits, tokens) == pytest.approx(expected, abs=1e-5)
    entries = sampler.token_logprobs(logits, tokens, top=2)
    assert [entry.chosen.logprob for entry in entries] == sampler.score(logits, tokens)
    assert [entry.top[0].token for entry in entries] == logits.argmax(-1).tolist()
    distribution = sampler.distribution(logits[0])
    np.testing.assert_allclose(distribution.logprobs, exact[0].numpy(), atol=1e-5)
    assert [token for token, _ in distribution.top(3)] == logits[0].topk(3).indices.tolist()
    assert distribution.entropy == pytest.approx(float(-(exact[0].exp() * exact[0]).sum()), rel=1e-4)


@pytest.mark.parametrize("params", [{"logit_bias": {VOCABULARY: 1}}, {"stop_token_ids": [VOCABULARY]}])
def test_tokens_beyond_the_vocabulary_are_refused(sampler: Sampler, params: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"vocabulary ends at 999"):
        sampler.row(SamplingParams(**params))


def test_rows_and_logits_must_agree(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match="zip"):
        sampler.sample(some_logits(2), [sampler.row(SamplingParams())])


def test_tokens_taken_back_leave_no_trace(sampler: Sampler) -> None:
    params = SamplingParams(seed=4, frequency_penalty=0.7, presence_penalty=0.3, repetition_penalty=1.2)
    one, other = sampler.row(params, [1, 2]), sampler.row(params, [1, 2])
    one.accept([5, 6, 7])
    other.accept([5, 6, 9, 9, 11])
    other.take_back([9, 9, 11])
    other.accept([7])
    logits = some_logits(1)
    assert (one.position, sampler.sample(logits, [one])) == (other.position, sampler.sample(logits, [other]))
