"""What each kernel cannot do without: the bytes it must move and the operations it must do, by its shape.

Each operand is counted once, read or written; what fits a cache (tables of cos and sin, page tables, a tile that many
programs read) is not counted again. Operations are counted where tensor cores do them: two for a multiply and an add.
A floor is arithmetic and no measurement: nothing with this traffic takes less than bytes / bandwidth, or
operations / rate. Timings are held against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BANDWIDTH = 4.3e12  # bytes a second of a copy on an H200, as it has been measured there; for the table only
RATE = 790e12  # operations a second of bf16 products on the same; in 8 bits a device may do twice as many
WEIGHT_BYTES: Mapping[str, float] = {"fp32": 4, "bf16": 2, "fp8": 1, "int8": 1, "int4": 0.5 + 4 / 32}


@dataclass(frozen=True, slots=True)
class Floor:
    """Bytes to and from memory, and operations of matrix products."""

    bytes: int
    operations: int = 0

    def seconds(self, bandwidth: float, rate: float) -> float:
        """The time that cannot be beaten on a device with these two ceilings."""
        return max(self.bytes / bandwidth, self.operations / rate)


def attention(
    queries: Sequence[int],
    contexts: Sequence[int],
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    width: int = 2,
    cache_width: int = 2,
    window: int | None = None,
    shared: int = 0,
) -> Floor:
    """Causal attention of the last `queries[s]` tokens of `contexts[s]`, prefill or decode; `width` of a query's number
    in bytes, `cache_width` of a key's. The first `shared` keys are the same memory for all."""
    pairs = keys = 0
    for rows, length in zip(queries, contexts, strict=True):
        first = length - rows  # the position of the first query
        seen = (rows * (first + 1 + length)) // 2  # first + 1 .. length keys
        if window is not None:
            seen = sum(min(position + 1, window) for position in range(first, length))
        pairs += seen
        low = 0 if window is None else max(0, first - window + 1)
        keys += length - max(low, shared)
    keys += shared
    numbers = 2 * sum(queries) * heads * head_dim
    return Floor(2 * keys * kv_heads * head_dim * cache_width + numbers * width, 4 * pairs * heads * head_dim)


def merge(sequences: int, partials: int, *, heads: int, head_dim: int, width: int = 2) -> Floor:
    """Partial results in fp32 with their weights, and the merged ones."""
    return Floor(partials * heads * (head_dim + 1) * 4 + sequences * heads * head_dim * width)


def write_kv(rows: int, *, heads: int, kv_heads: int, head_dim: int, width: int = 2, cache_width: int = 2) -> Floor:
    """The packed projections, the rotated queries, and the keys and values in their pages."""
    packed = rows * (heads + 2 * kv_heads) * head_dim * width
    return Floor(packed + rows * head_dim * (heads * width + 2 * kv_heads * cache_width))


def matmul(rows: int, n: int, k: int, format: str, width: int = 2, result_width: int | None = None) -> Floor:
    """[rows, K] times [N, K] in this format."""
    weights = int(n * k * WEIGHT_BYTES[format])
    return Floor(weights + rows * k * width + rows * n * (result_width or width), 2 * rows * n * k)


def rms_norm(rows: int, size: int, *, residual: bool = False, width: int = 2) -> Floor:
    """The input and the result; with a residual, that too, read and written."""
    return Floor((4 if residual else 2) * rows * size * width)


def gated(rows: int, size: int, width: int = 2) -> Floor:
    """Gate and up, and the result of `size` numbers."""
    return Floor(3 * rows * size * width)


def take_rows(rows: int, size: int, width: int = 2) -> Floor:
    """Each taken row, read and written."""
    return Floor(2 * rows * size * width)


