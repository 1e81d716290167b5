"""Decode steps are recorded once for each size of batch and then replayed: CUDA graphs, in padded buckets.

A step in which every sequence has one row goes into the smallest bucket that holds it. Its integers are written into
one static buffer, in one copy; then everything that was recorded for the bucket happens again: the same kernels with
the same arguments on the same memory. What a launch depends on is the bucket's, never the step's: the rows, the
queries of a piece of the cascade plan (1: nothing is shared), the workers, the room of every array.

A padded row has slot -1, so it writes no key; it has no pieces of the plan, so it reads none; nobody reads its logits.

Buckets are recorded when a step first needs them, from padding alone: an engine that never sees 256 rows never pays
for them, and no step's number can have got into a recording. The step that comes first waits for three passes; to
record all buckets when the engine starts would make every engine wait for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..draws import Ints
from .batch import DeviceStep, HostStep
from .cascade_plan import WIDTHS, rooms
from .layout import Layout
from .recorder import Recorder
from .survey import Needs

ROWS = (1, 2, 4, 8, *range(16, 257, 8))
PADDING = {"tokens": 0, "positions": 0, "slots": -1, "context": 0, "logit_rows": 0, "follows": -1}


@dataclass(frozen=True, slots=True)
class Bucket:
    """Steps of up to `rows` sequences, one row each, whose shared runs are read for up to `width` queries at once."""

    rows: int
    width: int


@dataclass(slots=True)
class GraphCounts:
    """What became of the decode steps so far."""

    recorded: int = 0  # buckets
    replayed: int = 0  # steps
    unfit: int = 0  # steps that ran eagerly: more rows, pieces or logits than any bucket has room for
    refused: int = 0  # steps that ran eagerly because there was no memory to record their bucket

    def __str__(self) -> str:
        eager = f", {self.unfit} steps too large" if self.unfit else ""
        eager += f", {self.refused} without memory for a graph" if self.refused else ""
        return f"{self.recorded} recorded, {self.replayed} steps replayed{eager}"


@dataclass(frozen=True, slots=True)
class Recording:
    """A bucket, ready to be replayed."""

    layout: Layout
    logits: torch.Tensor  # [rows, vocabulary] fp32: where they come out
    replay: Callable[[], None]


class DecodeGraphs:
    """The recordings of one model on one device. Not for two threads at a time."""

    def __init__(
        self,
        forward: Callable[[DeviceStep], torch.Tensor],
        recorder: Recorder,
        needs: Needs,
        workers: int,
        table_pages: int,
        drawn: torch.Tensor,
    ) -> None:
        """forward: a step on the device -> logits [R, vocabulary] there. No sequence has more than `table_pages`
        pages. Steps follow draws in `drawn`."""
        self.counts = GraphCounts()
        self._forward = forward
        self._recorder = recorder
        self._needs = needs
        self._workers = workers
        self._table_pages = table_pages
        self._drawn = drawn
        largest = self._layout(Bucket(ROWS[-1], WIDTHS[-1]))
        self._indices = torch.zeros(largest.total, dtype=torch.int32, device=drawn.device)
        self._logits: torch.Tensor | None = None  # [rows, vocabulary]: of the largest bucket so far
        self._recordings: dict[Bucket, Recording | None] = {}

    def run(self, host: HostStep) -> torch.Tensor | None:
        """The logits of a decode step, [R, vocabulary] fp32, valid until the next step; None if it must run eagerly."""
        bucket = self._bucket(host)
        if bucket is None:
            self.counts.unfit += 1
            return None
        if bucket not in self._recordings:
            self._recordings[bucket] = self._record(bucket)
        recording = self._recordings[bucket]
        if recording is None:
            self.counts.refused += 1
            return None
        recording.layout.write(padded(host.arrays, bucket), self._indices)
        recording.replay()
        self.counts.replayed += 1
        return recording.logits[: len(host.arrays["logit_rows"])]

    def _bucket(self, host: HostStep) -> Bucket | None:
        """The smallest with room for everything in this step."""
        count = len(host.arrays["context"])
        rows = next((rows for rows in ROWS if rows >= count), None)
        if rows is None:
            return None
        bucket = Bucket(rows, host.widths.get(None, 1))
        layout = self._layout(bucket)
        fits = all(len(array) <= layout.rooms[name] for name, array in host.arrays.items())
        return bucket if fits else None

    def _layout(self, bucket: Bucket) -> Layout:
        """As `HostStep.arrays`, with room for the bucket."""
        rows = bucket.rows
        named = dict.fromkeys(("tokens", "positions", "slots"), rows)
        named |= {"query_start": rows + 1, "context": rows, "page_start": rows + 1, "logit_rows": rows, "follows": rows}
        for tile_rows in self._needs.tile_rows:
            named |= {f"tile_sequence / {tile_rows}": 0, f"tile_row / {tile_rows}": 0}
        for window, width in self._widths(bucket).items():
            plan = rooms(rows, self._workers, width)
            named |= {f"{name} / {window}": room for name, room in plan.items()}
        return Layout.of({**named, "pages": rows * self._table_pages})

    def _widths(self, bucket: Bucket) -> Mapping[int | None, int]:
        """Sliding windows share nothing."""
        return {window: bucket.width if window is None else 1 for window in self._needs.windows}

    def _record(self, bucket: Bucket) -> Recording | None:
        """From padding alone: no step's number is at hand here."""
        layout = self._layout(bucket)
        layout.write(padded(self._nothing(), bucket), self._indices)
        batch = DeviceStep(self._widths(bucket), self._workers, layout.views(self._indices), self._drawn)
        try:
            logits = self._room(self._forward(batch))

            def work() -> None:
                logits.copy_(self._forward(batch))

            replay = self._recorder.record(work)
        except torch.OutOfMemoryError:
            return None
        self.counts.recorded += 1
        return Recording(layout, logits, replay)

    def _room(self, like: torch.Tensor) -> torch.Tensor:
        """Where logits [rows, vocabulary] can stay: all buckets share it, and earlier ones keep what they had."""
        rows, vocabulary = like.shape
        if self._logits is None or len(self._logits) < rows:
            size = 1 << (rows - 1).bit_length()
            self._logits = torch.empty((size, vocabulary), dtype=torch.float32, device=like.device)
        return self._logits[:rows]

    def _nothing(self) -> dict[str, Ints]:
        """The indices of a step without sequences."""
        none: Ints = np.zeros(0, np.int32)
        layout = self._layout(Bucket(ROWS[0], WIDTHS[0]))
        arrays = dict.fromkeys(layout.rooms, none)
        starts = ("query_start", "page_start", *(f"merge_start / {window}" for window in self._needs.windows))
        arrays |= dict.fromkeys(starts, np.zeros(1, np.int32))
        workers: Ints = np.zeros(self._workers + 1, np.int32)
        return arrays | {f"worker_start / {window}": workers for window in self._needs.windows}


def padded(arrays: Mapping[str, Ints], bucket: Bucket) -> dict[str, Ints]:
    """A decode step's indices for a bucket: rows that write nowhere and read nothing follow its own."""
    rows, count = bucket.rows, len(arrays["context"])
    more = rows - count
    found: dict[str, Ints] = {"follows": np.full(count, -1, np.int32), **arrays}
    for name, filler in PADDING.items():
        found[name] = _lengthened(found[name], rows, filler)
    found["query_start"] = np.arange(rows + 1, dtype=np.int32)
    found["page_start"] = _lengthened(found["page_start"], rows + 1, found["page_start"][-1])
    for name in [name for name in arrays if name.startswith("decoding")]:
        window = name.removeprefix("decoding")
        extra = np.arange(count, count + more, dtype=np.int32)  # a padded row without partial results becomes zero
        found[name] = np.concatenate((arrays[name], extra))
        merge_start = arrays[f"merge_start{window}"]
        found[f"merge_start{window}"] = _lengthened(merge_start, rows + 1, merge_start[-1])
    return found


def _lengthened(array: Ints, length: int, filler: int | np.int32) -> Ints:
    longer: Ints = np.full(length, filler, np.int32)
    longer[: len(array)] = array
    return longer
