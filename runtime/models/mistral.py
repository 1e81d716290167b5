"""Mistral (arXiv 2310.06825): Llama, with attention that slides along a window."""

from __future__ import annotations

from .blocks import Attention, Decoder, PreNormBlock
from .parameters import Parameters


def mistral(parameters: Parameters) -> Decoder:
    """Llama's blocks; a token sees only the window's worth of tokens before it, itself included."""
    config = parameters.config
    rope = parameters.rope(config.rope)

    def block(layer: int) -> PreNormBlock:
        return PreNormBlock(parameters, layer, Attention(parameters, layer, rope=rope, window=config.windows[layer]))

    return Decoder(parameters, block)
