"""Branches that share a prefix: cascade against flat, with FlexAttention and FlashInfer beside it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from .ceilings import rate
from .decode import expected_of
from .findings import Section, Table, first_line, time_of
from .paged import Paged, difference, paged
from .scene import Scene

TITLE = "Cascade attention"
BOUND = 3e-2  # of the largest value, in bf16


def measure(scene: Scene, section: Section) -> None:
    branches, prefix, own = scene.pick((32, 8192, 128), (4, 128, 16))
    setup = paged(scene, [1] * branches, [prefix + own] * branches, shared=prefix)
    table = section.table(
        f"{branches} branches over a prefix of {prefix}, {own} tokens each of their own; bf16",
        "kernel", "median", "best", "keys read", "rate", "error",
    )  # fmt: skip
    expected = expected_of(setup)
    run, out, keys = setup.decode()
    cascade = _row(scene, table, setup, "ramify, cascade", run, keys, out, expected)
    section.right("cascade: largest error by the largest value", difference(out, expected), BOUND)
    run, out, keys = setup.decode(unified=1)
    _row(scene, table, setup, "ramify, cascade, unified maximum", run, keys, out, expected)
    distinct = prefix + branches * own
    section.right("cascade: keys read by distinct keys", keys / distinct, 1.05)

    run, out, keys = setup.decode(shared=False)
    flat = _row(scene, table, setup, "ramify, flat, the same pages", run, keys, out, expected)
    section.at_least(f"cascade, {branches} over {prefix}: faster than flat", flat / cascade, 3.0)
    apart = paged(scene, [1] * branches, [prefix + own] * branches)
    run, out, keys = apart.decode()
    _row(scene, table, apart, "ramify, flat, each with its own copy", run, keys, out, expected_of(apart))

    for name, peer in (("FlexAttention", _flex), ("FlashInfer, cascade", _flashinfer)):
        try:
            version, run, result = peer(scene, setup, branches, prefix, own)
            run()
            _row(scene, table, setup, f"{name} {version}", run, distinct, result(), expected)
        except Exception as error:
            table.add(name, "-", "-", "-", "-", first_line(error))


def _row(
    scene: Scene, table: Table, setup: Paged, name: str, run: Callable[[], object], keys: int, out: torch.Tensor,
    expected: torch.Tensor,
) -> float:  # fmt: skip
    timing = scene.timed(run)
    moved = 2 * keys * setup.spec.kv_heads * setup.spec.head_dim * setup.keys.element_size()
    table.add(
        name, time_of(timing.median), time_of(timing.least), f"{keys:,}", rate(moved / timing.median),
        f"{difference(out, expected):.1e}",
    )  # fmt: skip
    return timing.median


def _flex(
    scene: Scene, setup: Paged, branches: int, prefix: int, own: int
) -> tuple[str, Callable[[], object], Callable[[], torch.Tensor]]:
    """All branches as one batch of queries over the prefix and everybody's own keys, of which each sees its part."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    pairs = [setup.gathered(s) for s in range(branches)]
    k, v = (
        torch.cat([pairs[0][i][:prefix], *(pair[i][prefix:] for pair in pairs)]).transpose(0, 1)[None].contiguous()
        for i in (0, 1)
    )  # [1, Hkv, prefix + branches own, D]
    q = setup.q.transpose(0, 1)[None].contiguous()  # [1, H, branches, D]

    def sees(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (key < prefix) | ((key - prefix) // own == query)

    mask = create_block_mask(sees, None, None, branches, prefix + branches * own, device=str(scene.device))
    attend = flex_attention if scene.rehearsal else torch.compile(flex_attention, dynamic=False)
    kept: list[torch.Tensor] = []

    def run() -> None:
        kept[:] = [attend(q, k, v, block_mask=mask, scale=setup.spec.scale, enable_gqa=True)]

    return f"(torch {torch.__version__})", run, lambda: kept[0][0].transpose(0, 1)


def _flashinfer(
    scene: Scene, setup: Paged, branches: int, prefix: int, own: int
) -> tuple[str, Callable[[], object], Callable[[], torch.Tensor]]:
    """Two levels: the prefix for all branches at once, and each branch's own pages."""
    if importlib.util.find_spec("flashinfer") is None:
        raise ModuleNotFoundError("not installed")
    import flashinfer

    def ints(values: object) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32, device=scene.device)

    size = setup.page_size
    tables = [
        setup.step.pages[setup.step.page_start[s] : setup.step.page_start[s + 1]].tolist() for s in range(branches)
    ]
    common, rest = tables[0][: prefix // size], [table[prefix // size :] for table in tables]
    workspace = torch.empty(128 << 20, dtype=torch.uint8, device=scene.device)
    wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(2, workspace, "NHD")
    wrapper.plan(
        [ints([0, branches]), ints(range(branches + 1))],
        [ints([0, len(common)]), ints([i * len(rest[0]) for i in range(branches + 1)])],
        [ints(common), ints([page for table in rest for page in table])],
        [ints([size]), ints([size] * branches)],
        setup.spec.heads, setup.spec.kv_heads, setup.spec.head_dim, size, q_data_type=torch.bfloat16,
    )  # fmt: skip
    cache = torch.stack((setup.keys, setup.values), dim=1)  # [pages, 2, page_size, Hkv, D]
    kept: list[torch.Tensor] = []

    def run() -> None:
        kept[:] = [wrapper.run(setup.q, cache)]

    return str(flashinfer.__version__), run, lambda: kept[0]
