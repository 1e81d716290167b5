"""A step as the GPU sees it: every index that its kernels need, for every kind of layer, in one copy to the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ..draws import Ints
from ..ops import Step
from .cascade_plan import ARRAYS, CascadePlan, cascade_plan
from .follow import follow
from .layout import sent
from .survey import Needs


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """A step for the layers of one window: int32 tensors on one device. Prefilling sequences are cut into tiles of
    `tile_rows` queries; decoding ones (a single query) are in the cascade plan."""

    positions: torch.Tensor  # [T]
    slots: torch.Tensor  # [T]: where each row's k and v go, page * page_size + offset; -1: nowhere
    query_start: torch.Tensor  # [S + 1]
    context: torch.Tensor  # [S]
    pages: torch.Tensor
    page_start: torch.Tensor  # [S + 1]
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
        """One kind of layer alone; a model's layers share a `DeviceStep`."""
        host = HostStep.of(step, page_size, Needs((window,), (tile_rows,), kv_heads=1), workers)
        return DeviceStep(host.widths, host.workers, sent(host.arrays, device)).of(window, tile_rows)


@dataclass(frozen=True, slots=True)
class HostStep:
    """The indices of a step as they are made on the CPU. `pages`, whose length has no small bound, comes last."""

    arrays: Mapping[str, Ints]
    widths: Mapping[int | None, int]  # window -> the queries of a piece of its cascade plan, if anything decodes
    workers: int

    @property
    def only_decodes(self) -> bool:
        """Whether every sequence has one row."""
        return 0 < len(self.arrays["tokens"]) == len(self.arrays["context"])

    @classmethod
    def of(cls, step: Step, page_size: int, needs: Needs, workers: int) -> HostStep:
        """Everything that layers with these needs will look up."""
        rows = np.diff(step.query_start)
        sequence_of = np.repeat(np.arange(len(rows)), rows)
        page_of = step.pages[step.page_start[sequence_of] + step.positions // page_size]
        arrays: dict[str, Ints] = {
            "tokens": step.tokens,
            "positions": step.positions,
            "slots": page_of * page_size + step.positions % page_size,
            "query_start": step.query_start,
            "context": step.context,
            "page_start": step.page_start,
            "logit_rows": step.logit_rows,
        }
        if step.follows is not None:
            arrays["follows"] = step.follows
        long = np.flatnonzero(rows > 1)
        for tile_rows in needs.tile_rows:
            counts = -(-rows[long] // tile_rows)
            sequence = np.repeat(long, counts)
            first = np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)
            # the tiles that see the most keys last: `extend_attention` begins with them
            order = np.argsort((step.context - rows)[sequence] + first * tile_rows, kind="stable")
            arrays[f"tile_sequence / {tile_rows}"] = sequence[order].astype(np.int32)
            arrays[f"tile_row / {tile_rows}"] = (first[order] * tile_rows).astype(np.int32)
        decoding = np.flatnonzero(rows == 1).astype(np.int32)
        widths: dict[int | None, int] = {}
        for window in needs.windows if len(decoding) else ():
            plan = cascade_plan(step, decoding, page_size, workers, window)
            widths[window] = plan.tile_queries
            arrays |= {f"{name} / {window}": getattr(plan, name).numpy() for name in ARRAYS}
        return cls({**arrays, "pages": step.pages}, widths, workers)


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """The same on the device, cut up for each kind of layer. Its tensors may be longer than what they hold."""

    widths: Mapping[int | None, int]
    workers: int
    arrays: Mapping[str, torch.Tensor]
    drawn: torch.Tensor | None = None  # [draws] int32: the tokens of the last draws, which rows may follow
    _made: dict[tuple[int | None, int], DeviceBatch] = field(default_factory=dict)

    @property
    def logit_rows(self) -> torch.Tensor:
        return self.arrays["logit_rows"]

    def tokens(self) -> torch.Tensor:
        """[T]: as the step gives them, or as they were drawn."""
        tokens, follows = self.arrays["tokens"], self.arrays.get("follows")
        if follows is None:
            return tokens
        assert self.drawn is not None, "a step follows draws, but nothing was drawn"
        return follow(tokens, follows, self.drawn)

    def of(self, window: int | None, tile_rows: int) -> DeviceBatch:
        """The batch for layers with this window, whose prefilling sequences are cut into so many rows."""
        key = window, tile_rows
        if key not in self._made:
            self._made[key] = self._make(window, tile_rows)
        return self._made[key]

    def _make(self, window: int | None, tile_rows: int) -> DeviceBatch:
        arrays = self.arrays
        plan = None
        if window in self.widths:
            named = {name: arrays[f"{name} / {window}"] for name in ARRAYS}
            plan = CascadePlan(**named, workers=self.workers, tile_queries=self.widths[window])
        tile_sequence = arrays[f"tile_sequence / {tile_rows}"]
        return DeviceBatch(
            positions=arrays["positions"],
            slots=arrays["slots"],
            query_start=arrays["query_start"],
            context=arrays["context"],
            pages=arrays["pages"],
            page_start=arrays["page_start"],
            tile_sequence=tile_sequence,
            tile_row=arrays[f"tile_row / {tile_rows}"],
            tiles=len(tile_sequence),
            tile_rows=tile_rows,
            cascade=plan,
        )
