"""Rotary position tables: cos and sin for every position, computed as transformers computes them, in fp32."""

from __future__ import annotations

import math

import torch

from ..weights.config import FactorScaling, LinearScaling, Llama3Scaling, Rope, YarnScaling


def rope_tables(rope: Rope, head_dim: int, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of position times frequency: [positions, head_dim / 2] each."""
    frequencies, amplitude = scaled_frequencies(rope, head_dim)
    angles = torch.arange(positions, dtype=torch.float32)[:, None] * frequencies  # [positions, D / 2]
    return angles.cos() * amplitude, angles.sin() * amplitude


def scaled_frequencies(rope: Rope, head_dim: int) -> tuple[torch.Tensor, float]:
    """Radians per position, [head_dim / 2], and what cos and sin are multiplied by (1 but for YaRN)."""
    base = rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)  # [D / 2]
    plain = 1.0 / base
    match rope.scaling:
        case None:
            return plain, 1.0
        case LinearScaling(factor):
            return plain / factor, 1.0
        case FactorScaling(factors):
            return plain / torch.tensor(factors, dtype=torch.float32), 1.0
        case Llama3Scaling():
            return llama3(plain, rope.scaling), 1.0
        case YarnScaling():
            return yarn(base, rope, rope.scaling), rope.scaling.attention_factor


def llama3(plain: torch.Tensor, scaling: Llama3Scaling) -> torch.Tensor:
    """Llama 3.1: waves that fit the original context often are kept, those that never fit it are stretched."""
    wavelength = 2 * math.pi / plain
    longest_kept = scaling.original_context / scaling.high_frequency_factor
    shortest_stretched = scaling.original_context / scaling.low_frequency_factor
    kept_share = (scaling.original_context / wavelength - scaling.low_frequency_factor) / (
        scaling.high_frequency_factor - scaling.low_frequency_factor
    )
    between = (1 - kept_share) * plain / scaling.factor + kept_share * plain
    stretched_or_between = torch.where(wavelength > shortest_stretched, plain / scaling.factor, between)
    return torch.where(wavelength < longest_kept, plain, stretched_or_between)


def yarn(base: torch.Tensor, rope: Rope, scaling: YarnScaling) -> torch.Tensor:
    """YaRN (arXiv 2309.00071, section 3.2): from kept to stretched along a ramp over the dimensions."""
    head_dim = 2 * len(base)

    def dimension(rotations: float) -> float:  # the dimension that turns so often over the original context
        turns = scaling.original_context / (rotations * 2 * math.pi)
        return head_dim * math.log(turns) / (2 * math.log(rope.theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001  # a ramp of no length would divide by zero
    ramp = ((torch.arange(len(base), dtype=torch.float32) - low) / (high - low)).clamp(0, 1)  # 0 kept, 1 stretched
    kept = 1 - ramp
    return (1.0 / (scaling.factor * base)) * (1 - kept) + (1.0 / base) * kept
