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
_WIDTHS = (4.0, 8.0, 16.0, 32.0, math.inf)  # how far below the best logit candidates are looked for, in turn


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
        return _draw_any(weights(row, best, temperature), noise)
    ids, kept = truncate(row, best, temperature, top_k, top_p, min_p)
    order = np.argsort(ids)
    cumulative = np.cumsum(kept[order])
    place = int(cumulative.searchsorted(noise * cumulative[-1], side="right"))
    return int(ids[order[min(place, len(ids) - 1)]])


def weights(row: Row, best: int, temperature: float) -> Row:
    """exp((logit - best logit) / temperature) of the whole row [vocabulary]: the best one weighs 1."""
    scaled = row - row[best]
    if temperature != 1.0:
        with np.errstate(over="ignore"):  # -inf is right
            scaled *= np.float32(1.0 / temperature)
    return np.exp(scaled, out=scaled)


def _draw_any(weight: Row, noise: float) -> int:
    blocks = np.add.reduceat(weight, np.arange(0, len(weight), _BLOCK)).cumsum(dtype=np.float64)  # [blocks]
    target = noise * blocks[-1]
    block = min(int(blocks.searchsorted(target, side="right")), len(blocks) - 1)
    inside = weight[block * _BLOCK : (block + 1) * _BLOCK]
    cumulative = inside.cumsum(dtype=np.float64)  # [at most _BLOCK]
    place = int(cumulative.searchsorted(target - (blocks[block - 1] if block else 0.0), side="right"))
    if place == len(inside):  # the sum in float32 was a hair above the sum in float64
        place = int(np.flatnonzero(inside)[-1])
    return block * _BLOCK + place


def truncate(
    row: Row, best: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> tuple[Ids, npt.NDArray[np.float64]]:
    """The kept token ids, best first (smaller ids first among equals), and their weights relative to the best.

    top_p keeps the fewest tokens that reach that share of the mass top_k left; min_p is a share of the best's weight.
    """
    limited = 0 < top_k < len(row)
    need = top_p * float(weights(row, best, temperature).sum(dtype=np.float64)) if top_p < 1.0 and not limited else None
    floor = math.inf  # nothing further below the best can pass min_p, and its mass need not be known
    if min_p > 0.0 and (top_p >= 1.0 or not limited):
        floor = 1e-3 - math.log(min_p)
    for width in _WIDTHS if limited or need is not None else (floor,):
        reach = min(width, floor)
        ids = _within(row, best, reach * temperature)
        kept = np.exp((row[ids].astype(np.float64) - float(row[best])) / temperature)
        if reach == floor or (len(ids) >= top_k if need is None else float(kept.sum()) >= need):
            break
    order = np.argsort(-row[ids], kind="stable")  # the ids ascend, so equals stay in the order of their ids
    ids, kept = ids[order], kept[order]
    if limited:
        ids, kept = ids[:top_k], kept[:top_k]
    if top_p < 1.0:
        cumulative = kept.cumsum()
        share = need if need is not None else top_p * float(cumulative[-1])
        count = int(cumulative.searchsorted(share)) + 1
        ids, kept = ids[:count], kept[:count]
    if min_p > 0.0:
        enough = kept >= min_p
        ids, kept = ids[enough], kept[enough]
    return ids, kept


def best_first(row: Row, count: int) -> Ids:
    """The ids of the `count` largest finite values of the row, best first, smaller ids first among equals."""
    best = int(row.argmax())
    for width in _WIDTHS:
        ids = _within(row, best, width)
        if len(ids) >= count:
            break
    return ids[np.argsort(-row[ids], kind="stable")[:count]]


def _within(row: Row, best: int, distance: float) -> Ids:
    """Ascending ids of all tokens at most `distance` below the best (a hair more, for rounding); -inf never."""
    lowest = np.float32(max(float(row[best]) - distance, -3.4e38))
    return np.flatnonzero(row >= np.nextafter(lowest, np.float32(-np.inf)))
