"""The kernels between attention and the engine, each alone at the shapes of its floor in docs/kernels.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from ramify.kernels.ops import AttentionSpec
from ramify.kernels.triton import floors, pages, rows, write_kv
from ramify.kernels.triton.floors import Floor
from ramify.kernels.triton.products import product
from ramify.kernels.triton.sampling import apply_masks
from ramify.kernels.triton.tune_products import FORMATS, MATRICES, Drawn
from ramify.kernels.triton.weights import Packing, multiply

from .findings import Section, first_line, time_of
from .scene import Scene

TITLE = "Every other kernel against its floor"


def measure(scene: Scene, section: Section) -> None:
    table = section.table(
        "Floor: bytes at the measured bandwidth, or operations at the measured rate, whichever takes longer",
        "kernel", "shape", "median", "best", "floor", "of the floor",
    )  # fmt: skip
    for name, shape, floor, run in [*row_kernels(scene), *products(scene)]:
        try:
            timing = scene.timed(run)
        except Exception as error:
            table.add(name, shape, first_line(error), "-", "-", "-")
            continue
        least = floor.seconds(scene.ceilings.bandwidth, scene.ceilings.operations)
        table.add(
            name, shape, time_of(timing.median), time_of(timing.least), time_of(least), f"{least / timing.median:.0%}"
        )


Kernel = tuple[str, str, Floor, Callable[[], object]]


def row_kernels(scene: Scene) -> Iterator[Kernel]:
    """Norms, gates, rows, the write to the cache, masks and pages."""
    tokens, width, inner = scene.pick((8192, 4096, 14336), (3, 64, 64))
    x, residual = scene.randn(tokens, width), scene.randn(tokens, width)
    weight = torch.ones(width, device=scene.device)
    shape = f"{tokens:,} rows of {width:,}"
    yield "rms_norm", shape, floors.rms_norm(tokens, width), lambda: rows.rms_norm(x, weight, 1e-5)
    yield (
        "rms_norm with residual", shape, floors.rms_norm(tokens, width, residual=True),
        lambda: rows.rms_norm(x, weight, 1e-5, residual),
    )  # fmt: skip
    both = scene.randn(tokens, 2 * inner)
    yield "gated", f"{tokens:,} rows of {inner:,}", floors.gated(tokens, inner), lambda: rows.gated(both, "silu")
    index = torch.randperm(tokens, device=scene.device).int()
    yield "take_rows", shape, floors.take_rows(tokens, width), lambda: rows.take_rows(x, index)

    heads, kv_heads, head_dim = scene.pick((32, 8, 128), (2, 1, 32))
    spec = AttentionSpec(layer=0, heads=heads, kv_heads=kv_heads, head_dim=head_dim, scale=1.0, rope=0)
    qkv = scene.randn(tokens, (heads + 2 * kv_heads) * head_dim)
    places = torch.arange(tokens, dtype=torch.int32, device=scene.device)
    tables = [torch.rand(tokens, head_dim // 2, device=scene.device) for _ in range(2)]
    cache = scene.randn(2, -(-tokens // 16), 16, kv_heads, head_dim)
    written = floors.write_kv(tokens, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    yield (
        "write_kv", f"{tokens:,} rows", written,
        lambda: write_kv.write_kv(qkv, places, places, *tables, cache[0], cache[1], spec),
    )  # fmt: skip

    batch, vocabulary = scene.pick((64, 128256), (2, 100))
    logits = torch.randn(batch, vocabulary, device=scene.device)
    masks = torch.randint(-(2**31), 2**31, (batch, -(-vocabulary // 32)), device=scene.device).int()
    each = torch.arange(batch, dtype=torch.int32, device=scene.device)
    yield (
        "apply_masks", f"{batch} rows of {vocabulary:,}", floors.apply_masks(batch, vocabulary),
        lambda: apply_masks(logits, masks, each),
    )  # fmt: skip
    layers, count = scene.pick((32, 64), (1, 2))
    pool = scene.randn(layers, 2, 4 * count, 16, kv_heads, head_dim)
    moved = torch.randperm(4 * count, device=scene.device)[:count].int()
    floor = floors.move_pages(count, 2 * layers, 16 * kv_heads * head_dim * 2)
    yield "gather_pages", f"{count} pages, {layers} layers", floor, lambda: pages.gather_pages(pool, moved)


def products(scene: Scene) -> Iterator[Kernel]:
    """Each format by the product that the table or the rule chooses for it."""
    n, k = scene.pick(MATRICES[2], (64, 64))
    for format in FORMATS:
        matrix = Packing(format, scene.device).linear([Drawn((n, k), scene.device)], name="drawn")
        for count in scene.pick((1, 16, 64, 1024), (1, 16)):
            x = scene.randn(count, k)
            chosen = product(format, n, k, count, scene.device).kernel
            yield (
                f"{format} by {chosen}", f"{count:,} rows, {n:,} x {k:,}", floors.matmul(count, n, k, format),
                lambda x=x, matrix=matrix: multiply(x, matrix),
            )  # fmt: skip
