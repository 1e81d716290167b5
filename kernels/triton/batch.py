"""A step as the GPU sees it: every index that its kernels need, in one copy to the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..ops import Step
from .cascade_plan import CascadePlan, cascade_plan


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """int32 tensors on one device. Prefilling sequences are cut into tiles of `tile_rows` queries; decoding ones (a
    single query) are in the cascade plan."""

    tokens: torch.Tensor  # [T]
    positions: torch.Tensor  # [T]
    slots: torch.Tensor  # [T]: where each row's k and v go, page * page_size + offset
    query_start: torch.Tensor  # [S + 1]
    context: torch.Tensor  # [S]
    pages: torch.Tensor
    page_start: torch.Tensor  # [S + 1]
    logit_rows: torch.Tensor  # [R]
    tile_sequence: torch.Tensor  # [tiles]
    tile_row: torch.Tensor  # [tiles]: the first of the tile's rows, counted in its sequence
    tiles: int
    tile_rows: int
    cascade: CascadePlan | None

    @classmethod
    def of(
        cls,
        step: Step,
        page_size: int,
        device: torch.device,
        *,
        tile_rows: int = 64,
        workers: int = 132,
        window: int | None = None,
    ) -> DeviceBatch:
        """Lays everything end to end, copies it once, and cuts it up again."""
        rows = np.diff(step.query_start)
        sequence_of = np.repeat(np.arange(len(rows)), rows)
        page_of = step.pages[step.page_start[sequence_of] + step.positions // page_size]
        slots = page_of * page_size + step.positions % page_size
        long = np.flatnonzero(rows > 1)
        counts = -(-rows[long] // tile_rows)
        tile_sequence = np.repeat(long, counts)
        tile_row = (np.arange(len(tile_sequence)) - np.repeat(np.cumsum(counts) - counts, counts)) * tile_rows
        arrays = {
            "tokens": step.tokens,
            "positions": step.positions,
            "slots": slots,
            "query_start": step.query_start,
            "context": step.context,
            "pages": step.pages,
            "page_start": step.page_start,
            "logit_rows": step.logit_rows,
            "tile_sequence": tile_sequence,
            "tile_row": tile_row,
        }
        packed = torch.from_numpy(np.concatenate([np.asarray(array, np.int32) for array in arrays.values()]))
        if device.type == "cuda":
            packed = packed.pin_memory().to(device, non_blocking=True)
        parts = torch.split(packed, [len(array) for array in arrays.values()])
        decoding = np.flatnonzero(rows == 1).astype(np.int32)
        plan = cascade_plan(step, decoding, page_size, workers, window).to(device) if len(decoding) else None
        named: dict[str, Any] = dict(zip(arrays, parts, strict=True))
        return cls(**named, tiles=len(tile_sequence), tile_rows=tile_rows, cascade=plan)
