"""The pool of KV pages is as large as the memory allows, and says so when it cannot be."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ramify.errors import InvalidRequest
from ramify.kernels.torch_compute import TorchCompute
from ramify.runtime import kv_size
from ramify.runtime.kv_size import cache_shape, gpu_budget, step_memory, step_tokens
from ramify.runtime.options import EngineOptions
from ramify.runtime.weights.config import ModelConfig, Rope

GB = 10**9
LLAMA_8B = ModelConfig(
    architecture="llama", vocab_size=128256, hidden_size=4096, layers=32, heads=32, kv_heads=8, head_dim=128,
    intermediate_size=14336, norm_eps=1e-5, context_length=8192, rope=Rope(500000.0), local_rope=None,
    windows=(None,) * 32, tied_embeddings=False, query_scale=128**-0.5,
)  # fmt: skip
PAGE_BYTES = 2 * 32 * 16 * 8 * 128 * 2  # keys and values of 16 tokens in bf16


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A GPU of 141 GB that holds 16 GB of weights, as its driver would describe it; a test may take more away."""
    memory = {"free": 125 * GB, "total": 141 * GB}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (memory["free"], memory["total"]))
    return memory


def place() -> TorchCompute:
    return TorchCompute("bf16")


def options(**given: object) -> EngineOptions:
    return EngineOptions.of({"device": "cuda", **given})


def test_the_pool_is_what_a_gpu_can_spare(gpu: dict[str, int]) -> None:
    shape = cache_shape(LLAMA_8B, place(), options())
    taken = shape.pages * PAGE_BYTES
    kept = step_memory(LLAMA_8B, options(), 2) + kv_size.GRAPHS + kv_size.WORKSPACE + 0.04 * 141 * GB
    assert 0 <= 125 * GB - kept - taken < 2 * PAGE_BYTES
    assert taken > 0.8 * 125 * GB  # and that is most of it


def test_free_memory_is_asked_for_when_the_weights_lie_there(gpu: dict[str, int]) -> None:
    before = cache_shape(LLAMA_8B, place(), options()).pages
    gpu["free"] -= 10 * GB
    assert before - cache_shape(LLAMA_8B, place(), options()).pages == pytest.approx(10 * GB / PAGE_BYTES, abs=1)


def test_a_wider_step_leaves_less(gpu: dict[str, int]) -> None:
    wide, narrow = options(step_tokens=8192), options(step_tokens=512)
    assert cache_shape(LLAMA_8B, place(), wide).pages < cache_shape(LLAMA_8B, place(), narrow).pages
    rows = 512 + narrow.max_running
    assert step_memory(LLAMA_8B, narrow, 2) > rows * 128256 * 10  # three copies of the logits, at least


def test_weights_that_may_be_unpacked_need_room_for_the_largest(gpu: dict[str, int]) -> None:
    packed, plain = (step_memory(LLAMA_8B, options(mode=mode), 2) for mode in ("int4", "bf16"))
    assert packed - plain == 2 * 14336 * 4096 * 2


def test_what_was_asked_for_is_given_or_refused_with_what_would_fit(gpu: dict[str, int]) -> None:
    assert cache_shape(LLAMA_8B, place(), options(cache_tokens=100_000)).pages == 6250
    with pytest.raises(
        InvalidRequest, match=r"cache_tokens=2000000 needs 262\.1 GB.*on cuda.*at most \d+ tokens"
    ) as no:
        cache_shape(LLAMA_8B, place(), options(cache_tokens=2_000_000))
    fits = int(str(no.value).rsplit("at most ", 1)[1].split()[0])
    assert cache_shape(LLAMA_8B, place(), options(cache_tokens=fits)).pages == fits // 16
    with pytest.raises(InvalidRequest):
        cache_shape(LLAMA_8B, place(), options(cache_tokens=fits + 16))


def test_no_room_at_all_is_an_error_that_says_what_to_do(gpu: dict[str, int]) -> None:
    gpu["free"] = 2 * GB
    with pytest.raises(InvalidRequest, match=r"0\.0 GB are free on cuda.*narrower mode, or fewer step_tokens"):
        cache_shape(LLAMA_8B, place(), options())


def test_a_laptop_keeps_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_size, "free_memory", lambda device: kv_size.FreeMemory(4 * GB, 8 * GB))
    here = EngineOptions.of({})
    assert cache_shape(LLAMA_8B, place(), here).pages == GB // PAGE_BYTES
    small = dataclasses.replace(LLAMA_8B, layers=1, windows=(None,), kv_heads=1)
    assert cache_shape(small, place(), here).pages * 16 == kv_size.CPU_TOKENS


def test_the_margin_is_a_share_of_the_device_and_never_too_little() -> None:
    assert gpu_budget(kv_size.FreeMemory(100 * GB, 141 * GB), 0) < 95 * GB
    assert gpu_budget(kv_size.FreeMemory(8 * GB, 8 * GB), 0) == 8 * GB - kv_size.GRAPHS - kv_size.WORKSPACE - (
        512 << 20
    )


def test_a_step_is_as_wide_as_suits_the_device() -> None:
    assert step_tokens(EngineOptions.of({})) == 512
    assert step_tokens(EngineOptions.of({"device": "cuda:1"})) == 4096
    assert step_tokens(options(step_tokens=17)) == 17


def test_the_gpu_is_the_one_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (50 * GB, 80 * GB))
    cache_shape(LLAMA_8B, place(), options(device="cuda:1"))
    assert asked == [torch.device("cuda:1")]
