"""A model small enough to run thousands of requests in seconds, made here: a random Llama with its own tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ramify
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = (
    "The quick brown fox jumps over the lazy dog, and it was told: count to 1234567890! Naïve café, 日本語, 🙂.\n" * 8
)
WIDTH, INNER, LAYERS, HEADS, KV_HEADS, CONTEXT = 64, 96, 2, 4, 2, 512


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that Engine loads: config.json, tokenizer.json, model.safetensors."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=320, special_tokens=["<eos>"], initial_alphabet=alphabet)
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary, "hidden_size": WIDTH,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "hidden_act": "silu", "eos_token_id": 0,
        "torch_dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eos>"}))
    save_file(_weights(vocabulary), folder / "model.safetensors")
    return folder


def _weights(vocabulary: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) * scale / columns**0.5

    head = WIDTH // HEADS
    tensors = {"model.embed_tokens.weight": matrix(vocabulary, WIDTH, 8.0), "model.norm.weight": torch.ones(WIDTH)}
    tensors["lm_head.weight"] = matrix(vocabulary, WIDTH, 3.0)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        tensors |= {
            f"{at}self_attn.q_proj.weight": matrix(HEADS * head, WIDTH, 2.0),
            f"{at}self_attn.k_proj.weight": matrix(KV_HEADS * head, WIDTH, 2.0),
            f"{at}self_attn.v_proj.weight": matrix(KV_HEADS * head, WIDTH),
            f"{at}self_attn.o_proj.weight": matrix(WIDTH, HEADS * head),
            f"{at}mlp.gate_proj.weight": matrix(INNER, WIDTH),
            f"{at}mlp.up_proj.weight": matrix(INNER, WIDTH),
            f"{at}mlp.down_proj.weight": matrix(WIDTH, INNER),
            f"{at}input_layernorm.weight": torch.ones(WIDTH),
            f"{at}post_attention_layernorm.weight": torch.ones(WIDTH),
        }
    return tensors


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Iterator[ramify.Engine]:
    """An engine on it, in fp32, with room for everything."""
    with ramify.Engine(tiny_model, mode="fp32", cache_tokens=16384, progress=False) as engine:
        yield engine
        engine.check()
        assert engine.stats().scheduler.in_use_pages == 0
