"""The compiled core runs models as torch does, refuses what is unsound, and gives way where it cannot be had."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from ramify.kernels import build, compute
from ramify.kernels.build import CoreUnavailable, core_library
from ramify.kernels.native import NativeCompute
from ramify.kernels.native_core import Op
from ramify.kernels.native_pack import Packer
from ramify.kernels.native_tape import record
from ramify.kernels.ops import Activation, AttentionSpec, CacheShape, Columns, Compute, Forward, Ops, Step
from ramify.kernels.torch_compute import TorchCompute

from .attention_lab import Dense, Part, some_tokens, step_of

WIDTH, HIDDEN, HEADS, KV_HEADS, DIM, VOCABULARY, LAYERS = 96, 160, 6, 2, 16, 131, 2
BARS = {"fp32": 1e-5, "bf16": 0.05, "int8": 0.12, "int4": 0.4}  # relative error of a position's logits


@pytest.fixture
def native() -> None:
    try:
        core_library()
    except CoreUnavailable as reason:
        pytest.skip(f"no compiled core: {reason}")


def small_model(ops: Ops, *, tied: bool = True, seed: int = 0) -> Forward:
    """Two layers with everything that architectures differ in: biases, head norms, a window, caps, both gates."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * shape[-1] ** -0.5

    def linear(rows: Sequence[int], width: int, name: str, bias: bool = False) -> object:
        biases = [random(n) for n in rows] if bias else None
        return ops.linear([Dense(random(n, width)) for n in rows], biases, name=name)

    def norm(width: int) -> object:
        return ops.vector(1 + random(width))

    angles = torch.arange(512)[:, None] * 10000.0 ** (-torch.arange(0, DIM, 2) / DIM)
    rope = ops.rope_table(angles.cos(), angles.sin())
    embedding = ops.embedding(Dense(random(VOCABULARY, WIDTH) * 3))
    head = embedding if tied else linear([VOCABULARY], WIDTH, "head")
    sizes = [HEADS * DIM, KV_HEADS * DIM, KV_HEADS * DIM]
    layers = [
        (
            AttentionSpec(
                layer=layer,
                heads=HEADS,
                kv_heads=KV_HEADS,
                head_dim=DIM,
                scale=DIM**-0.5,
                rope=rope,
                window=20 if layer else None,
                softcap=4.0 if layer else None,
                q_norm=norm(DIM) if layer else None,
                k_norm=norm(DIM) if layer else None,
            ),
            [norm(WIDTH) for _ in range(3)],
            linear(sizes, WIDTH, f"{layer}.qkv", bias=True),
            linear([WIDTH], HEADS * DIM, f"{layer}.output"),
            linear([HIDDEN, HIDDEN], WIDTH, f"{layer}.gate_up"),
            linear([WIDTH], HIDDEN, f"{layer}.down", bias=True),
        )
        for layer in range(LAYERS)
    ]
    last = norm(WIDTH)

    def forward(ops: Ops) -> Activation:
        x = ops.embed(embedding, scale=1.5)
        for spec, norms, qkv, output, gate_up, down in layers:
            heads = ops.attention(ops.matmul(ops.rms_norm(x, norms[0], 1e-6), qkv), spec)
            x = ops.matmul(heads, output, residual=x)
            inner = ops.gated(
                ops.matmul(ops.rms_norm(x, norms[1], 1e-6), gate_up), "gelu_tanh" if spec.layer else "silu"
            )
            x = ops.add(x, ops.rms_norm(ops.matmul(inner, down), norms[2], 1e-6))
        return ops.softcap(ops.matmul(ops.rms_norm(ops.select(x), last, 1e-6), head), 5.0)

    return forward


class Model:
    """The small model on some compute, with a cache of 64 pages of 16."""

    def __init__(self, place: Compute, *, tied: bool = True, seed: int = 0) -> None:
        forward = small_model(place.ops, tied=tied, seed=seed)
        place.allocate(CacheShape(LAYERS, KV_HEADS, DIM, 16, 64))
        self.place, self.step = place, place.compile(forward)

    def logits(self, *parts: Part) -> torch.Tensor:
        return self.step(step_of(parts)).clone()


def steps() -> list[list[Part]]:
    """Prefills, a chunk among decodes, branches of a shared prefix."""
    first, second = some_tokens(100, 1, VOCABULARY), some_tokens(60, 2, VOCABULARY)
    a, b = list(range(40, 47)), list(range(20, 24))
    branches = [
        Part(first[:64] + some_tokens(20, 3 + i, VOCABULARY), 64, 70 + i, [*a[:4], 10 + 2 * i, 11 + 2 * i])
        for i in range(3)
    ]
    return [
        [Part(first, 0, 50, a), Part(second, 0, 1, b)],
        [Part(second, 1, 2, b), Part(first, 50, 97, a)],
        [Part(first, 97, 98, a), Part(second, 2, 3, b)],
        [Part(first, 98, 99, a)],
        [Part(second, 3, 40, b), Part(first, 99, 100, a), *branches],
    ]


