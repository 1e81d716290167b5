"""Llama (arXiv 2302.13971, 2307.09288, 2407.21783), which SmolLM2 and many others are."""

from __future__ import annotations

from .blocks import Attention, Decoder, PreNormBlock
from .parameters import Parameters


def llama(parameters: Parameters) -> Decoder:
    """Pre-norm blocks of grouped-query attention and SwiGLU, with rotary positions throughout."""
    rope = parameters.rope(parameters.config.rope)

    def block(layer: int) -> PreNormBlock:
        return PreNormBlock(parameters, layer, Attention(parameters, layer, rope=rope))

    return Decoder(parameters, block)
