"""KV in 8 bits (e4m3): written rounded and saturated, read back exactly, half the bytes for decoding to move.

Each head's keys and values have a scale of their own, 1 by default: e4m3 is a floating type, so a scale moves its
range (2^-9 .. 448) and buys no digits, and keys and values of models lie inside of it. A scale is for heads that do not
(keys with large biases): what is stored is x / scale. Keys' scales go into the queries' and values' come after the sum,
so that they cost nothing in the loop.

Products take fp16: it holds every e4m3 exactly, and one instruction converts a pair since sm_89. Multiplying in fp8
would round the queries and the weights to 3 bits too, for arithmetic that decoding has to spare.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

PLAIN, EIGHT, EIGHT_BY_BITS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # kinds of cache: see `cache_kind`
BITS_FACTOR = tl.constexpr(256.0)  # what `narrowed_to_half` leaves out
LARGEST = tl.constexpr(448.0)
SMALLEST_NORMAL = tl.constexpr(0.015625)  # 2^-6
ROUNDS_HERE = tl.constexpr(16384.0)  # 2^14 + x has its last bit at 2^-9, which is where e4m3's smallest numbers have it


def cache_kind(keys: torch.Tensor) -> int:
    """How a kernel reads this cache: as it is, or fp8 with the device's own conversion or with bit arithmetic.

    GPUs before sm_89 have no instruction for fp8; the interpreter goes their way.
    """
    if keys.dtype != torch.float8_e4m3fn:
        return int(PLAIN.value)
    modern = keys.device.type == "cuda" and torch.cuda.get_device_capability(keys.device) >= (8, 9)
    return int(EIGHT.value if modern else EIGHT_BY_BITS.value)


def cache_bits(keys: torch.Tensor) -> torch.Tensor:
    """The cache as kernels take it: fp8 as bytes, because Triton knows no e4m3 before sm_89."""
    return keys.view(torch.uint8) if keys.dtype == torch.float8_e4m3fn else keys


@triton.jit
def narrowed_to_half(x):
    """e4m3 bits (uint8) as fp16, exactly, but 256 times too small: the exponents' biases differ by 8."""
    wide = x.to(tl.uint16)
    return (((wide & 0x80) << 8) | ((wide & 0x7F) << 7)).to(tl.float16, bitcast=True)


@triton.jit
def readable(x, kept: tl.constexpr, KIND: tl.constexpr):
    """Loaded keys or values in the type that products take; EIGHT_BY_BITS leaves them `BITS_FACTOR` times too small."""
    if KIND == EIGHT:
        x = x.to(tl.float8e4nv, bitcast=True)
    elif KIND == EIGHT_BY_BITS:
        x = narrowed_to_half(x)
    return x.to(kept)


@triton.jit
def product_type(q, KIND: tl.constexpr):
    """Queries in the type of the products, saturated."""
    if KIND != PLAIN and q.dtype != tl.float32:
        q = tl.clamp(q.to(tl.float32), -65504.0, 65504.0).to(tl.float16)
    return q


@triton.jit
def cache_scale(Scales, kv_head, part: tl.constexpr, HKV: tl.constexpr, KIND: tl.constexpr):
    """What the cached keys (part 0) or values (part 1) of a head are to be multiplied by, once, outside of the loop."""
    scale = 1.0
    if KIND != PLAIN:
        scale *= tl.load(Scales + part * HKV + kv_head)
    if KIND == EIGHT_BY_BITS:
        scale *= BITS_FACTOR
    return scale


@triton.jit
def rounded_to_bits(x):
    """fp32 as e4m3 bits (uint8): to the nearest, ties to even, saturated at 448."""
    bits = x.to(tl.uint32, bitcast=True)
    size = tl.minimum(tl.abs(x), LARGEST)
    normal = size.to(tl.uint32, bitcast=True)
    normal = ((normal + 0x7FFFF + ((normal >> 20) & 1)) >> 20) - (120 << 3)
    small = (size + ROUNDS_HERE).to(tl.uint32, bitcast=True) & 0xF
    return (tl.where(size < SMALLEST_NORMAL, small, normal) | ((bits >> 31) << 7)).to(tl.uint8)
