"""Every architecture against transformers, in fp32: tiny random models here, and the embedded one on real text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from ramify.errors import BrokenModelFile, UnsupportedModel
from ramify.kernels.ops import Compute
from ramify.kernels.torch_compute import TorchCompute
from ramify.kernels.triton.compute import TritonCompute
from ramify.runtime.models.registry import load
from ramify.runtime.weights.checkpoint import open_checkpoint
from ramify.runtime.weights.config import ModelConfig, Rope
from ramify.runtime.weights.locate import locate
from ramify.runtime.weights.source import WeightSource
from safetensors.torch import load_file

MakeCompute = Callable[[], Compute]
BAR = 1e-5  # relative error of a position's logits, in the Euclidean norm
TINY: dict[str, Any] = {
    "vocab_size": 203,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": 7, "sliding_window_pattern": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "llama-llama3": ("llama", {"rope_parameters": LLAMA3}),
    "llama-yarn": ("llama", {"rope_parameters": YARN}),
    "mistral": ("mistral", {"head_dim": 32, "sliding_window": 7}),
    "mistral-whole": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2-sliding": ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen2-yarn": ("qwen2", {"rope_parameters": YARN | {"truncate": False, "beta_fast": 16.0}}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "gemma3": ("gemma3_text", GEMMA),
    "gemma3-capped": ("gemma3_text", GEMMA | {"final_logit_softcapping": 3.0}),
    "gemma3-linear": (
        "gemma3_text",
        GEMMA
        | {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }
        },
    ),
}


# -- a tiny checkpoint of each kind, and its oracle -------------------------------------------------------------------


@dataclass(frozen=True)
class DenseTensor:
    """A parameter already read, for sources made in tests."""

    values: torch.Tensor
    format: str = "F32"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def rows(self) -> np.ndarray:
        return self.values.numpy().view(np.uint8)

    def dense(self) -> torch.Tensor:
        return self.values.clone()


@dataclass(frozen=True)
class DictSource:
    """A WeightSource over tensors in memory, so that a test can take one away or bend it."""

    tensors: Mapping[str, torch.Tensor]

    def names(self) -> Iterable[str]:
        return self.tensors

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def stored(self, name: str) -> DenseTensor:
        return DenseTensor(self.tensors[name])


@dataclass(frozen=True)
class Tiny:
    """A checkpoint in a directory, read by our code, and what transformers makes of it."""

    config: ModelConfig
    source: WeightSource
    tensors: Mapping[str, torch.Tensor]  # the same again, for tests that take one away or bend it
    oracle: Callable[[Sequence[int]], torch.Tensor]  # logits [T, vocabulary] of one prompt


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    made: dict[str, Tiny] = {}

    def make(case: str) -> Tiny:
        if case not in made:
            made[case] = make_tiny(case, tmp_path_factory.mktemp(case))
        return made[case]

    return make


def make_tiny(case: str, directory: Path) -> Tiny:
    model_type, options = CASES[case]
    torch.manual_seed(len(case))
    config = transformers.AutoConfig.for_model(model_type, **TINY | options)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():  # the usual small start would hide mistakes: attention almost uniform, norms 1, biases 0
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=2 * parameter.shape[1] ** -0.5)
            else:
                parameter.normal_(mean=0.0 if "bias" in name or "gemma" in model_type else 1.0, std=0.3)
    model.save_pretrained(directory)

    def oracle(tokens: Sequence[int]) -> torch.Tensor:
        with torch.no_grad():
            return model(torch.tensor([list(tokens)]), use_cache=False).logits[0]

    checkpoint = open_checkpoint(locate(directory))
    return Tiny(checkpoint.config, checkpoint.weights, load_file(directory / "model.safetensors"), oracle)


# -- comparing --------------------------------------------------------------------------------------------------------


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """The worst position's |got - expected| / |expected|."""
    return ((got - expected).norm(dim=-1) / expected.norm(dim=-1)).max().item()


def assert_equal(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert relative_error(got, expected) <= BAR
    assert torch.equal(got.argmax(-1), expected.argmax(-1))


def prompt(seed: int, length: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, TINY["vocab_size"], length).tolist()


# -- tiny models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_equals_transformers(tiny: Callable[[str], Tiny], runner: Any, case: str, exact_compute: MakeCompute) -> None:
    model = tiny(case)
    tokens = prompt(1, 90)  # longer than every window and than the original context of the scaled ropes
    running = runner(model.config, model.source, exact_compute())
    assert_equal(running.step({0: tokens}), model.oracle(tokens))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["llama", "qwen2-sliding", "qwen3", "gemma3"])