def worst(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest relative error of a row; NaN counts as infinite."""
    return float(((got - wanted).norm(dim=1) / wanted.norm(dim=1)).nan_to_num(nan=torch.inf).max())


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mode", BARS)
def test_a_model_computes_what_torch_computes(mode: str, tied: bool) -> None:
    exact = Model(TorchCompute("fp32"), tied=tied)
    model = Model(compute("cpu", mode, threads=2), tied=tied)
    for parts in steps():
        assert worst(model.logits(*parts), exact.logits(*parts)) < BARS[mode]


@pytest.mark.usefixtures("native")
def test_the_comparison_would_notice_another_model() -> None:
    exact, other = Model(TorchCompute("fp32")), Model(compute("cpu", "fp32"), seed=1)
    assert worst(other.logits(*steps()[0]), exact.logits(*steps()[0])) > max(BARS.values())


@pytest.mark.usefixtures("native")
def test_only_the_wanted_rows_have_logits() -> None:
    model = Model(compute("cpu", "fp32", threads=2))
    parts = steps()[0]
    every, step = model.logits(*parts), step_of(parts)
    for rows in ([], [0], [3, 49, 50]):
        chosen = replace(step, logit_rows=np.array(rows, dtype=np.int32))
        assert torch.equal(model.step(chosen), every[rows])


@pytest.mark.usefixtures("native")
def test_a_row_is_the_same_bits_alone_together_in_chunks_and_on_any_threads() -> None:
    tokens = some_tokens(90, 5, VOCABULARY)
    whole = Model(compute("cpu", "fp32", threads=1)).logits(Part(tokens, 0, 90, range(6)))
    model = Model(compute("cpu", "fp32", threads=2))
    start, pages = 0, list(range(50, 56))
    for length in (1, 2, 33, 1, 40, 13):
        beside = [
            Part(some_tokens(30, length + i, VOCABULARY), 0, 7 + 11 * i, [8 + 2 * i, 9 + 2 * i]) for i in range(2)
        ]
        chunk = model.logits(beside[0], Part(tokens, start, start + length, pages), beside[1])[7 : 7 + length]
        assert torch.equal(chunk, whole[start : start + length])
        start += length


# -- the tape ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("native")
def test_norms_and_gates_are_done_by_the_product_that_needs_them() -> None:
    place = NativeCompute(core_library(), "fp32", 1)
    tape = record(small_model(place.ops), Packer(core_library(), "fp32"), [])
    left = [instruction.op for instruction in tape.instructions]
    assert left.count(Op.NORM) == LAYERS  # those that are added feed no product
    assert Op.GATED not in left
    assert len(tape.widths) <= 8  # buffers are used again
    assert tape.widths[tape.buffers[tape.instructions[-1].output.index]] == 0


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("stored", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q6_K"])
def test_a_table_is_read_in_the_format_of_its_file(stored: str) -> None:
    values = torch.randn((40, 256), generator=torch.Generator().manual_seed(0))
    place = NativeCompute(core_library(), "fp32", 1)
    table = place.ops.embedding(Quantized.of(values, stored))
    place.allocate(CacheShape(1, 1, 16, 16, 4))
    step = place.compile(lambda ops: ops.select(ops.embed(table, scale=2.0)))
    rows = step(step_of([Part(range(40), 3, 30, [0, 1])]))
    torch.testing.assert_close(rows, Quantized.of(values, stored).dense()[3:30] * 2, rtol=1e-6, atol=1e-6)


class Quantized(Dense):
    """A parameter in one of GGUF's formats."""

    @classmethod
    def of(cls, values: torch.Tensor, stored: str) -> Quantized:
        kind = gguf.GGMLQuantizationType[stored]
        if stored == "Q6_K":  # the package only reads it: any bytes will do, with a small scale
            blocks = np.random.default_rng(0).integers(0, 255, (len(values), 210), dtype=np.uint8)
            blocks[:, 208:] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
        else:
            blocks = gguf.quantize(values.numpy(), kind)
        it = cls(values, stored)
        object.__setattr__(it, "blocks", np.atleast_2d(blocks).view(np.uint8))
        return it

    def rows(self) -> np.ndarray:
        return self.blocks  # type: ignore[attr-defined]

    def dense(self) -> torch.Tensor:
        return torch.from_numpy(gguf.dequantize(self.rows(), gguf.GGMLQuantizationType[self.format]).copy())


# -- a few columns of the head  -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("mode", ["fp32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_few_columns_are_to_the_bit_those_of_the_whole_row(mode: str, threads: int) -> None:
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip("one core")
    model = Model(compute("cpu", mode, threads))
    chooser = np.random.default_rng(5)
    parts = [Part(some_tokens(9, row, VOCABULARY), 0, 9, [row]) for row in range(24)]
    whole_step = step_of(parts)
    ends = whole_step.query_start[1:] - 1
    whole = model.step(replace(whole_step, logit_rows=ends)).clone()
    for whole_rows in (0, 1, 5, 23):
        order = chooser.permutation(24)
        wanted = [
            [] if place < whole_rows else sorted({int(one) for one in chooser.integers(0, VOCABULARY, size)})
            for place, size in enumerate(chooser.integers(1, 9, 24))
        ]
        wanted[-1] = [VOCABULARY - 1]  # the panel that is not whole
        model.step(replace(whole_step, logit_rows=ends))  # leaves other numbers in the memory of the logits
        model.step(replace(whole_step, logit_rows=np.zeros(24, np.int32)))
        some = model.step(replace(whole_step, logit_rows=ends[order], columns=columns(*wanted)))
        for place, row in enumerate(order):
            ids = wanted[place] or list(range(VOCABULARY))
            assert torch.equal(some[place, ids], whole[row, ids]), (place, row)


@pytest.mark.usefixtures("native")
def test_what_is_not_wanted_is_not_computed() -> None:
    """The control: were everything computed, this would be the whole row."""
    model = Model(compute("cpu", "fp32", 1))
    step = step_of([Part(some_tokens(9, 1, VOCABULARY), 0, 9, [1])])
    last = np.array([8], dtype=np.int32)
    whole = model.step(replace(step, logit_rows=last)).clone()
    model.step(replace(step, logit_rows=np.zeros(1, np.int32)))
    some = model.step(replace(step, logit_rows=last, columns=columns([50])))
    assert torch.equal(some[0, 48:96], whole[0, 48:96]) and not torch.equal(some[0, :48], whole[0, :48])


# -- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("columns", [1, 31, 32, 33, 131, 1000])
def test_masks_of_a_batch_are_applied_as_the_reference_does(columns: int) -> None:
    chooser = np.random.default_rng(columns)
    words = -(-columns // 32)
    masks = [chooser.integers(0, 1 << 32, words, dtype=np.uint32) for _ in range(4)]
    masks += [np.zeros(words, np.uint32), np.full(words, 0xFFFFFFFF, np.uint32)]
    logits = torch.randn(9, columns)
    rows = [8, 0, 3, 5, 2, 7]
    expected = logits.clone()
    Compute.mask(TorchCompute(), expected, rows, masks)
    place = compute("cpu", "fp32", 1)
    assert isinstance(place, NativeCompute)
    found = logits.clone()
    place.mask(found, rows, masks)
    assert torch.equal(found, expected) and torch.equal(found[[1, 4, 6, 7]], logits[[1, 4, 6, 7]])
    for row, mask in zip(rows, masks, strict=True):
        allowed = [i for i in range(columns) if mask[i // 32] >> np.uint32(i % 32) & np.uint32(1)]
        assert torch.isfinite(expected[row]).nonzero().flatten().tolist() == allowed
    place.mask(found, [], [])
    for bad in ([9], [-1]):
        with pytest.raises(ValueError, match="a mask of"):
            place.mask(found, bad, masks[:1])
    with pytest.raises(ValueError, match="a mask of"):
        place.mask(found, [0], [np.zeros(words - 1, np.uint32)])


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("page_size", [0, 1, 8, 20, -16])
def test_a_page_size_that_is_not_whole_tiles_is_refused_with_those_that_are(page_size: int) -> None:
    place = compute("cpu", "fp32")
    with pytest.raises(ValueError, match=r"multiples of 16 tokens \(16, 32, 48"):
        place.allocate(CacheShape(1, 1, 16, page_size, 4))


UNSOUND = {
    "vocabulary": {"tokens": [VOCABULARY]},
    "negative": {"tokens": [-1]},
    "positions": {"positions": [3]},
    "rotary": {"positions": [600], "context": [601], "pages": list(range(40)), "page_start": [0, 40]},
    "pool": {"pages": [64]},
    "page table": {"page_start": [0, 0]},
    "beyond": {"page_start": [0, 3]},
    "query_start": {"query_start": [0, 2]},
    "logit_rows": {"logit_rows": [1]},
    "a column too many": {},
    "a negative column": {},
    "columns that end before they start": {},
    "all after some": {"logit_rows": [0, 0]},
}


def columns(*wanted: Sequence[int]) -> Columns:
    """The wanted columns of each logit row."""
    start = np.cumsum([0, *map(len, wanted)]).astype(np.int32)
    return Columns(start, np.array([one for row in wanted for one in row], dtype=np.int32))


UNSOUND_COLUMNS = {
    "a column too many": columns([5, VOCABULARY]),
    "a negative column": columns([-1]),
    "columns that end before they start": Columns(np.array([0, -1], dtype=np.int32), np.array([1], dtype=np.int32)),
    "all after some": columns([3], []),
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("what", UNSOUND)
def test_an_unsound_step_is_refused_before_anything_is_written(what: str) -> None:
    model = Model(compute("cpu", "fp32"))
    assert isinstance(model.place, NativeCompute)
    before = model.place.cache_memory().copy()
    sound = step_of([Part([5], 0, 1, [7])])
    names = [name for name in Step.__slots__ if name not in ("columns", "follows")]
    arrays = {name: np.array(UNSOUND[what].get(name, getattr(sound, name)), dtype=np.int32) for name in names}
    with pytest.raises(ValueError, match="the step is not sound"):
        model.step(Step(**arrays, columns=UNSOUND_COLUMNS.get(what)))
    np.testing.assert_array_equal(model.place.cache_memory(), before)
    model.step(sound)
    assert (model.place.cache_memory() != before).any()


@pytest.mark.usefixtures("native")
def test_a_step_without_a_cache_is_refused() -> None:
    place = compute("cpu", "fp32")
    step = place.compile(small_model(place.ops))
    with pytest.raises(ValueError, match="allocate"):
        step(step_of([Part([5], 0, 1, [7])]))


@pytest.mark.parametrize(
    ("arguments", "message"), [({"mode": "int3"}, "choose one of auto"), ({"threads": 0}, "at least 1")]
)
def test_what_compute_does_not_know_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute("cpu", **arguments)  # type: ignore[arg-type]


# -- processes, threads, counters -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("native")
def test_a_fork_has_threads_of_its_own() -> None:
    model, parts = Model(compute("cpu", "fp32", threads=3)), steps()[0]
    wanted = model.logits(*parts)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(model.logits(*parts), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(model.logits(*parts), wanted)


@pytest.mark.usefixtures("native")
def test_counters_count_and_the_profile_covers_every_operation() -> None:
    model = Model(compute("cpu", "bf16", threads=2))
    assert isinstance(model.place, NativeCompute)
    model.logits(*steps()[0])
    counters = model.place.counters()
    assert (counters["steps"], counters["tokens"], counters["ns_matmul"]) == (1, 51, 0)
    assert counters["kv_bytes_read"] > 0
    model.place.profile()
    model.logits(*steps()[0])
    counters = model.place.counters()
    assert all(counters[f"ns_{name}"] > 0 for name in ("embed", "matmul", "attention", "norm", "add", "select"))
    assert counters["ns_gated"] == 0  # it is part of a product


# -- building ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home, sources of one line, and no library remembered."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "core.cpp").write_text('extern "C" int answer() { return 42; }\n')
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setenv("RAMIFY_HOME", str(tmp_path / "home"))
    core_library.cache_clear()
    yield tmp_path
    core_library.cache_clear()


@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler")
def test_the_core_is_compiled_once_and_a_broken_copy_is_replaced(
    fresh_build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert core_library().answer() == 42
    assert "compiling the CPU core" in capfd.readouterr().err
    core_library.cache_clear()
    core_library()
    assert "compiling" not in capfd.readouterr().err
    (library,) = (fresh_build / "home" / "native").glob("*.so")
    half = library.read_bytes()[:1000]
    library.unlink()  # a new file: the old one is mapped into this very process
    library.write_bytes(half)
    core_library.cache_clear()
    assert core_library().answer() == 42
    assert "compiling" in capfd.readouterr().err
    assert [path.suffix for path in sorted((fresh_build / "home" / "native").iterdir())] == [".sha256", ".so"]


@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler")
def test_other_sources_are_another_library(fresh_build: Path) -> None:
    core_library()
    (fresh_build / "sources" / "core.cpp").write_text('extern "C" int answer() { return 43; }\n')
    core_library.cache_clear()
    assert core_library().answer() == 43


@pytest.mark.parametrize("trouble", ["switched off", "no compiler", "does not compile", "cannot be stored"])
def test_without_a_core_torch_runs_and_says_why(
    trouble: str, fresh_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trouble == "switched off":
        monkeypatch.setenv("RAMIFY_NATIVE", "0")
        reason = "RAMIFY_NATIVE=0"
    elif trouble == "no compiler":
        monkeypatch.setenv("CXX", "no-such-compiler")
        reason = "no C++ compiler"
    elif trouble == "does not compile":
        (fresh_build / "sources" / "core.cpp").write_text("this is not C++\n")
        reason = "error"
    else:
        (fresh_build / "home").write_text("a file where a folder should be")
        reason = "cannot be stored"
    place = compute("cpu", "fp32")
    assert isinstance(place, TorchCompute)
    if trouble in ("switched off", "no compiler") or shutil.which("c++"):
        assert reason in place.summary
    Model(place).logits(*steps()[0])
