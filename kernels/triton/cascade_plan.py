"""Finds what decoding sequences share, from their page tables, and plans to read it once.

Sequences whose tables begin with the same pages share those keys. The tables form a tree: a node is a run of pages
with the same readers. Each node is read once for all its readers (tiles of at most `tile_queries`), every sequence's
own rest once for it alone, and each reader's partial results are merged by log-sum-exp:

    A A A B B          node 1 (A A A): readers 1, 2, 3
    A A A C            node 2 (B B): reader 1      node 3 (C): reader 2      ...
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..ops import Step
from .plan import Ints, split_plan

WORTH = 64  # keys: a shorter run costs more to merge than to read again
WIDTHS = (1, 8, 32)  # queries that a piece has room for: the decode kernel is compiled, and recorded, for each
ARRAYS = (
    "worker_start", "table", "key_start", "key_stop", "reader_start", "readers", "decoding", "merge_start", "partial"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """Keys first .. stop of a page table, and the sequences that read them."""

    table: int  # where the page table begins, an index into Step.pages
    first: int
    stop: int
    readers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CascadePlan:
    """Pieces of work for the decode kernel. Piece p reads keys key_start[p] .. key_stop[p] of the page table at
    table[p] for reader_start[p] .. reader_start[p + 1] of `readers` (sequences), and leaves one partial result for
    each: partial i is for readers[i]. Sequence decoding[i] has partial[merge_start[i] : merge_start[i + 1]].
    """

    worker_start: torch.Tensor
    table: torch.Tensor
    key_start: torch.Tensor
    key_stop: torch.Tensor
    reader_start: torch.Tensor
    readers: torch.Tensor
    decoding: torch.Tensor
    merge_start: torch.Tensor
    partial: torch.Tensor
    workers: int
    tile_queries: int  # one of WIDTHS: no piece has more readers

    @property
    def keys_read(self) -> int:
        """By all pieces: what the plan saves shows here."""
        return int((self.key_stop - self.key_start).sum())


def cascade_plan(step: Step, decoding: Ints, page_size: int, workers: int, window: int | None = None) -> CascadePlan:
    """The plan for these sequences of a step, one query each, on the CPU. Sliding windows share nothing: their starts
    differ."""
    runs = shared_runs(step, decoding, page_size) if window is None else []
    if window is not None:
        for s in decoding.tolist():
            stop = int(step.context[s])
            runs.append(Run(int(step.page_start[s]), max(0, stop - window), stop, (s,)))
    widest = max((len(run.readers) for run in runs), default=1)
    tile_queries = next((width for width in WIDTHS if width >= widest), WIDTHS[-1])
    tiles = [
        Run(run.table, run.first, run.stop, run.readers[at : at + tile_queries])
        for run in runs
        for at in range(0, len(run.readers), tile_queries)
    ]
    split = split_plan(_ints(run.first for run in tiles), _ints(run.stop for run in tiles), workers)
    pieces = [tiles[i] for i in split.sequence.tolist()]
    reader_start = np.cumsum([0, *(len(piece.readers) for piece in pieces)])
    readers = _ints(reader for piece in pieces for reader in piece.readers)
    place = np.zeros(len(step.context), np.int64)
    place[decoding] = np.arange(len(decoding))
    merge_start = np.cumsum([0, *np.bincount(place[readers], minlength=len(decoding))])
    return CascadePlan(
        worker_start=torch.from_numpy(split.worker_start),
        table=torch.from_numpy(_ints(piece.table for piece in pieces)),
        key_start=torch.from_numpy(split.key_start),
        key_stop=torch.from_numpy(split.key_stop),
        reader_start=torch.from_numpy(reader_start.astype(np.int32)),
        readers=torch.from_numpy(readers),
        decoding=torch.from_numpy(np.asarray(decoding, np.int32)),
        merge_start=torch.from_numpy(merge_start.astype(np.int32)),
        partial=torch.from_numpy(np.argsort(place[readers], kind="stable").astype(np.int32)),
        workers=workers,
        tile_queries=tile_queries,
    )


def shared_runs(step: Step, decoding: Ints, page_size: int) -> list[Run]:
    """Every run of keys with its readers; each sequence's runs, put together, are its whole context."""
    _, family_of, sizes = np.unique(step.pages[step.page_start[decoding]], return_inverse=True, return_counts=True)
    alone = sizes[family_of] == 1  # nobody else begins with the same page
    runs = [_rest(step, s, 0) for s in decoding[alone].tolist()]
    tables = {s: step.pages[step.page_start[s] : step.page_start[s + 1]].tolist() for s in decoding[~alone].tolist()}
    # only pages that are full for a sequence can be shared with another
    full = {s: tables[s][: int(step.context[s]) // page_size] for s in tables}
    order = sorted(tables, key=lambda s: full[s])
    pending = [(order, 0)] if order else []
    while pending:
        group, depth = pending.pop()  # sequences whose first `depth` pages are the same
        if len(group) == 1:
            runs.append(_rest(step, group[0], depth * page_size))
            continue
        first, last = full[group[0]], full[group[-1]]
        common = depth  # sorted: what the first and the last share, all share
        while common < min(len(first), len(last)) and first[common] == last[common]:
            common += 1
        if common > depth and (common - depth) * page_size >= WORTH:
            runs.append(Run(int(step.page_start[group[0]]), depth * page_size, common * page_size, tuple(group)))
            depth = common
        if common > depth:  # too short to be worth a merge: read with each one's rest
            runs += [_rest(step, s, depth * page_size) for s in group]
            continue
        families: dict[int | None, list[int]] = {}
        for s in group:
            families.setdefault(full[s][depth] if depth < len(full[s]) else None, []).append(s)
        for page, family in families.items():
            if page is None:
                runs += [run for s in family if (run := _rest(step, s, depth * page_size)).stop > run.first]
            else:
                pending.append((family, depth))
    return [run for run in runs if run.stop > run.first]


def _rest(step: Step, sequence: int, first: int) -> Run:
    return Run(int(step.page_start[sequence]), first, int(step.context[sequence]), (sequence,))


def _ints(values: object) -> Ints:
    return np.fromiter(values, np.int32)  # type: ignore[call-overload, no-any-return]


def rooms(rows: int, workers: int, width: int) -> dict[str, int]:
    """How long a plan's arrays can become for so many decoding sequences, in the order of ARRAYS.

    Without sharing (width 1) that is exact: a piece begins where a sequence or a worker's share does. A tree of
    prefixes has at most two runs for each sequence; its partial results have room for a few levels.
    """
    pieces = rows + workers if width == 1 else 3 * rows + workers
    partials = pieces if width == 1 else 4 * rows + workers * width
    long = {
        "worker_start": workers + 1,
        "reader_start": pieces + 1,
        "readers": partials,
        "decoding": rows,
        "merge_start": rows + 1,
        "partial": partials,
    }
    return {name: long.get(name, pieces) for name in ARRAYS}
