"""Arrays in one buffer: where they lie, what comes back, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ramify.kernels.triton.layout import LINE, Layout, sent, words

ARRAYS = {
    "ints": np.arange(5, dtype=np.int32),
    "none": np.zeros(0, np.int32),
    "floats": words(np.array([0.5, -1.0, np.inf], np.float32)),
    "seeds": words(np.array([-(2**62), 2**40 + 1], np.int64)),
    "masks": words(np.array([[2**32 - 1, 1], [7, 2**31]], np.uint32)),
}


def test_arrays_come_back_as_they_were(device: torch.device) -> None:
    found = sent(ARRAYS, device)
    assert found["ints"].tolist() == [0, 1, 2, 3, 4] and len(found["none"]) == 0
    assert found["floats"].view(torch.float32).tolist() == [0.5, -1.0, float("inf")]
    assert found["seeds"].view(torch.int64).tolist() == [-(2**62), 2**40 + 1]
    assert found["masks"].view(2, 2).tolist() == [[-1, 1], [7, -(2**31)]]
    assert all(view.data_ptr() % 16 == 0 for view in found.values() if len(view))


def test_a_write_ends_with_the_last_array(device: torch.device) -> None:
    layout = Layout.of({"few": 3, "many": 1000})
    buffer = torch.full((layout.total,), -9, dtype=torch.int32, device=device)
    layout.write({"few": np.array([1, 2], np.int32), "many": np.arange(10, dtype=np.int32)}, buffer)
    views = layout.views(buffer)
    assert views["few"].tolist()[:2] == [1, 2] and views["many"].tolist()[:10] == list(range(10))
    assert layout.begins["many"] == LINE and (buffer[LINE + 10 :] == -9).all()


def test_more_than_there_is_room_for_is_refused(device: torch.device) -> None:
    layout = Layout.of({"few": 3})
    with pytest.raises(AssertionError, match="few has 4 numbers and room for 3"):
        layout.write({"few": np.zeros(4, np.int32)}, torch.empty(layout.total, dtype=torch.int32, device=device))
