"""Decode attention: 32 sequences of 8k and one of 64k, against bandwidth, unsplit, and over contiguous keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .ceilings import rate
from .findings import Section, Table, time_of
from .paged import Paged, difference, paged
from .scene import Scene, Timing

TITLE = "Decode attention"
BOUND = 3e-2  # of the largest value, in bf16
FP8_BOUND = 0.15  # keys and values of 4 bits


def measure(scene: Scene, section: Section) -> None:
    table = section.table(
        "One new token for each sequence, 32 heads over 8, head 128, bf16",
        "batch", "kernel", "median", "best", "bytes", "rate", "of the copy's rate",
    )  # fmt: skip
    for count, context in scene.pick([(32, 8192), (1, 65536)], [(3, 80), (1, 150)]):
        named = f"{count} x {context}"
        setup = paged(scene, [1] * count, [context] * count)
        run, out, _ = setup.decode()
        ours = _timed(scene, table, named, "ramify, pages of 16, anywhere", setup, run)
        share = bytes_of(setup) / ours.median / scene.ceilings.bandwidth
        section.at_least(f"decode, {named}: of the measured copy bandwidth", share, 0.75)
        error = difference(out, expected_of(setup))
        section.right(f"decode, {named}: largest error by the largest value", error, BOUND)

        for programs in (1, 3, 4):
            run, _, _ = setup.decode(workers=setup.workers_for(programs))
            _timed(scene, table, named, f"ramify, programs for each processor: {programs}", setup, run)
        run, _, _ = setup.decode(unified=1)
        _timed(scene, table, named, "ramify, unified maximum", setup, run)
        eight = setup.in_fp8()
        run, out, _ = eight.decode()
        _timed(scene, table, named, "ramify, KV in fp8", eight, run)
        error = difference(out, expected_of(setup))
        section.right(f"decode, {named}: largest error with KV in fp8", error, FP8_BOUND)

        unsplit, _, _ = setup.decode(workers=count)  # as many workers as sequences: nobody's keys are cut
        alone = _timed(scene, table, named, "ramify, a worker for each sequence", setup, unsplit)
        if count == 1:
            section.at_least(f"decode, {named}: faster than unsplit", alone.median / ours.median, 4.0)

        flat = paged(scene, [1] * count, [context] * count, page_size=scene.pick(context, 16), in_order=True)
        run, _, _ = flat.decode()
        contiguous = _timed(scene, table, named, "ramify, each sequence in one piece", flat, run)
        section.at_least(f"decode, {named}: paged by contiguous", contiguous.median / ours.median, 0.95)
        peer = _torch(flat)
        _timed(scene, table, named, f"torch {torch.__version__}, contiguous", flat, peer)


def _timed(scene: Scene, table: Table, named: str, kernel: str, setup: Paged, run: object) -> Timing:
    timing = scene.timed(run)  # type: ignore[arg-type]
    moved = bytes_of(setup) / timing.median
    table.add(
        named, kernel, time_of(timing.median), time_of(timing.least), f"{bytes_of(setup) / 1e6:.0f} MB", rate(moved),
        f"{moved / scene.ceilings.bandwidth:.0%}",
    )  # fmt: skip
    return timing


def bytes_of(setup: Paged) -> int:
    """Every key and value once, and the queries and results."""
    spec, width = setup.spec, setup.keys.element_size()
    keys = int(setup.step.context.sum())
    return 2 * keys * spec.kv_heads * spec.head_dim * width + 2 * setup.q.numel() * setup.q.element_size()


def expected_of(setup: Paged) -> torch.Tensor:
    """The same by torch, sequence by sequence: [S, H, D]."""
    rows = []
    for s in range(len(setup.step.context)):
        k, v = (x.transpose(0, 1)[None].float() for x in setup.gathered(s))  # [1, Hkv, C, D]
        q = setup.q[s][None, :, None].float()  # [1, H, 1, D]
        rows.append(F.scaled_dot_product_attention(q, k, v, scale=setup.spec.scale, enable_gqa=True)[0, :, 0])
    return torch.stack(rows)


def _torch(setup: Paged) -> object:
    """torch's own choice over contiguous keys, [S, Hkv, C, D]."""
    pairs = [setup.gathered(s) for s in range(len(setup.step.context))]
    k, v = (torch.stack([pair[i] for pair in pairs]).transpose(1, 2).contiguous() for i in (0, 1))
    q = setup.q[:, :, None]  # [S, H, 1, D]
    return lambda: F.scaled_dot_product_attention(q, k, v, scale=setup.spec.scale, enable_gqa=True)
