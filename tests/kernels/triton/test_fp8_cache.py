"""KV in 8 bits: rounded as torch rounds, read back exactly, by bits and by the device's own conversion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ramify.kernels import twins
from ramify.kernels.ops import AttentionSpec, CacheShape, Step
from ramify.kernels.torch_attention import FP8, StepTensors, paged_attention, store
from ramify.kernels.torch_compute import TorchCompute
from ramify.kernels.triton import decode_attention as decoding
from ramify.kernels.triton.batch import DeviceBatch
from ramify.kernels.triton.compute import TritonCompute
from ramify.kernels.triton.decode_attention import decode_attention
from ramify.kernels.triton.fp8_cache import EIGHT, EIGHT_BY_BITS
from ramify.kernels.triton.pages import copy_pages, gather_pages, scatter_pages
from ramify.kernels.triton.write_kv import write_kv

from .close import error
from .tiny import SHAPE, Tables, packed

SPEC = AttentionSpec(layer=0, heads=2, kv_heads=2, head_dim=64, scale=0.125, rope=0)
EDGES = [0.0, -0.0, 448.0, 449.0, 464.0, 1e9, -1e9, 2**-9, 2**-10, 3 * 2**-10, 2**-11, 2**-6, 0.0146484375, 2.0**-130]


def numbers(count: int) -> torch.Tensor:
    """fp32 of all sizes: ties between neighbours in e4m3, subnormals, what overflows, both signs."""
    generator = torch.Generator().manual_seed(3)
    codes = torch.arange(256, dtype=torch.uint8).view(FP8).float()
    codes = codes[codes.isfinite()]
    ties = (codes.sort().values[1:] + codes.sort().values[:-1]) / 2
    spread = torch.randn(count, generator=generator) * 2.0 ** torch.randint(-12, 10, (count,), generator=generator)
    return torch.cat((torch.tensor(EDGES), codes, ties, spread))[:count]


def write(x: torch.Tensor, scales: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """x [rows, Hkv, D] as keys (not rotated: the angle is 0) and as values, in the cache's bytes, slot by slot."""
    rows, heads, d = x.shape
    spec = replace(SPEC, heads=heads, kv_heads=heads, head_dim=d)
    qkv = torch.cat((x, x, x), dim=1).flatten(1).to(device)
    keys = torch.zeros((rows, 1, heads, d), dtype=FP8, device=device)
    values = torch.zeros_like(keys)
    order = torch.arange(rows, dtype=torch.int32, device=device)
    cos, sin = torch.ones((rows, d // 2), device=device), torch.zeros((rows, d // 2), device=device)
    write_kv(qkv, order, order, cos, sin, keys, values, spec, scales)
    return keys.view(torch.uint8)[:, 0], values.view(torch.uint8)[:, 0]


def test_numbers_are_rounded_as_torch_rounds_them(device: torch.device) -> None:
    x = numbers(1024).view(8, 2, 64)
    keys, values = write(x, torch.ones((2, 2), device=device), device)
    expected = x.clamp(-448, 448).to(FP8).view(torch.uint8).to(device)
    assert torch.equal(values, expected)
    # 0 a - 0 b loses the sign of a zero, and nothing else
    assert torch.equal(keys.view(FP8).float(), expected.view(FP8).float())
    assert not torch.equal(values, (x * 1.04).clamp(-448, 448).to(FP8).view(torch.uint8).to(device))


def test_every_head_has_a_scale(device: torch.device) -> None:
    x = numbers(1024).view(8, 2, 64)
    scales = torch.tensor([[2.0, 0.7], [3.0, 16.0]], device=device)
    keys, values = write(x, scales, device)
    for part, found in enumerate((keys, values)):
        twin = torch.zeros((8, 1, 2, 64), dtype=FP8, device=device)
        store(twin, torch.arange(8, device=device), x.to(device), scales[part])
        assert torch.equal(found.view(FP8).float(), twin[:, 0].float())
    swapped, _ = write(x, scales.flip(0), device)
    assert not torch.equal(swapped, keys)


@pytest.mark.parametrize("kind", [EIGHT, EIGHT_BY_BITS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_code_is_read_exactly(
    kind: int, dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sequence of one token attends to itself: what comes out is its value."""
    if device.type == "cuda" and kind == EIGHT and torch.cuda.get_device_capability(device) < (8, 9):
        pytest.skip("this GPU has no fp8")
    monkeypatch.setattr(decoding, "cache_kind", lambda keys: int(kind))
    codes = torch.arange(256, dtype=torch.uint8)
    codes[(codes & 0x7F) == 0x7F] = 0  # the two NaN
    spec = replace(SPEC, heads=4, kv_heads=4)
    values = codes.view(1, 1, 4, 64).to(device).view(FP8)
    step = Step(*(np.array(x, np.int32) for x in ([0], [0], [0, 1], [1], [0], [0, 1], [])))
    out = torch.full((1, 4, 64), float("nan"), dtype=dtype, device=device)
    batch = DeviceBatch.of(step, 1, device, workers=2)
    decode_attention(torch.ones_like(out), values, values, batch, spec, out, scales=torch.ones((2, 4), device=device))
    assert torch.equal(out.float(), values.float()[0])


def error_of(dtype: torch.dtype, magnitude: float) -> float:
    """Attention over an fp8 cache against the same in full precision, relative to the largest value."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 200, 2, 64, generator=generator) for _ in range(3))
    k, v = k * magnitude, v * magnitude
    step = Step(
        tokens=np.zeros(1, np.int32), positions=np.array([199], np.int32), query_start=np.array([0, 1], np.int32),
        context=np.array([200], np.int32), pages=np.zeros(1, np.int32), page_start=np.array([0, 1], np.int32),
        logit_rows=np.zeros(0, np.int32),
    )  # fmt: skip
    tensors = StepTensors.from_step(step, 200, torch.device("cpu"))
    spec = replace(SPEC, scale=0.125 / magnitude)
    exact = paged_attention(q[0, :1], k, v, tensors, spec)
    narrow = paged_attention(q[0, :1], k.to(dtype), v.to(dtype), tensors, spec)
    return float((narrow - exact).abs().max() / exact.abs().max())


def test_what_fp8_costs() -> None:
    """3 bits of mantissa: each key and value is off by 1/16 at most, and attention over many by a few hundredths."""
    assert 1e-3 < error_of(FP8, 1.0) < 0.1
    assert 1e-3 < error_of(FP8, 60.0) < 0.1  # a floating type: the size does not matter, until it saturates
    assert error_of(torch.float8_e5m2, 1.0) > error_of(FP8, 1.0)  # a bit less is seen


@pytest.mark.parametrize("width", [70, 5])  # a page is made of words, and is not
def test_pages_of_bytes_move_whole_and_alone(width: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(1)
    bits = torch.randint(0, 256, (3, 2, 9, 5, 1, width), dtype=torch.uint8, generator=generator).to(device)
    cache = bits.view(FP8)
    source, target = (torch.tensor(p, dtype=torch.int32, device=device) for p in ([1, 3, 8], [0, 7, 2]))
    expected = cache.clone()
    twins.copy_pages(expected, source, target)
    copy_pages(cache, source, target)
    assert torch.equal(bits, expected.view(torch.uint8))
    buffer = gather_pages(cache, source)
    assert torch.equal(buffer.view(torch.uint8), twins.gather_pages(cache, source).view(torch.uint8))
    assert not torch.equal(gather_pages(cache, source.flip(0)).view(torch.uint8), buffer.view(torch.uint8))
    emptied, twin = torch.zeros_like(cache), torch.zeros_like(cache)
    scatter_pages(emptied, source, buffer)
    twins.scatter_pages(twin, source, buffer)
    assert torch.equal(emptied.view(torch.uint8), twin.view(torch.uint8))


def test_a_model_over_an_fp8_cache_is_the_twins(device: torch.device) -> None:
    """Prompts, a branch, and tokens that follow; keys and values are rounded alike, so the logits agree."""
    twin, exact = TorchCompute("fp32", fp8_cache=True), TorchCompute("fp32")
    runs = []
    for place in (TritonCompute("fp32", device, fp8_cache=True), twin, exact):
        forward = packed(place.ops)
        place.allocate(SHAPE)
        runs.append(place.compile(forward))
    tables = Tables(seed=1)
    prompts = [tables.new(), tables.new()]
    steps = [tables.step(prompts, rows=9), tables.step(prompts)]
    steps.append(tables.step([*prompts, tables.fork(prompts[0], 2)]))
    for step in steps:
        ours, theirs, wide = (run(step).cpu() for run in runs)
        assert error(ours, theirs) <= 1e-4
        assert 1e-3 < error(theirs, wide) < 0.2  # and fp8 is not nothing


def test_a_cache_of_fp8_has_twice_the_tokens_in_the_same_bytes() -> None:
    shape = CacheShape(layers=2, kv_heads=2, head_dim=16, page_size=4, pages=3)
    narrow, wide = TorchCompute("bf16", fp8_cache=True), TorchCompute("bf16")
    itemsize = 2 if wide.mode == "bf16" else 4
    assert narrow.bytes_per_page(shape) * itemsize == wide.bytes_per_page(shape)