def apply_masks(rows: int, vocabulary: int, forbidden: float = 0.5) -> Floor:
    """The masks' bits, and what they forbid, written in fp32."""
    return Floor(rows * (-(-vocabulary // 32) * 4 + int(forbidden * vocabulary * 4)))


def sample(rows: int, vocabulary: int, *, masked: bool = True) -> Floor:
    """The logits in fp32 and the masks' bits, read once."""
    return Floor(rows * (vocabulary * 4 + (-(-vocabulary // 32) * 4 if masked else 0)))


def edit(edits: int) -> Floor:
    """Each edited logit, read and written, with its token and three numbers."""
    return Floor(edits * (4 + 3 * 4 + 2 * 4))


def follow(rows: int) -> Floor:
    """A token, the draw it follows, that draw's token, and the result."""
    return Floor(rows * 4 * 4)


def move_pages(pages: int, planes: int, page_bytes: int) -> Floor:
    """Every byte of every page, read and written."""
    return Floor(2 * pages * planes * page_bytes)


def quantize_rows(rows: int, size: int, group: int, width: int = 2) -> Floor:
    """Numbers in, bytes and scales out."""
    return Floor(rows * (size * (width + 1) + -(-size // group) * 4))


def unpack(n: int, k: int, format: str, width: int = 2) -> Floor:
    """Packed weights in, plain ones out."""
    return Floor(int(n * k * (WEIGHT_BYTES[format] + width)))


def add_parts(parts: int, rows: int, n: int, width: int = 2) -> Floor:
    """The parts in fp32, and their sum."""
    return Floor(rows * n * (4 * parts + width))


LLAMA = {"heads": 32, "kv_heads": 8, "head_dim": 128}  # of Llama 3 8B, whose shapes the table states


def stated() -> dict[str, tuple[str, Floor]]:
    """By kernel, the shape that docs/kernels.md states its floor for."""
    return {
        "extend_attention": ("one prompt of 16,384 tokens", attention([16384], [16384], **LLAMA)),
        "decode_attention": ("32 sequences of 8,192 tokens", attention([1] * 32, [8192] * 32, **LLAMA)),
        "merge": ("32 sequences in 64 parts", merge(32, 64, heads=32, head_dim=128)),
        "rms_norm": ("8,192 rows of 4,096, with residual", rms_norm(8192, 4096, residual=True)),
        "gated": ("8,192 rows of 14,336", gated(8192, 14336)),
        "take_rows": ("8,192 rows of 4,096", take_rows(8192, 4096)),
        "write_kv": ("8,192 rows", write_kv(8192, **LLAMA)),
        "apply_masks": ("64 rows of 128,256, half forbidden", apply_masks(64, 128256)),
        "sample": ("64 rows of 128,256, masked", sample(64, 128256)),
        "edit": ("64 rows, 100 edits each", edit(6400)),
        "follow": ("64 rows", follow(64)),
        "move_pages": ("64 pages of 16 tokens, 32 layers", move_pages(64, 64, 16 * 8 * 128 * 2)),
        "gemv": ("1 row, 28,672 x 4,096, bf16", matmul(1, 28672, 4096, "bf16")),
        "flat_matmul": ("64 rows, 28,672 x 4,096, fp8", matmul(64, 28672, 4096, "fp8")),
        "int4_gemv": ("1 row, 28,672 x 4,096", matmul(1, 28672, 4096, "int4")),
        "int4_matmul": ("64 rows, 28,672 x 4,096", matmul(64, 28672, 4096, "int4")),
        "w8a8_matmul": ("1,024 rows, 28,672 x 4,096", matmul(1024, 28672, 4096, "int8", 1, 2)),
        "int4_unpacked": ("28,672 x 4,096", unpack(28672, 4096, "int4")),
        "add_parts": ("8 parts of 16 rows, 4,096 wide", add_parts(8, 16, 4096)),
        "quantize_rows": ("1,024 rows of 4,096, groups of 128", quantize_rows(1024, 4096, 128)),
    }


def markdown() -> str:
    """The floors of the stated shapes, with the least time for an H200's ceilings: arithmetic, not measured."""
    lines = [
        f"| kernel | shape | MB | GFLOP | at {BANDWIDTH / 1e12:g} TB/s | at {RATE / 1e12:g} TFLOP/s | bound by |",
        "|---|---|---|---|---|---|---|",
    ]
    for kernel, (shape, floor) in stated().items():
        moving, working = floor.bytes / BANDWIDTH * 1e6, floor.operations / RATE * 1e6
        bound = "bytes" if moving >= working else "operations"
        numbers = (floor.bytes / 1e6, floor.operations / 1e9, moving, working)
        megabytes, gigaflop, by_bytes, by_operations = map(_short, numbers)
        lines.append(
            f"| {kernel} | {shape} | {megabytes} | {gigaflop} | {by_bytes} us | {by_operations} us | {bound} |"
        )
    return "\n".join(lines)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"
