"""The ceilings of this device: how fast it copies, and how fast it multiplies bf16."""

from __future__ import annotations

import torch

from .findings import Section, time_of
from .scene import Ceilings, Scene

TITLE = "Ceilings, measured first in the same run"


def measure(scene: Scene, section: Section) -> None:
    """Sets `scene.ceilings`, which every later section is held against."""
    numbers = scene.pick(2 << 30, 4096) // 2
    source = scene.randn(numbers)
    target = torch.empty_like(source)
    copy = scene.timed(lambda: target.copy_(source), flush=False)
    bandwidth = 2 * source.nbytes / copy.median

    table = section.table("Ceilings", "what", "size", "median", "best", "rate")
    table.add("copy", f"{2 * numbers / 1e9:.2f} GB", time_of(copy.median), time_of(copy.least), rate(bandwidth))
    best = 0.0
    for side in scene.pick((4096, 8192), (16,)):
        a, b = scene.randn(side, side), scene.randn(side, side)
        product = scene.timed(lambda a=a, b=b: a @ b, flush=False)
        operations = 2 * side**3 / product.median
        best = max(best, operations)
        table.add(
            "bf16 product", f"{side} x {side} x {side}", time_of(product.median), time_of(product.least),
            f"{operations / 1e12:.0f} TFLOP/s",
        )  # fmt: skip
    scene.ceilings = Ceilings(bandwidth, best)


def rate(bytes_a_second: float) -> str:
    return f"{bytes_a_second / 1e12:.2f} TB/s"
