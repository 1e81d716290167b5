"""How each kernel is launched: a table in the repository, keyed by device and shape, with a default for any device.

The rows of tuning.json are launches that compile without spilling (docs/kernels.md); `tune` times them on a GPU and
adds that device's. What has no row of its own takes the nearest: of its generation, of the next larger head.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

TABLE = Path(__file__).with_name("tuning.json")
Launch = Mapping[str, int]  # block sizes, num_warps, num_stages


@cache
def table() -> Mapping[str, Any]:
    """Kernel -> "device / shape" -> launch. Every kernel has an "any / any" row. "products" is `products.py`'s."""
    loaded: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return loaded


def launch(kernel: str, device: torch.device, shape: str) -> Launch:
    """The row for this device and shape ("head 128", say), or the nearest that will do."""
    return nearest(table()[kernel], kernel, device_name(device), shape)


def nearest(rows: Mapping[str, Launch], kernel: str, device: str, shape: str) -> Launch:
    """This device's row, else one of its generation, else any device's; for this shape, else for the next larger head
    that is laid out alike, else the default."""
    for place in (*_relatives(rows, device), "any"):
        for wanted in (shape, _padded(shape)):
            if f"{place} / {wanted}" in rows:
                return rows[f"{place} / {wanted}"]
    if "any / any" not in rows:
        raise LookupError(f"the tuning table has no default for {kernel}")
    return rows["any / any"]


def _relatives(rows: Mapping[str, Launch], device: str) -> list[str]:
    """The device, then older ones of its generation that have rows (sm_80 for sm_86), the youngest first: what runs
    there runs on it, memory allowing."""
    known = {key.partition(" / ")[0] for key in rows}
    number = re.fullmatch(r"sm_(\d+)", device)
    if number is None:
        return [device]
    generation, minor = divmod(int(number[1]), 10)
    older = [f"sm_{generation}{m}" for m in range(minor - 1, -1, -1) if f"sm_{generation}{m}" in known]
    # sm_80 has more shared memory than those that came after it; sm_90 and later ones do not shrink
    return [device] if generation == 8 else [device, *older]


def _padded(shape: str) -> str:
    """Heads are laid out in powers of two: "head 96" as "head 128"."""
    size = re.fullmatch(r"head (\d+)( \w+)?", shape)
    return shape if size is None else f"head {1 << (int(size[1]) - 1).bit_length()}{size[2] or ''}"


@cache
def device_name(device: torch.device) -> str:
    """As the table's keys have it: "sm_90" for a compute capability of 9.0, "cpu" in the interpreter."""
    if device.type != "cuda":
        return "cpu"
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"
