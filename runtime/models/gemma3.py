"""Gemma 3, the text model (arXiv 2503.19786): five layers that look around for each one that looks at everything."""

from __future__ import annotations

from ...kernels.ops import Activation, Ops
from .blocks import Attention, Decoder, FeedForward
from .parameters import Parameters


def gemma3(parameters: Parameters) -> Decoder:
    """Norms before and after both halves of a block, normed q and k, and rotary tables of their own for local layers.

    The embedding's scale, sqrt(width), and the 1 that its norms' weights lack come with the config.
    """
    config = parameters.config
    everywhere = parameters.rope(config.rope)
    nearby = everywhere if config.local_rope is None else parameters.rope(config.local_rope)

    def block(layer: int) -> SandwichBlock:
        window, prefix = config.windows[layer], f"model.layers.{layer}.self_attn"
        attention = Attention(
            parameters,
            layer,
            rope=everywhere if window is None else nearby,
            window=window,
            q_norm=parameters.norm(f"{prefix}.q_norm.weight", config.head_dim),
            k_norm=parameters.norm(f"{prefix}.k_norm.weight", config.head_dim),
        )
        return SandwichBlock(parameters, layer, attention)

    return Decoder(parameters, block)


class SandwichBlock:
    """x += norm(attention(norm(x))), then x += norm(feed_forward(norm(x)))."""

    def __init__(self, parameters: Parameters, layer: int, attention: Attention) -> None:
        self.eps = parameters.config.norm_eps
        self.before_attention, self.after_attention, self.before_feed_forward, self.after_feed_forward = (
            parameters.norm(f"model.layers.{layer}.{name}.weight", parameters.config.hidden_size)
            for name in (
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            )
        )
        self.attention = attention
        self.feed_forward = FeedForward(parameters, layer)

    def __call__(self, ops: Ops, x: Activation) -> Activation:
        mixed = self.attention(ops, ops.rms_norm(x, self.before_attention, self.eps))
        x = ops.add(x, ops.rms_norm(mixed, self.after_attention, self.eps))
        changed = self.feed_forward(ops, ops.rms_norm(x, self.before_feed_forward, self.eps))
        return ops.add(x, ops.rms_norm(changed, self.after_feed_forward, self.eps))
