"""Rope frequencies of a model, as numbers; the rotation itself is a kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["llama3_divisors", "rope_frequencies"]


def rope_frequencies(base: float, head_dim: int, divisors: tuple[float, ...]) -> Tensor:
    """Radians a position of each pair of dimensions, float32 [head_dim / 2]."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    frequencies = 1.0 / base**exponents
    if divisors:
        frequencies /= torch.tensor(divisors, dtype=torch.float32)
    return frequencies


def llama3_divisors(
    base: float,
    head_dim: int,
    *,
    factor: float,
    low_frequency_factor: float,
    high_frequency_factor: float,
    original_context: int,
) -> tuple[float, ...]:
    """Llama 3's stretching: slow pairs are divided by `factor`, fast ones not at all, and those
    between glide from one to the other."""
    divisors = []
    for frequency in rope_frequencies(base, head_dim, ()).tolist():
        turns = original_context * frequency / (2 * math.pi)
        if turns <= low_frequency_factor:
            divisors.append(factor)
        elif turns >= high_frequency_factor:
            divisors.append(1.0)
        else:
            fast = (turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor)
            divisors.append(1.0 / ((1 - fast) / factor + fast))
    return tuple(divisors)
