"""Draws one token from a row of logits: temperature, top-k, top-p and min-p without sorting the vocabulary.

The noise of a draw is a hash of (seed, position), and the draw walks the kept tokens in the order of their ids. So it
depends on the row, the seed and the position alone, and logits that differ in their last bits (another batch, a cached
prefix) move the boundaries between tokens by as little; in order of probability, near-equal tokens could trade places.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float32]  # [vocabulary]
Ids = npt.NDArray[np.int64]

_MASK = 2**64 - 1
_BLOCK = 256  # a full draw finds the block first, then the token in it
_WIDTHS = (4.0, 8.0, 16.0, math.inf)  # how far below the best logit the top k are looked for, in turn
_NEAR = np.float32(math.exp(-8.0))  # lighter tokens are looked at only when the others do not make up the mass
_SORTED = 512  # more tokens than this are binned before they are sorted
_BINS = 2_048


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1), a pure function of its arguments: splitmix64's finalizer over both."""
    return (_mix(_mix(seed & _MASK) ^ _mix((position + 0x632BE59BD9B4E019) & _MASK)) >> 11) * 2.0**-53


def _mix(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) & _MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)


def draw(row: Row, best: int, noise: float, temperature: float, top_k: int, top_p: float, min_p: float) -> int:
    """The token that `noise` in [0, 1) picks; `best` is the row's (finite) argmax."""
    if not 0 < top_k < len(row) and top_p >= 1.0 and min_p <= 0.0:
        return _draw_any(_weights(row, best, temperature), noise)
    ids, kept = truncate(row, best, temperature, top_k, top_p, min_p)
    cumulative = kept.cumsum()
    place = int(cumulative.searchsorted(noise * cumulative[-1], side="right"))
    return int(ids[min(place, len(ids) - 1)])


def truncate(
    row: Row, best: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> tuple[Ids, npt.NDArray[np.float64]]:
    """The kept token ids, ascending, and their weights relative to the best one's.

    top_p keeps the fewest tokens that reach that share of the mass top_k left; min_p is a share of the best's weight.
    Among equals the smaller ids are kept.
    """
    if 0 < top_k < len(row):
        ids = _top(row, best, top_k)
        kept = np.exp((row[ids].astype(np.float64) - float(row[best])) / temperature)
        need = top_p * float(kept.sum())
    elif top_p < 1.0:
        every = _weights(row, best, temperature)  # [vocabulary]
        need = top_p * float(every.sum(dtype=np.float64))
        ids = np.flatnonzero(every >= _NEAR)
        if float(every[ids].sum(dtype=np.float64)) < need:
            ids = np.flatnonzero(every)
        kept = every[ids].astype(np.float64)
    else:  # min_p alone: nothing much further below the best can pass, and no other mass need be known
        ids = _within(row, best, (1e-3 - math.log(min_p)) * temperature)
        kept = np.exp((row[ids].astype(np.float64) - float(row[best])) / temperature)
        need = math.inf
    if top_p < 1.0:
        heavy = _heaviest(row[ids], kept, need)
        ids, kept = ids[heavy], kept[heavy]
    if min_p > 0.0:
        enough = kept >= min_p
        ids, kept = ids[enough], kept[enough]
    return ids, kept


def best_first(row: Row, count: int) -> Ids:
    """The ids of the `count` largest finite values of the row, best first, smaller ids first among equals."""
    ids = _top(row, int(row.argmax()), count)
    return ids[np.argsort(-row[ids], kind="stable")]


def _weights(row: Row, best: int, temperature: float) -> Row:
    """exp((logit - best logit) / temperature) of the whole row [vocabulary]: the best one weighs 1."""
    scaled = row - row[best]
    if temperature != 1.0:
        with np.errstate(over="ignore"):  # -inf is right
            scaled *= np.float32(1.0 / temperature)
    np.exp(scaled, out=scaled)
    return scaled


def _draw_any(weight: Row, noise: float) -> int:
    """Inverts the cumulative sum over all tokens: first that of blocks, then that of the tokens in one block."""
    blocks = np.add.reduceat(weight, np.arange(0, len(weight), _BLOCK)).cumsum(dtype=np.float64)  # [blocks]
    target = noise * blocks[-1]
    block = min(int(blocks.searchsorted(target, side="right")), len(blocks) - 1)
    inside = weight[block * _BLOCK : (block + 1) * _BLOCK]
    cumulative = inside.cumsum(dtype=np.float64)  # [at most _BLOCK]
    place = int(cumulative.searchsorted(target - (blocks[block - 1] if block else 0.0), side="right"))
    if place == len(inside):  # the sum in float32 was a hair above the sum in float64
        place = int(np.flatnonzero(inside)[-1])
    return block * _BLOCK + place


def _top(row: Row, best: int, count: int) -> Ids:
    """Ascending ids of the `count` largest finite values, smaller ids among equals."""
    for width in _WIDTHS:
        ids = _within(row, best, width)
        if len(ids) >= count:
            break
    surplus = len(ids) - count
    if surplus <= 0:
        return ids
    values = row[ids]
    last = np.partition(values, surplus)[surplus]
    chosen = values > last
    chosen[np.flatnonzero(values == last)[: count - np.count_nonzero(chosen)]] = True
    return ids[chosen]


def _heaviest(values: Row, kept: npt.NDArray[np.float64], need: float) -> npt.NDArray[np.bool_]:
    """Which of the tokens make up the smallest set whose weights reach `need`: larger values first, then smaller ids.

    Many tokens are first put into bins by value, so that only the bin where the limit falls is sorted.
    """
    if len(values) > _SORTED and (span := float(values.max() - values.min())) > 0.0:
        bins = ((values.max() - values) * np.float32(_BINS / span)).astype(np.int64)
        cumulative = np.bincount(bins, weights=kept).cumsum()
        limit = int(cumulative.searchsorted(need))
        chosen: npt.NDArray[np.bool_] = bins < limit
        inside = np.flatnonzero(bins == limit)
        need -= float(cumulative[limit - 1]) if limit else 0.0
    else:
        chosen, inside = np.zeros(len(values), np.bool_), np.arange(len(values))
    order = inside[np.argsort(-values[inside], kind="stable")]
    chosen[order[: int(kept[order].cumsum().searchsorted(need)) + 1]] = True
    return chosen


def _within(row: Row, best: int, distance: float) -> Ids:
    """Ascending ids of all tokens at most `distance` below the best (a hair more, for rounding); -inf never."""
    lowest = np.float32(max(float(row[best]) - distance, -3.4e38))
    return np.flatnonzero(row >= np.nextafter(lowest, np.float32(-np.inf)))