def test_the_gpu_kernels_equal_transformers(tiny: Callable[[str], Tiny], runner: Any, case: str) -> None:
    """Triton's kernels, in its interpreter where there is no GPU: a prompt at once, then one token by decoding."""
    model = tiny(case)
    tokens = prompt(1, 40)
    place = TritonCompute("fp32", torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    running = runner(model.config, model.source, place)
    found = torch.cat([running.step({0: tokens[:39]}), running.step({0: tokens[39:]})])
    assert_equal(found, model.oracle(tokens))


@pytest.mark.parametrize("case", ["llama", "mistral", "qwen2-sliding", "gemma3"])
def test_ragged_batches_in_chunks(
    tiny: Callable[[str], Tiny], runner: Any, case: str, paged_compute: tuple[MakeCompute, int]
) -> None:
    """Five prompts fed in random pieces, some of one token, many together: the logits of every position."""
    model = tiny(case)
    make_compute, page_size = paged_compute
    running = runner(model.config, model.source, make_compute(), page_size=page_size)
    random = np.random.default_rng(page_size)
    prompts = {sequence: prompt(sequence, length) for sequence, length in enumerate((1, 5, 23, 40, 64))}
    fed = dict.fromkeys(prompts, 0)
    logits: dict[int, list[torch.Tensor]] = {sequence: [] for sequence in prompts}
    while waiting := [sequence for sequence in prompts if fed[sequence] < len(prompts[sequence])]:
        chosen = [sequence for sequence in waiting if random.random() < 0.7] or waiting
        sizes = {s: int(random.choice([1, 1, 2, 7, 19])) for s in chosen}
        chunks = {s: prompts[s][fed[s] : fed[s] + sizes[s]] for s in chosen}
        parts = running.step(chunks).split([len(tokens) for tokens in chunks.values()])
        for sequence, part in zip(chunks, parts, strict=True):
            logits[sequence].append(part)
            fed[sequence] += len(part)
    for sequence, tokens in prompts.items():
        assert_equal(torch.cat(logits[sequence]), model.oracle(tokens))


def test_only_the_wanted_rows(tiny: Callable[[str], Tiny], runner: Any, exact_compute: MakeCompute) -> None:
    model = tiny("qwen3")
    first, second = prompt(1, 9), prompt(2, 6)
    logits = runner(model.config, model.source, exact_compute()).step({0: first, 1: second}, rows=[8, 11, 14])
    assert_equal(logits, torch.cat([model.oracle(first)[8:], model.oracle(second)[[2, 5]]]))


def test_sequences_share_the_pages_of_a_prefix(
    tiny: Callable[[str], Tiny], runner: Any, exact_compute: MakeCompute
) -> None:
    model = tiny("llama")
    running = runner(model.config, model.source, exact_compute())
    prefix, tails = prompt(1, 32), [prompt(2, 5), prompt(3, 9)]
    running.step({0: prefix})
    for sequence in (1, 2):
        running.tables[sequence] = list(running.tables[0])
        running.lengths[sequence] = len(prefix)
    got = running.step({1: tails[0], 2: tails[1]})
    assert_equal(got, torch.cat([model.oracle(prefix + tail)[len(prefix) :] for tail in tails]))


# Each wrong reading of a paper must show: the check above would not be worth much otherwise.
WRONG: dict[str, tuple[str, Callable[[ModelConfig], ModelConfig]]] = {
    "theta 1% off": ("llama", lambda config: replace(config, rope=Rope(config.rope.theta * 1.01))),
    "no rope scaling": ("llama-yarn", lambda config: replace(config, rope=Rope(config.rope.theta))),
    "window too wide by one": ("mistral", lambda c: replace(c, windows=tuple(w and w + 1 for w in c.windows))),
    "window too narrow by one": ("gemma3", lambda c: replace(c, windows=tuple(w and w - 1 for w in c.windows))),
    "no window": ("qwen2-sliding", lambda config: replace(config, windows=(None,) * config.layers)),
    "no q and k norms": ("qwen3", lambda config: replace(config, architecture="llama")),
    "no qkv biases": ("qwen2", lambda config: replace(config, qkv_bias=False)),
    "no output bias": ("llama-biases", lambda config: replace(config, output_bias=False)),
    "no mlp biases": ("llama-biases", lambda config: replace(config, mlp_bias=False)),
    "norms without their 1": ("gemma3", lambda config: replace(config, norm_offset=0.0)),
    "embedding not scaled": ("gemma3", lambda config: replace(config, embedding_scale=1.0)),
    "one rope for all": ("gemma3", lambda config: replace(config, local_rope=None)),
    "logits not capped": ("gemma3-capped", lambda config: replace(config, logit_softcap=None)),
    "silu for gelu": ("gemma3", lambda config: replace(config, activation="silu")),
    "attention scale": ("gemma3", lambda config: replace(config, query_scale=config.head_dim**-0.5)),
    "epsilon": ("llama", lambda config: replace(config, norm_eps=1e-3)),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_seen(tiny: Callable[[str], Tiny], runner: Any, mistake: str) -> None:
    case, spoil = WRONG[mistake]
    model = tiny(case)
    tokens = prompt(1, 90)
    got = runner(spoil(model.config), model.source, TorchCompute("fp32")).step({0: tokens})
    assert relative_error(got, model.oracle(tokens)) > 10 * BAR


# -- broken models ----------------------------------------------------------------------------------------------------


def test_missing_tensor_is_named(tiny: Callable[[str], Tiny]) -> None:
    model = tiny("qwen3")
    name = "model.layers.1.self_attn.q_norm.weight"
    tensors = {key: value for key, value in model.tensors.items() if key != name}
    with pytest.raises(BrokenModelFile, match=rf"{name}' of shape \[32\] is missing"):
        load(model.config, DictSource(tensors), TorchCompute("fp32").ops)


def test_misshaped_tensor_is_named(tiny: Callable[[str], Tiny]) -> None:
    model = tiny("llama")
    name = "model.layers.2.mlp.down_proj.weight"
    bent = DictSource({**model.tensors, name: model.tensors[name].T.contiguous()})
    with pytest.raises(BrokenModelFile, match=rf"{name}' has shape \[96, 64\], but .* needs \[64, 96\]"):
        load(model.config, bent, TorchCompute("fp32").ops)


def test_unknown_architecture_lists_the_known(tiny: Callable[[str], Tiny]) -> None:
    model = tiny("llama")
    config = replace(model.config, architecture="mamba")
    with pytest.raises(UnsupportedModel, match=r"'mamba'.*llama, mistral, qwen2, qwen3, gemma3"):
        load(config, model.source, TorchCompute("fp32").ops)


def test_progress_counts_layers(tiny: Callable[[str], Tiny]) -> None:
    model = tiny("gemma3")
    seen: list[tuple[int, int]] = []
    load(model.config, model.source, TorchCompute("fp32").ops, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
