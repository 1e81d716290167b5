"""Qwen 2 and 2.5 (arXiv 2407.10671, 2412.15115): Llama with a bias on queries, keys and values."""

from __future__ import annotations

from .blocks import Attention, Decoder, PreNormBlock
from .parameters import Parameters


def qwen2(parameters: Parameters) -> Decoder:
    """Llama's blocks with q, k and v biases (`config.qkv_bias`); the upper layers may slide along a window."""
    config = parameters.config
    rope = parameters.rope(config.rope)

    def block(layer: int) -> PreNormBlock:
        return PreNormBlock(parameters, layer, Attention(parameters, layer, rope=rope, window=config.windows[layer]))

    return Decoder(parameters, block)
