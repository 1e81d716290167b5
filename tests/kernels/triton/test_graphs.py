"""Recorded decode steps: whole models in a rehearsal without a GPU, and what a rehearsal refuses or shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from ramify.kernels.draws import Draws
from ramify.kernels.ops import Activation, Ops, Step
from ramify.kernels.torch_compute import TorchCompute
from ramify.kernels.triton import graphs
from ramify.kernels.triton.compute import TritonCompute
from ramify.kernels.triton.layout import Layout
from ramify.kernels.triton.recorder import CudaRecorder, Recorder
from ramify.kernels.triton.rehearsal import Rehearsal

from .tiny import PAGE, Tables, cache_of, ints, packed, ready

Run = Callable[[Step], torch.Tensor]


def recorder(device: torch.device) -> Recorder:
    return CudaRecorder(device) if device.type == "cuda" else Rehearsal()


def recorded(device: torch.device, windows: tuple[int | None, ...] = (None, 7)) -> tuple[TritonCompute, Run]:
    compute = TritonCompute("fp32", device, recorder=recorder(device))
    run = compute.compile(packed(compute.ops, windows))
    ready(compute)
    return compute, run


def reference(device: torch.device) -> tuple[TorchCompute, Run]:
    compute = TorchCompute("fp32", device)
    run = compute.compile(packed(compute.ops))
    ready(compute)
    return compute, run


def greedy(rows: int) -> Draws:
    none, zeros = ints([]), np.zeros(rows, np.float32)
    return Draws(
        rows=ints(range(rows)), temperature=zeros, top_k=ints(zeros), top_p=zeros + 1, min_p=zeros,
        seed=np.zeros(rows, np.int64), masks=np.zeros((0, 2), np.uint32), mask_of=ints(zeros - 1),
        edit_start=ints(np.zeros(rows + 1)), edit_ids=none, edit_bias=zeros[:0], edit_factor=zeros[:0],
        edit_penalty=zeros[:0],
    )  # fmt: skip


def poisoned_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of the static buffer a step does not write is absurd."""
    write = Layout.write

    def poisoning(layout: Layout, arrays: dict[str, np.ndarray], target: torch.Tensor) -> None:
        target.fill_(0x7A7A7A7A)
        write(layout, arrays, target)

    monkeypatch.setattr(Layout, "write", poisoning)


