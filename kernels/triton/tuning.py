"""How each kernel is launched: a table in the repository, keyed by device and shape, with a default for any device.

The rows of tuning.json are launches that compile without spilling (docs/kernels.md); none has been timed yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

TABLE = Path(__file__).with_name("tuning.json")
Launch = Mapping[str, int]  # block sizes, num_warps, num_stages


@cache
def table() -> Mapping[str, Mapping[str, Mapping[str, int]]]:
    """Kernel -> "device / shape" -> launch. Every kernel has an "any / any" row."""
    loaded: dict[str, dict[str, dict[str, int]]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return loaded


def launch(kernel: str, device: torch.device, shape: str) -> Launch:
    """The row for this device and shape ("head 128", say); else for the shape on any device, else the default."""
    rows = table()[kernel]
    for key in (f"{device_name(device)} / {shape}", f"any / {shape}", "any / any"):
        if key in rows:
            return rows[key]
    raise LookupError(f"the tuning table has no default for {kernel}")


@cache
def device_name(device: torch.device) -> str:
    """As the table's keys have it: "sm_90" for a compute capability of 9.0, "cpu" in the interpreter."""
    if device.type != "cuda":
        return "cpu"
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"
