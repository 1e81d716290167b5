"""Prefill attention: head 128, 16k tokens, causal, bf16, with a cached prefix and without, beside torch's backends."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

from .findings import Section, Table, first_line, time_of
from .paged import Paged, difference, paged
from .scene import Scene, Timing

TITLE = "Prefill attention"
BOUND = 3e-2  # of the largest value, in bf16


def measure(scene: Scene, section: Section) -> None:
    length = scene.pick(16384, 48)
    new = scene.pick(4096, 16)  # the rest is a cached prefix
    table = section.table(
        f"Causal attention over {length} tokens, 32 heads over 8, head 128, bf16",
        "queries", "kernel", "median", "best", "TFLOP/s", "of the product's ceiling", "error",
    )  # fmt: skip
    whole = _compared(scene, section, table, paged(scene, [length], [length]))
    claim = "prefill, head 128, 16k causal: our rate by the best of torch's backends"
    if whole[1]:
        section.at_least(claim, whole[0] / whole[1], 0.60)
    else:
        section.without(claim, ">= 0.6x", "no backend ran")
    prefix = _compared(scene, section, table, paged(scene, [new], [length]))
    section.at_least("prefill over a cached prefix: our rate by our rate without one", prefix[0] / whole[0], 0.95)
    many = scene.pick([512] * 32, [9, 9])
    _compared(scene, section, table, paged(scene, many, many))


def _compared(scene: Scene, section: Section, table: Table, setup: Paged) -> tuple[float, float]:
    """Our rate and the best of the peers', in operations a second. All sequences have the same lengths."""
    count, context = len(setup.step.context), int(setup.step.context[0])
    queries = len(setup.q) // count
    spec = setup.spec
    pairs = count * (queries * (context - queries) + queries * (queries + 1) // 2)
    operations = 4 * pairs * spec.heads * spec.head_dim
    named = f"{queries} of {context}" + (f", {count} times" if count > 1 else "")
    best = 0.0
    expected: torch.Tensor | None = None
    for name, peer in _peers(scene, setup, queries).items():
        try:
            result = peer().transpose(1, 2).flatten(0, 1)  # [T, H, D]
            timing = scene.timed(peer)
        except Exception as error:
            table.add(named, name, "-", "-", "-", "-", first_line(error))
            continue
        expected = result if expected is None else expected
        best = max(best, operations / timing.median)
        _row(scene, table, named, name, timing, operations, difference(result, expected))
    run, out = setup.extend()
    timing = scene.timed(run)
    error = float("nan") if expected is None else difference(out, expected)
    _row(scene, table, named, "ramify, paged", timing, operations, error)
    section.right(f"prefill, {named}: largest error by the largest value", error, BOUND)
    return operations / timing.median, best


def _row(scene: Scene, table: Table, named: str, name: str, timing: Timing, operations: float, error: float) -> None:
    rate = operations / timing.median
    table.add(
        named, name, time_of(timing.median), time_of(timing.least), f"{rate / 1e12:.0f}",
        f"{rate / scene.ceilings.operations:.0%}", f"{error:.1e}",
    )  # fmt: skip


def _peers(scene: Scene, setup: Paged, queries: int) -> dict[str, Callable[[], torch.Tensor]]:
    """torch's attention over contiguous keys, which is spared the pages. Results are [S, H, n, D]."""
    spec, count = setup.spec, len(setup.step.context)
    group = spec.heads // spec.kv_heads
    gathered = [setup.gathered(s) for s in range(count)]

    def heads(which: int) -> torch.Tensor:
        laid = torch.stack([pair[which] for pair in gathered]).transpose(1, 2)  # [S, Hkv, C, D]
        return laid.repeat_interleave(group, 1).contiguous()  # every head its own, as the backends like it best

    q = setup.q.view(count, queries, spec.heads, spec.head_dim).transpose(1, 2).contiguous()  # [S, H, n, D]
    k, v = heads(0), heads(1)

    def whole(backend: SDPBackend) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=spec.scale)

        return run

    def behind_prefix() -> torch.Tensor:
        bias = causal_lower_right(queries, k.shape[2])
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=spec.scale)

    if queries < k.shape[2]:
        return {f"torch {torch.__version__}, causal to the lower right": behind_prefix}
    if scene.rehearsal:
        return {"torch, plain": whole(SDPBackend.MATH)}
    return {
        f"torch {torch.__version__}, flash": whole(SDPBackend.FLASH_ATTENTION),
        f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}": whole(SDPBackend.CUDNN_ATTENTION),
    }