def test_recorded_steps_are_eager_steps(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks of a prefix, sequences that share nothing, padded rows, tokens that only the device knows."""
    poisoned_indices(monkeypatch)
    (compute, run), (plain, run_plain) = recorded(device), reference(device)
    tables = Tables(1)
    first = tables.cached(70, cache_of(compute), cache_of(plain))  # 17 full pages: long enough to be worth sharing
    forks = [tables.fork(first, 17), tables.fork(first, 17)]
    alone = [tables.new(), tables.new()]
    steps = [tables.step(sequences) for sequences in ([*forks, first], alone, [first, *forks])]
    for step in steps:
        torch.testing.assert_close(run(step), run_plain(step), rtol=1e-4, atol=1e-5)
    drawn, expected = compute.choose(run(steps[-1]), greedy(2)), plain.choose(run_plain(steps[-1]), greedy(2))
    following = tables.step([first, forks[0], alone[0]], follows=[1, 0, -1])  # planned before the draws are read
    logits = run(following).clone()
    torch.testing.assert_close(logits, run_plain(following), rtol=1e-4, atol=1e-5)
    tokens = drawn.read().tokens.tolist()
    assert tokens == expected.read().tokens.tolist() and tokens[0] != tokens[1]
    other = replace(following, follows=ints([0, 1, -1]))
    swapped = run(other)
    torch.testing.assert_close(swapped, run_plain(other), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits[:2], swapped[:2], atol=1e-2)
    torch.testing.assert_close(logits[2], swapped[2])
    counts = compute.graphs.counts  # type: ignore[union-attr]
    assert str(counts) == "2 recorded, 6 steps replayed"  # 2 rows that share nothing; 4 that share a prefix
    same = [cache_of(one).nan_to_num(0.5) for one in (compute, plain)]
    torch.testing.assert_close(*same, rtol=1e-4, atol=1e-5)  # what nobody should write is poisoned still


def runs_alike(device: torch.device, last: Callable[[Ops, Activation, float], Activation]) -> bool:
    """Whether recorded steps of a model come to what its eager steps do; `last` ends it, given a number of the step."""
    results = []
    for given in (recorder(device), None):
        compute = TritonCompute("fp32", device, recorder=given, graphs=False)
        number, forward = [0.0], packed(compute.ops, windows=(7,))
        run = compute.compile(lambda ops, forward=forward, number=number: last(ops, forward(ops), number[0]))
        ready(compute)
        tables = Tables(2)
        sequences = [tables.new(), tables.new()]
        results.append([])
        for _ in range(2):
            step = tables.step(sequences)
            number[0] = float(step.context[0])
            results[-1].append(run(step).clone())
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*results, strict=True))


def test_what_is_baked_in_shows(device: torch.device) -> None:
    """Negative controls: a number of the step that ran when its bucket was recorded, as an argument and as a tensor."""

    def shifted(ops: Ops, x: Activation, number: float) -> Activation:
        return x + torch.from_numpy(np.full(1, number, np.float32)) if isinstance(x, torch.Tensor) else x

    assert runs_alike(device, lambda ops, x, number: ops.softcap(x, 7.0))
    assert not runs_alike(device, lambda ops, x, number: ops.softcap(x, number + 1.0))
    if device.type != "cuda":  # which refuses to record a copy from memory that is not pinned
        assert not runs_alike(device, shifted)


def strangers_are_left_alone(device: torch.device) -> bool:
    """Whether steps of three rows, in a bucket of four, write the keys and values of their rows and no others."""
    compute, run = recorded(device, windows=(None,))
    tables = Tables(3)
    sequences = [tables.new(), tables.new(), tables.new()]
    written = set()
    for _ in range(2):
        step = tables.step(sequences)
        pages = step.pages[step.page_start[:-1] + step.positions // PAGE]
        written |= set((pages * PAGE + step.positions % PAGE).tolist())
        run(step)
    kept = cache_of(compute).isnan().all(-1).all(-1)  # [layers, k and v, pages, page size]
    changed = {tuple((~kept[layer, part]).flatten().nonzero().flatten().tolist()) for layer in (0,) for part in (0, 1)}
    return changed == {tuple(sorted(written))}


def test_padded_rows_write_no_keys(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    assert strangers_are_left_alone(device)
    monkeypatch.setitem(graphs.PADDING, "slots", 5)
    assert not strangers_are_left_alone(device)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x[0] > 0),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.masked_select(x, x > 0),
    ],
    ids=["item", "bool", "boolean index", "nonzero", "masked_select"],
)
def test_what_waits_for_the_device_is_not_recorded(work: Callable[[torch.Tensor], object]) -> None:
    x = torch.randn(4)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="waits for the device"):
        Rehearsal().record(lambda: (work(x), None)[1])


def test_a_rehearsal_repeats_what_was_done() -> None:
    given, kept = torch.tensor([1.0, 2.0]), torch.zeros(2)

    def work() -> None:
        row = torch.stack([given, given * 3]).sum(0).view(2)
        kept.copy_(row + torch.zeros_like(row).add_(1))

    def careless() -> None:
        kept.copy_(torch.empty(2))  # which nobody wrote

    with torch.inference_mode():
        again = Rehearsal().record(work)
        given.copy_(torch.tensor([10.0, 20.0]))
        kept.zero_()
        again()
        assert kept.tolist() == [41.0, 81.0]
        Rehearsal().record(careless)()
        assert kept.isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["bf16", "fp8", "int8", "int4"])
def test_every_mode_can_be_recorded(mode: str, device: torch.device) -> None:
    """Packed weights, and keys in 8 bits: recorded steps come to what eager ones do, to the bit."""
    results = []
    for given in (recorder(device), None):
        compute = TritonCompute(mode, device, recorder=given, graphs=False, fp8_cache=mode != "bf16")
        run = compute.compile(packed(compute.ops))
        ready(compute)
        tables = Tables(2)
        sequences = [tables.new() for _ in range(4)]  # a whole bucket: products of other widths add in another order
        results.append([run(tables.step(sequences)).clone() for _ in range(2)])
    for found, expected in zip(*results, strict=True):
        assert found.isfinite().all()
        assert torch.equal(found, expected)
