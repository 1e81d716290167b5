"""Prefill and decode attention against the plain torch twin, on shapes and values that break things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from ramify.kernels.ops import AttentionSpec
from ramify.kernels.triton.batch import DeviceBatch
from ramify.kernels.triton.decode_attention import decode_attention
from ramify.kernels.triton.extend_attention import extend_attention

from .attention_cases import SPEC, Case, ragged, run
from .close import BOUND

TYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES: dict[str, tuple[list[int], list[int]]] = {
    "ragged, mixed with decoding": ([5, 1, 34, 1, 3], [5, 40, 70, 1, 67]),
    "one token": ([1], [1]),
    "page crossing": ([2, 17], [17, 33]),
    "long prefix": ([3, 1], [300, 257]),
    "exact tiles": ([16, 32], [16, 64]),
    "sequences without rows": ([0, 3, 0, 1, 0], [9, 20, 1, 18, 40]),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_attention_is_the_twins(shape: str, dtype: torch.dtype, device: torch.device) -> None:
    assert run(ragged(*SHAPES[shape], 16), SPEC, 16, dtype, device) <= BOUND[dtype]


HEADS = [(64, 16, 1), (80, 3, 1), (96, 4, 2), (112, 2, 1), (128, 8, 1), (160, 1, 1), (192, 2, 2), (256, 1, 1)]


KINDS = [(torch.float32, False, HEADS), (torch.float32, True, HEADS), (torch.float16, False, HEADS[1::5]),
         (torch.bfloat16, False, HEADS[1::5]), (torch.bfloat16, True, HEADS[1::5])]  # fmt: skip


@pytest.mark.parametrize(
    ("head_dim", "heads", "kv_heads", "dtype", "fp8"),
    [(*head, dtype, fp8) for dtype, fp8, heads in KINDS for head in heads],
)
def test_every_size_of_head(
    head_dim: int, heads: int, kv_heads: int, dtype: torch.dtype, fp8: bool, device: torch.device
) -> None:
    spec = replace(SPEC, head_dim=head_dim, heads=heads, kv_heads=kv_heads, scale=head_dim**-0.5)
    assert run(ragged([1, 3], [35, 37], 16), spec, 16, dtype, device, fp8=fp8) <= BOUND[dtype]


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, window=1),
        replace(SPEC, window=7),
        replace(SPEC, window=40),
        replace(SPEC, window=64),  # blocks that every query sees between blocks that a few see
        replace(SPEC, window=1000),
        replace(SPEC, softcap=20.0),
        replace(SPEC, softcap=5.0, window=9),
    ],
    ids=lambda spec: f"window {spec.window} cap {spec.softcap}",
)
def test_windows_and_caps(spec: AttentionSpec, device: torch.device) -> None:
    assert run(ragged([5, 1, 33, 1], [5, 40, 140, 9], 16), replace(spec, heads=2), 16, torch.float32, device) <= 1e-5


@pytest.mark.parametrize("dtype", TYPES)
def test_an_fp8_cache_is_read_exactly(dtype: torch.dtype, device: torch.device) -> None:
    """The twin reads the same bytes, so only the products' own rounding is left."""
    step = ragged(*SHAPES["long prefix"], 16)
    assert run(step, replace(SPEC, softcap=20.0), 16, dtype, device, fp8=True) <= BOUND[dtype]


def test_scales_of_an_fp8_cache_matter(device: torch.device) -> None:
    step = ragged(*SHAPES["page crossing"], 16)
    assert run(step, SPEC, 16, torch.float32, device, fp8=True) <= 1e-5
    assert run(step, SPEC, 16, torch.float32, device, fp8=True, planted="scales") > 1e-2


@pytest.mark.parametrize("page_size", [1, 5, 16, 128])
def test_every_size_of_page(page_size: int, device: torch.device) -> None:
    assert run(ragged([4, 1, 20], [30, 35, 20], page_size), SPEC, page_size, torch.float32, device) <= 1e-5


@pytest.mark.parametrize("planted", ["context", "pages", "scale", "cap", "window"])
@pytest.mark.parametrize("shape", ["page crossing", "long prefix"])
def test_a_planted_mistake_is_seen(planted: str, shape: str, device: torch.device) -> None:
    spec = replace(SPEC, window=8) if planted == "window" else replace(SPEC, softcap=3.0) if planted == "cap" else SPEC
    assert run(ragged(*SHAPES[shape], 16), spec, 16, torch.float32, device, planted=planted) > 1e-5


# -- adversarial values -----------------------------------------------------------------------------------------------


def equal_scores(case: Case) -> None:
    case.q.zero_()


def equal_keys(case: Case) -> None:
    case.keys[...] = 1.5


def huge_scores(case: Case) -> None:
    case.q.mul_(500)


def huge_values(case: Case) -> None:
    case.values.mul_(1e4 if case.q.dtype == torch.float16 else 1e30)


def one_key_outweighs_all(case: Case) -> None:
    case.q[...] = 1.0
    case.keys[case.step.pages[0], 3] = 30.0


def lost_columns(case: Case) -> None:
    """Scores of minus infinity for the first 32 keys of both sequences (their rows come after), and for others."""
    case.q[..., 0] = 1.0
    for s in range(2):
        case.keys[case.step.pages[case.step.page_start[s] :][:2], :, :, 0] = -float("inf")
    case.keys[:, 5, :, 0] = -float("inf")


MUTATIONS = [equal_scores, equal_keys, huge_scores, huge_values, one_key_outweighs_all, lost_columns]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
@pytest.mark.parametrize("dtype", TYPES)
def test_adversarial_values(mutation: Callable[[Case], None], dtype: torch.dtype, device: torch.device) -> None:
    case = Case.of(ragged([3, 1], [45, 50], 16), replace(SPEC, heads=2), 16, dtype, device)
    mutation(case)
    loose = 10 if mutation is huge_scores else 1  # a score of thousands has three digits less behind the point
    assert case.error() <= loose * BOUND[dtype]


def test_rows_that_are_none_of_its_are_not_written(device: torch.device) -> None:
    """Padding of a recorded step: a sequence without partial results gets zeros, a negative one nothing."""
    case = Case.of(ragged([1, 1, 1], [20, 40, 9], 16), SPEC, 16, torch.float32, device)
    batch = DeviceBatch.of(case.step, 16, device, workers=5)
    assert batch.cascade is not None
    starts = batch.cascade.merge_start.clone()
    decoding = batch.cascade.decoding.clone()
    decoding[2] = -1
    starts[2:] = starts[1]  # nothing for the second, nor for the third
    out = torch.full_like(case.q, float("nan"))
    plan = replace(batch.cascade, merge_start=starts, decoding=decoding)
    decode_attention(case.q, case.keys, case.values, replace(batch, cascade=plan), SPEC, out)
    assert not out[0].isnan().any()
    assert (out[1] == 0).all()
    assert out[2].isnan().all()


def test_a_step_of_nothing(device: torch.device) -> None:
    case = Case.of(ragged([0], [9], 16), SPEC, 16, torch.float32, device)
    batch = DeviceBatch.of(case.step, 16, device)
    extend_attention(case.q, case.keys, case.values, batch, SPEC, case.q)
    decode_attention(case.q, case.keys, case.values, batch, SPEC, case.q)
    assert case.q.numel() == 0
