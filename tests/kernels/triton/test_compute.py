"""How a step reaches the device: one copy, no waiting, launches that need no new compilation; and the small kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from ramify.kernels import twins
from ramify.kernels.ops import Activation, Ops, Step
from ramify.kernels.triton.compute import TritonCompute
from ramify.kernels.triton.follow import follow
from ramify.kernels.triton.layout import Layout
from ramify.kernels.triton.rehearsal import NoWaiting, Rehearsal, Tape, launches_on
from ramify.kernels.triton.survey import survey

from .test_choosing import random_draws
from .tiny import VOCABULARY, Tables, packed, ready


def eager(device: torch.device, **options: Any) -> tuple[TritonCompute, Callable[[Step], torch.Tensor]]:
    compute = TritonCompute("fp32", device, **({"graphs": False} | options))
    run = compute.compile(packed(compute.ops))
    ready(compute)
    return compute, run


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the numbers in each copy to the device; refuses everything that would wait for it."""
    copies: list[int] = []
    write = Layout.write

    def counting(layout: Layout, arrays: dict[str, np.ndarray], target: torch.Tensor) -> None:
        copies.append(sum(map(len, arrays.values())))
        write(layout, arrays, target)

    def refused(*args: object, **kwargs: object) -> None:
        raise RuntimeError("waits for the device")

    with monkeypatch.context() as patch:
        patch.setattr(Layout, "write", counting)
        for name in ("cpu", "tolist", "cuda", "pin_memory"):
            patch.setattr(torch.Tensor, name, refused)
        patch.setattr(torch.cuda, "synchronize", refused)
        tape = Tape()
        with launches_on(tape), tape:
            yield copies


def test_a_step_and_its_draws_are_one_copy_each_and_wait_for_nothing(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device.type == "cuda":
        pytest.skip("the interpreter's launches are watched")
    compute, run = eager(device)
    tables = Tables(1)
    sequences = [tables.new(), tables.new()]
    draws = random_draws(4, 2, vocabulary=VOCABULARY)
    for rows, follows in ((3, None), (1, None), (1, [1, -1])):
        step = tables.step(sequences, rows=rows, follows=follows)
        with watched(monkeypatch) as copies:
            chosen = compute.choose(run(step), draws)
        assert len(copies) == 2
        assert len(chosen.read().tokens) == 4


def test_a_replayed_step_is_one_copy(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    if device.type == "cuda":
        pytest.skip("the interpreter's launches are watched")
    _, run = eager(device, recorder=Rehearsal())
    tables = Tables(1)
    sequences = [tables.new(), tables.new(), tables.new()]
    run(tables.step(sequences))  # recorded
    step = tables.step(sequences)
    with watched(monkeypatch) as copies:
        run(step)
    assert len(copies) == 1


@pytest.mark.parametrize(
    "waiting",
    [lambda x: x.cpu(), lambda x: x.tolist(), lambda x: float(x.sum()), lambda x: x[x > 0]],
    ids=["cpu", "tolist", "float", "boolean index"],
)
def test_waiting_would_be_seen(waiting: Callable[[torch.Tensor], object], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(3)
    with watched(monkeypatch), pytest.raises(RuntimeError, match="waits for the device"):
        waiting(x)


def test_a_scalar_made_on_the_host_may_be_read() -> None:
    with NoWaiting():
        assert float(torch.tensor(3.0)) == 3.0


def compiled_for(kernel: Any, args: Any, kwargs: Any) -> object:
    """What Triton would compile a launch for: types, constants, what is 1 and what 16 divides."""
    key: list[object] = []
    constants = [name for name, kind in kernel.fn.__annotations__.items() if "constexpr" in str(kind)]
    for name, value in sorted((dict(zip(kernel.arg_names, args, strict=False)) | kwargs).items()):
        if isinstance(value, torch.Tensor):
            key.append((name, value.dtype, value.data_ptr() % 16 == 0))
        elif name in constants:
            key.append((name, value))
        elif isinstance(value, int) and name not in (kernel.kwargs["do_not_specialize"] or ()):
            key.append((name, value == 1, value % 16 == 0))
    return tuple(key)


def test_steps_of_any_size_need_the_same_kernels(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred different batches may not be a hundred compilations: of each kernel there is one for each kind of
    layer (with and without a window), or of matrix."""
    if device.type == "cuda":
        pytest.skip("the interpreter's launches are watched")
    from triton.runtime.interpreter import InterpretedFunction

    launches: dict[str, set[object]] = {}
    launch = InterpretedFunction.run

    def noting(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        launches.setdefault(kernel.fn.__name__, set()).add(compiled_for(kernel, args, kwargs))
        launch(kernel, *args, grid=grid, warmup=warmup, **kwargs)

    monkeypatch.setattr(InterpretedFunction, "run", noting)
    _, run = eager(device)
    tables = Tables(1)
    first, second, third = tables.new(), tables.new(), tables.new()
    for sequences, rows in (([first], 1), ([first, second], 2), ([third], 3), ([first, second, third], 1)):
        run(tables.step(sequences, rows=rows))
    counts = {name: len(keys) for name, keys in launches.items()}
    assert counts == {
        "_take_rows": 1, "_rms_norm": 2, "_write_kv": 1, "_extend": 2, "_decode": 1, "_merge": 1, "_gated": 1
    }  # fmt: skip


def test_masks_are_applied_where_the_logits_are(device: torch.device) -> None:
    compute, _ = eager(device)
    logits = torch.randn((3, VOCABULARY), device=device)
    words = np.random.default_rng(0).integers(0, 2**32, (2, 2), dtype=np.uint32)
    expected = logits.clone()
    twins.apply_masks(expected, torch.from_numpy(words.view(np.int32)).to(device), torch.tensor([1, -1, 0]))
    compute.mask(logits, [2, 0], list(words))
    assert torch.equal(logits, expected) and logits.isinf().any()


def test_follow(device: torch.device) -> None:
    tokens = torch.arange(1500, dtype=torch.int32, device=device)
    drawn = torch.tensor([7, -1, 9], dtype=torch.int32, device=device)
    follows = torch.full_like(tokens, -1)
    follows[[0, 3, 1024, 1499]] = torch.tensor([2, 1, 0, 2], dtype=torch.int32, device=device)
    expected = twins.follow(tokens, follows, drawn)
    assert expected[[0, 1, 3, 1024, 1499]].tolist() == [9, 1, 0, 7, 9]
    assert torch.equal(follow(tokens, follows, drawn), expected)
    assert not torch.equal(follow(tokens, follows.roll(1), drawn), expected)


def test_an_addend_that_is_read_again_is_refused() -> None:
    def sound(ops: Ops) -> Activation:
        x = ops.embed(None)
        return ops.add(x, ops.rms_norm(x, None, 1e-5))

    def careless(ops: Ops) -> Activation:
        x = ops.embed(None)
        normed = ops.rms_norm(x, None, 1e-5)
        return ops.matmul(normed, None, ops.add(x, normed))

    place = torch.device("cpu")
    assert survey(sound, place).windows == ()
    with pytest.raises(NotImplementedError, match="after it was added"):
        survey(careless, place)
