"""CUDA graphs without a GPU: records torch's operations and Triton's launches, and does exactly those again.

What is repeated are the operations with the arguments of the first time: the same tensors, the same numbers, the same
grids. So what would be wrong in a CUDA graph is wrong here: a number of one step in the launches of all, a tensor made
from the host's memory, a read of memory that the recording itself has not written (it is poisoned before each replay).
What CUDA would refuse to record is refused: waiting for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten

WAITING = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_pin_memory")
ALLOCATING = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
NAN, POISON = 0xFF, 0x7A  # bytes: of a NaN in every type of number with a point, and of an absurd integer


class Rehearsal:
    """A `Recorder` for Triton's interpreter."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        tape = Tape()
        with launches_on(tape), tape:
            work()
        return tape.replay


class NoWaiting(TorchDispatchMode):
    """Refuses what would wait for a device. A scalar that was made on the host may be read there."""

    def __init__(self) -> None:
        super().__init__()
        self._of_host: dict[int, torch.Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        if name in WAITING and not all(_memory(one) in self._of_host for one in tensors):
            raise RuntimeError(f"{name} waits for the device")
        if name in ("index", "index_put", "index_put_") and any(one.dtype == torch.bool for one in tensors[1:]):
            raise RuntimeError(f"{name} by a boolean tensor waits for the device")
        result = func(*args, **(kwargs or {}))
        if name == "lift_fresh":  # torch.tensor(3.0)
            self._of_host[_memory(result)] = result
        return result


class Tape(NoWaiting):
    """What was done, in order; and every tensor that was made, so that no memory is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self._todo: list[Callable[[], object]] = []
        self._made: dict[int, torch.Tensor] = {}

    def launched(self, launch: Callable[[], object]) -> None:
        """A kernel: its arguments are tensors whose memory stays where it is, and numbers that stay what they are."""
        self._todo.append(launch)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {_memory(one) for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)}
        result = super().__torch_dispatch__(func, types, args, kwargs)
        results = [one for one in tree_flatten(result)[0] if isinstance(one, torch.Tensor)]
        fresh = [one for one in results if _memory(one) not in given]
        for one in fresh:
            self._made[_memory(one)] = one
        name = func.overloadpacket.__name__
        is_view = not fresh and not func._schema.is_mutable
        if name not in ALLOCATING and not is_view and name != "lift_fresh":

            def again() -> None:
                repeated = [one for one in tree_flatten(func(*args, **kwargs))[0] if isinstance(one, torch.Tensor)]
                for place, value in zip(results, repeated, strict=True):
                    if any(place is one for one in fresh):
                        place.copy_(value)

            self._todo.append(again)
        return result

    def replay(self) -> None:
        for one in self._made.values():
            if _memory(one) not in self._of_host:
                content = torch.empty(0, dtype=torch.uint8).set_(one.untyped_storage())
                content.fill_(NAN if one.is_floating_point() else POISON)
        for again in self._todo:
            again()


@contextmanager
def launches_on(tape: Tape) -> Iterator[None]:
    """Within it, every launch in Triton's interpreter is carried out and put on the tape."""
    from triton.runtime.interpreter import GridExecutor

    original = GridExecutor.__call__

    def call(executor: Any, *args: Any, **kwargs: Any) -> None:
        def launch() -> None:
            with _disable_current_modes():
                original(executor, *args, **kwargs)

        launch()
        tape.launched(launch)

    GridExecutor.__call__ = call
    try:
        yield
    finally:
        GridExecutor.__call__ = original


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
