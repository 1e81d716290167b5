"""Many small arrays of integers end to end in one buffer, so that a step costs one copy to the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..draws import Ints

LINE = 32  # numbers: every array begins a cache line; Triton would compile anew for pointers that are aligned otherwise


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each array of int32 begins in the buffer, and how many numbers it has room for."""

    begins: Mapping[str, int]
    rooms: Mapping[str, int]
    total: int

    @classmethod
    def of(cls, rooms: Mapping[str, int]) -> Layout:
        """In the order given: what is long and rarely full belongs at the end, for `write` copies no more than it."""
        begins: dict[str, int] = {}
        total = 0
        for name, room in rooms.items():
            begins[name] = total
            total += -(-room // LINE) * LINE
        return cls(begins, dict(rooms), total)

    def write(self, arrays: Mapping[str, Ints], target: torch.Tensor) -> None:
        """Fills `target` (int32, on any device) up to the end of the last array, without waiting for the device.

        The arrays may be shorter than their rooms; what lies between them is undefined. From pinned memory, which
        torch keeps until the copy is done.
        """
        last = list(self.begins)[-1]
        used = self.begins[last] + len(arrays[last])
        on_gpu = target.device.type == "cuda"
        staged = torch.empty(used, dtype=torch.int32, pin_memory=on_gpu) if on_gpu else target[:used]
        numbers = staged.numpy()
        for name, begin in self.begins.items():
            array = arrays[name]
            assert len(array) <= self.rooms[name], f"{name} has {len(array)} numbers and room for {self.rooms[name]}"
            numbers[begin : begin + len(array)] = array
        if on_gpu:
            target[:used].copy_(staged, non_blocking=True)

    def views(self, buffer: torch.Tensor) -> dict[str, torch.Tensor]:
        """The arrays in the buffer, each as long as its room."""
        return {name: buffer[begin : begin + self.rooms[name]] for name, begin in self.begins.items()}


def sent(arrays: Mapping[str, Ints], device: torch.device) -> dict[str, torch.Tensor]:
    """The arrays on the device, in one copy."""
    layout = Layout.of({name: len(array) for name, array in arrays.items()})
    buffer = torch.empty(max(1, layout.total), dtype=torch.int32, device=device)
    layout.write(arrays, buffer)
    return layout.views(buffer)


def words(array: np.ndarray) -> Ints:
    """Numbers of 4 or 8 bytes as the int32 words that they are made of; on the device, `view` turns them back."""
    return np.ascontiguousarray(array).view(np.int32).reshape(-1)
