"""Qwen 3 (arXiv 2505.09388): Llama with norms on every head's queries and keys, and no biases."""

from __future__ import annotations

from .blocks import Attention, Decoder, PreNormBlock
from .parameters import Parameters


def qwen3(parameters: Parameters) -> Decoder:
    """Llama's blocks; q and k are normed, head by head, before they are rotated."""
    config = parameters.config
    rope = parameters.rope(config.rope)

    def block(layer: int) -> PreNormBlock:
        prefix = f"model.layers.{layer}.self_attn"
        attention = Attention(
            parameters,
            layer,
            rope=rope,
            window=config.windows[layer],
            q_norm=parameters.norm(f"{prefix}.q_norm.weight", config.head_dim),
            k_norm=parameters.norm(f"{prefix}.k_norm.weight", config.head_dim),
        )
        return PreNormBlock(parameters, layer, attention)

    return Decoder(parameters, block)
