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
Weights = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

_MASK = 2**64 - 1
_BLOCK = 256  # a full draw finds the block first, then the token in it
_WIDTHS = (4.0, 8.0, 16.0, math.inf)  # how far below the best logit the top k are looked for, in turn
_NEAR = np.float32(math.exp(-8.0))  # lighter tokens are looked at only when the others do not make up the mass
_SORTED = 1_024  # more tokens than this are binned before they are sorted
_BINS = 4_096
_WEIGHTLESS = 104.0  # exp of minus this is 0 in float32


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1), a pure function of its arguments: splitmix64's finalizer over both."""
    return (noise_bits(seed, position) >> 11) * 2.0**-53


def noise_bits(seed: int, position: int) -> int:
    """64 bits, a pure function of the arguments."""
    return _mix(_mix(seed & _MASK) ^ _mix((position + 0x632BE59BD9B4E019) & _MASK))


def _mix(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) & _MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)


def draw(row: Row, best: int, noise: float, temperature: float, top_k: int, top_p: float, min_p: float) -> int:
    """The token that `noise` in [0, 1) picks; `best` is the row's (finite) argmax."""
    ids, kept = truncate(row, best, temperature, top_k, top_p, min_p)
    if ids is None:
        return _draw_any(kept, noise)
    cumulative = kept.cumsum(dtype=np.float64)
    place = int(cumulative.searchsorted(noise * cumulative[-1], side="right"))
    return int(ids[min(place, len(ids) - 1)])


def truncate(
    row: Row, best: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> tuple[Ids | None, Weights]:
    """The kept token ids, ascending, and their weights relative to the best one's; or None and weights [vocabulary].

    top_p keeps the fewest tokens that reach that share of the mass top_k left; min_p is a share of the best's weight.
    Among equals the smaller ids are kept.
    """
    ids: Ids | None
    kept: Weights
    if 0 < top_k < len(row):
        ids = _top(row, best, top_k)
        kept = _weights(row[ids], row[best], temperature)
        need = top_p * float(kept.sum(dtype=np.float64))
    elif top_p >= 1.0 and min_p > 0.0:  # nothing much further below the best can pass: no other mass need be known
        ids = _within(row, best, (1e-3 - math.log(min_p)) * temperature)
        kept = _weights(row[ids], row[best], temperature)
        return _cut(ids, kept, kept >= min_p)
    else:
        ids, kept = None, _weights(row, row[best], temperature)
        if top_p >= 1.0:
            return None, kept
        need = top_p * float(kept.sum(dtype=np.float64))
        near = np.flatnonzero(kept >= _NEAR)
        if len(near) <= _SORTED and float(kept[near].sum(dtype=np.float64)) >= need:
            ids, kept = near, kept[near]
    if top_p < 1.0:
        ids, kept = _cut(ids, kept, _heaviest(row if ids is None else row[ids], kept, need, temperature))
    if min_p > 0.0:
        ids, kept = _cut(ids, kept, kept >= min_p)
    return ids, kept


def best_first(row: Row, count: int) -> Ids:
    """The ids of the `count` largest finite values of the row, best first, smaller ids first among equals."""
    ids = _top(row, int(row.argmax()), count)
    return ids[np.argsort(-row[ids], kind="stable")]


def _weights(values: Row, best: np.float32, temperature: float) -> Row:
    """exp((value - best) / temperature): the best one weighs 1."""
    scaled = values - best
    if temperature != 1.0:
        with np.errstate(over="ignore"):  # -inf is right
            scaled *= np.float32(1.0 / temperature)
    np.exp(scaled, out=scaled)
    return scaled


def _cut(ids: Ids | None, kept: Weights, stay: npt.NDArray[np.bool_]) -> tuple[Ids | None, Weights]:
    """Only the tokens that stay: the others leave a list, and weigh nothing in a vocabulary."""
    if ids is None:
        return None, kept * stay
    return ids[stay], kept[stay]


def _draw_any(weight: Weights, noise: float) -> int:
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
    kept: Ids = ids[chosen]
    return kept


def _heaviest(values: Row, kept: Weights, need: float, temperature: float) -> npt.NDArray[np.bool_]:
    """Which of the tokens make up the smallest set whose weights reach `need`: larger values first, then smaller ids.

    Many tokens are first put into bins by value, so that only the bin where the limit falls is sorted.
    """
    chosen = np.zeros(len(values), np.bool_)
    inside = np.arange(len(values))
    if len(values) > _SORTED:
        scale = _BINS / (_WEIGHTLESS * temperature)
        bins = np.minimum((values.max() - values) * np.float32(scale), np.float32(_BINS)).astype(np.int64)
        cumulative = np.bincount(bins, weights=kept).cumsum()
        limit = int(cumulative.searchsorted(need))
        chosen = bins < limit
        inside = np.flatnonzero(bins == limit)
        need -= float(cumulative[limit - 1]) if limit else 0.0
    order = inside[np.argsort(-values[inside], kind="stable")]
    chosen[order[: int(kept[order].cumsum(dtype=np.float64).searchsorted(need)) + 1]] = True
    return chosen


def _within(row: Row, best: int, distance: float) -> Ids:
    """Ascending ids of all tokens at most `distance` below the best (a hair more, for rounding); -inf never."""
    lowest = np.float32(max(float(row[best]) - distance, -3.4e38))
    return np.flatnonzero(row >= np.nextafter(lowest, np.float32(-np.inf)))
