"""The noise of a draw, number for number as Triton's `tl.rand` makes it: Philox 4x32-10 (Salmon et al., SC 2011)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .draws import Floats

Wide = np.ndarray[Any, np.dtype[np.uint64]]

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
ROUND_A, ROUND_B = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_A, KEY_B = 0x9E3779B9, 0xBB67AE85


def gumbel(seed: int, count: int) -> Floats:
    """Gumbel noise for tokens 0 .. count of one draw: the largest logit / temperature + noise is drawn."""
    u = np.clip(uniform(seed, count), np.float32(1e-10), np.float32(0.99999994))  # neither logarithm is infinite
    noise: Floats = -np.log(-np.log(u))
    return noise


def uniform(seed: int, count: int) -> Floats:
    """`tl.rand(seed, arange(count))`: fp32 in [0, 1)."""
    bits = philox(seed, count).astype(np.uint32).view(np.int32)
    folded = np.where(bits < 0, ~bits, bits).astype(np.float32)
    shares: Floats = folded * np.float32(4.6566127342e-10)
    return shares


def philox(seed: int, count: int) -> Wide:
    """The first of the four numbers, below 2^32, that each counter 0 .. count gives under this 64-bit key."""
    key_a, key_b = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    c0: Wide = np.arange(count, dtype=np.uint64)
    c1 = c2 = c3 = np.zeros(count, np.uint64)
    for _ in range(10):
        product_a, product_b = ROUND_A * c0, ROUND_B * c2  # exact: 32 bits by 32 bits
        c0, c2 = (product_b >> HALF) ^ c1 ^ np.uint64(key_a), (product_a >> HALF) ^ c3 ^ np.uint64(key_b)
        c1, c3 = product_b & LOW, product_a & LOW
        key_a, key_b = (key_a + KEY_A) & 0xFFFFFFFF, (key_b + KEY_B) & 0xFFFFFFFF
    return c0
