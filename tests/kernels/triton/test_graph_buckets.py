"""A thousand random decode steps through the buckets, with a model that only tells what its batch would make it do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ramify.kernels.ops import Step
from ramify.kernels.triton import cascade_plan, graphs
from ramify.kernels.triton.batch import DeviceStep, HostStep
from ramify.kernels.triton.graphs import DecodeGraphs
from ramify.kernels.triton.layout import Layout
from ramify.kernels.triton.survey import Needs

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="about indices alone: on the CPU, as anywhere")

PAGE, PAGES, WORKERS, TABLE = 16, 4096, 33, 24
NEEDS = Needs(windows=(None, 20), tile_rows=(64,), kv_heads=1)
WORTH = np.random.default_rng(0).integers(0, 2**20, PAGE * PAGES)  # what each key adds to whoever reads it
SMALL = 2**20  # numbers below it are exact in fp32
STEPS = 1000


class Again:
    """Does recorded work again by calling it: whatever it reads anew must come from the static buffer."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        work()
        return work


class Telling:
    """A "model" whose logits are a row's token, position, slot and the sum over the keys it reads, by window."""

    def __init__(self) -> None:
        self.written: list[int] = []  # slots, of all rows

    def __call__(self, batch: DeviceStep) -> torch.Tensor:
        tokens, rows = batch.tokens().numpy(), batch.logit_rows.numpy()
        slots = batch.arrays["slots"].numpy()
        self.written += [slot for slot in slots.tolist() if slot >= 0]
        sums = [read_by(batch, window, len(tokens)) % SMALL for window in NEEDS.windows]
        columns = [tokens, batch.arrays["positions"].numpy(), slots, *sums]
        return torch.from_numpy(np.stack([column[rows] for column in columns], axis=1).astype(np.float32))


