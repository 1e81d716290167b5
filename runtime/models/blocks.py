"""The parts that decoder-only transformers are put together from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ...kernels.ops import Activation, AttentionSpec, Ops, Vector
from .parameters import Parameters

Block: TypeAlias = Callable[[Ops, Activation], Activation]  # [T, width] -> [T, width], the residual stream


class Attention:
    """Grouped-query attention (arXiv 2305.13245) over rotated heads: softmax(q k^T scale) v, projected back."""

    def __init__(
        self,
        parameters: Parameters,
        layer: int,
        *,
        rope: int,
        window: int | None = None,
        q_norm: Vector | None = None,
        k_norm: Vector | None = None,
    ) -> None:
        config, prefix = parameters.config, f"model.layers.{layer}.self_attn"
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.qkv = parameters.linear(
            f"layers.{layer}.attention.qkv",
            {f"{prefix}.q_proj": queries, f"{prefix}.k_proj": keys, f"{prefix}.v_proj": keys},
            config.hidden_size,
            bias=config.qkv_bias,
        )
        self.spec = AttentionSpec(
            layer=layer,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            scale=config.query_scale,
            rope=rope,
            window=window,
            softcap=config.attention_softcap,
            q_norm=q_norm,
            k_norm=k_norm,
            norm_eps=config.norm_eps,
        )
        self.output = parameters.linear(
            f"layers.{layer}.attention.output",
            {f"{prefix}.o_proj": config.hidden_size},
            queries,
            bias=config.output_bias,
        )

    def __call__(self, ops: Ops, x: Activation, residual: Activation | None = None) -> Activation:
        """[T, width] -> [T, width], plus the residual."""
        qkv = ops.matmul(x, self.qkv)  # [T, (H + 2 Hkv) D]
        return ops.matmul(ops.attention(qkv, self.spec), self.output, residual)


class FeedForward:
    """A gated linear unit (arXiv 2002.05202): down(act(gate(x)) * up(x))."""

    def __init__(self, parameters: Parameters, layer: int) -> None:
        config, prefix = parameters.config, f"model.layers.{layer}.mlp"
        self.activation = config.activation
        self.gate_up = parameters.linear(
            f"layers.{layer}.mlp.gate_up",
            {f"{prefix}.gate_proj": config.intermediate_size, f"{prefix}.up_proj": config.intermediate_size},
            config.hidden_size,
            bias=config.mlp_bias,
        )
        self.down = parameters.linear(
            f"layers.{layer}.mlp.down",
            {f"{prefix}.down_proj": config.hidden_size},
            config.intermediate_size,
            bias=config.mlp_bias,
        )

    def __call__(self, ops: Ops, x: Activation, residual: Activation | None = None) -> Activation:
        """[rows, width] -> [rows, width], plus the residual."""
        both = ops.matmul(x, self.gate_up)  # [rows, 2 F]
        return ops.matmul(ops.gated(both, self.activation), self.down, residual)


class PreNormBlock:
    """x += attention(norm(x)), then x += feed_forward(norm(x)): the block of Llama and its descendants."""

    def __init__(self, parameters: Parameters, layer: int, attention: Attention) -> None:
        config, prefix = parameters.config, f"model.layers.{layer}"
        self.eps = config.norm_eps
        self.attention_norm = parameters.norm(f"{prefix}.input_layernorm.weight", config.hidden_size)
        self.attention = attention
        self.feed_forward_norm = parameters.norm(f"{prefix}.post_attention_layernorm.weight", config.hidden_size)
        self.feed_forward = FeedForward(parameters, layer)

    def __call__(self, ops: Ops, x: Activation) -> Activation:
        x = self.attention(ops, ops.rms_norm(x, self.attention_norm, self.eps), residual=x)
        return self.feed_forward(ops, ops.rms_norm(x, self.feed_forward_norm, self.eps), residual=x)


class Decoder:
    """Token embeddings, a stack of blocks, the last norm, and the logits of the rows that are wanted."""

    def __init__(self, parameters: Parameters, block: Callable[[int], Block]) -> None:
        config = parameters.config
        self.embedding = parameters.embedding()
        self.embedding_scale = config.embedding_scale
        self.blocks = [block(layer) for layer in parameters.layers()]
        self.norm = parameters.norm("model.norm.weight", config.hidden_size)
        self.eps = config.norm_eps
        self.head = parameters.head(self.embedding)
        self.softcap = config.logit_softcap

    def __call__(self, ops: Ops) -> Activation:
        """The logits of the step's `logit_rows`, [R, vocabulary]."""
        x = ops.embed(self.embedding, self.embedding_scale)  # [T, width]
        for block in self.blocks:
            x = block(ops, x)
        logits = ops.matmul(ops.rms_norm(ops.select(x), self.norm, self.eps), self.head)
        return logits if self.softcap is None else ops.softcap(logits, self.softcap)