def read_by(batch: DeviceStep, window: int | None, rows: int) -> np.ndarray:
    """What decode_attention would do with the plan: pieces by worker, then the merge."""
    layer = batch.of(window, 64)
    assert layer.cascade is not None and layer.tiles == 0
    plan = {name: getattr(layer.cascade, name).numpy() for name in cascade_plan.ARRAYS}
    pages, query_start = layer.pages.numpy(), layer.query_start.numpy()
    count = int(plan["worker_start"][-1])
    lengths = (plan["key_stop"] - plan["key_start"])[:count]
    piece = np.repeat(np.arange(count), lengths)
    key = np.arange(len(piece)) - np.repeat(np.cumsum(lengths) - lengths - plan["key_start"][:count], lengths)
    slots = pages[plan["table"][piece] + key // PAGE] * PAGE + key % PAGE
    sums = np.bincount(piece, weights=WORTH[slots], minlength=count)
    readers = np.diff(plan["reader_start"][: count + 1])
    assert readers.max(initial=0) <= layer.cascade.tile_queries
    partials = np.repeat(sums, readers)
    found = np.full(rows, -1.0)
    for place, sequence in enumerate(plan["decoding"].tolist()):
        mine = plan["partial"][plan["merge_start"][place] : plan["merge_start"][place + 1]]
        assert (plan["readers"][mine] == sequence).all()
        found[query_start[sequence]] = partials[mine].sum()
    return found


def random_step(rng: np.random.Generator) -> Step:
    """Up to 300 sequences; some begin with some of the pages of an earlier one."""
    count = int(rng.integers(1, 40) if rng.random() < 0.9 else rng.integers(40, 300))
    sharing = rng.random() < 0.5
    tables: list[list[int]] = []
    contexts = []
    for s in range(count):
        context = int(rng.integers(1, TABLE * PAGE if count < 40 else 60))
        shared = []
        if sharing and s and rng.random() < 0.7:
            shared = tables[int(rng.integers(0, s))]
            shared = shared[: int(rng.integers(0, min(len(shared), context // PAGE) + 1))]
        tables.append([*shared, *rng.integers(0, PAGES, -(-context // PAGE) - len(shared)).tolist()])
        contexts.append(context)
    wanted = np.arange(count) if rng.random() < 0.7 else rng.permutation(count)[: int(rng.integers(0, count + 1))]

    def ints(values: object) -> np.ndarray:
        return np.asarray(values, np.int32)

    return Step(
        tokens=ints(rng.integers(0, 1000, count)),
        positions=ints(contexts) - 1,
        query_start=ints(np.arange(count + 1)),
        context=ints(contexts),
        pages=ints(np.concatenate(tables)),
        page_start=ints(np.cumsum([0, *map(len, tables)])),
        logit_rows=ints(wanted),
        follows=ints(rng.integers(-1, 50, count)) if rng.random() < 0.5 else None,
    )


def expected(step: Step, drawn: torch.Tensor) -> tuple[np.ndarray, list[int]]:
    """What `Telling` should tell, and the slots that should be written."""
    tokens = step.tokens
    if step.follows is not None:
        tokens = np.where(step.follows < 0, tokens, np.maximum(0, drawn.numpy()[np.maximum(0, step.follows)]))
    slots = step.pages[step.page_start[:-1] + step.positions // PAGE] * PAGE + step.positions % PAGE
    sums: dict[int | None, list[int]] = {window: [] for window in NEEDS.windows}
    for s, context in enumerate(step.context.tolist()):
        positions = np.arange(context)
        worth = WORTH[step.pages[step.page_start[s] + positions // PAGE] * PAGE + positions % PAGE]
        for window, found in sums.items():
            found.append(int(worth[-(window or context) :].sum()) % SMALL)
    columns = [tokens, step.positions, slots, *sums.values()]
    return np.stack([np.asarray(column)[step.logit_rows] for column in columns], axis=1), slots.tolist()


def wrong_steps(number: int) -> tuple[int, int, DecodeGraphs]:
    """How many of so many random steps come out wrong, or write where they should not; and how many are too large."""
    rng = np.random.default_rng(7)
    drawn = torch.from_numpy(rng.integers(-1, 1000, 64).astype(np.int32))
    telling, wrong, large = Telling(), 0, 0
    recorded = DecodeGraphs(telling, Again(), NEEDS, WORKERS, TABLE, drawn)
    for _ in range(number):
        step = random_step(rng)
        host = HostStep.of(step, PAGE, NEEDS, WORKERS)
        telling.written.clear()
        logits = recorded.run(host)
        large += len(step.context) > graphs.ROWS[-1]
        if logits is None:
            continue
        told, slots = expected(step, drawn)
        wrong += not (np.array_equal(logits.numpy(), told) and sorted(telling.written) == sorted(slots))
    return wrong, large, recorded


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Layout.write

    def poisoning(layout: Layout, arrays: dict[str, np.ndarray], target: torch.Tensor) -> None:
        target.fill_(0x7A7A7A7A)
        write(layout, arrays, target)

    monkeypatch.setattr(Layout, "write", poisoning)


def test_a_thousand_steps_are_as_they_should_be() -> None:
    wrong, large, recorded = wrong_steps(STEPS)
    counts = recorded.counts
    assert wrong == 0
    assert counts.replayed + counts.unfit == STEPS and counts.refused == 0
    assert counts.recorded <= len(graphs.ROWS) * len(cascade_plan.WIDTHS)
    assert counts.unfit == large <= STEPS // 25  # every other tree found room
    assert counts.recorded > 30


def misfilled(name: str, value: int) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setitem(graphs.PADDING, name, value)


def stale(patch: pytest.MonkeyPatch) -> None:
    """Numbers that are baked in: the positions that a bucket was recorded with, for all its steps."""
    tell, kept = Telling.__call__, {}

    def told(self: Telling, batch: DeviceStep) -> torch.Tensor:
        found = tell(self, batch)
        found[:, 1] = kept.setdefault(len(found), found[:, 1].clone())
        return found

    patch.setattr(Telling, "__call__", told)


def unlengthened(patch: pytest.MonkeyPatch) -> None:
    """Padded rows that merge what comes next to the step's own partial results."""
    padded = graphs.padded

    def careless(arrays: dict[str, np.ndarray], bucket: graphs.Bucket) -> dict[str, np.ndarray]:
        found = padded(arrays, bucket)
        for name in [name for name in found if name.startswith("merge_start")]:
            found[name] = found[name] + np.maximum(0, np.arange(bucket.rows + 1) - len(arrays["context"])).astype("i4")
        return found

    patch.setattr(graphs, "padded", careless)


@pytest.mark.parametrize("mistake", [misfilled("slots", 5), stale, unlengthened], ids=["slot", "stale", "merge"])
def test_a_mistake_in_padding_shows(
    mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    try:
        wrong, _, _ = wrong_steps(20)
    except (AssertionError, IndexError):
        return  # what it read was poison
    assert wrong > 0


class Full:
    """A device without memory for one more recording."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_without_memory_for_a_recording_steps_run_eagerly() -> None:
    recorded = DecodeGraphs(Telling(), Full(), NEEDS, WORKERS, TABLE, torch.zeros(64, dtype=torch.int32))
    rng = np.random.default_rng(1)
    for _ in range(3):
        assert recorded.run(HostStep.of(random_step(rng), PAGE, NEEDS, WORKERS)) is None
    assert recorded.counts == graphs.GraphCounts(refused=3)
    assert str(recorded.counts) == "0 recorded, 0 steps replayed, 3 without memory for a graph"
