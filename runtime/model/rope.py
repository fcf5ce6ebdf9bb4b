"""Rope frequencies of a model, and the ways in which checkpoints stretch them, as numbers; the
rotation itself is a kernel.

Every way is a divisor for each frequency, and yarn and longrope scale cosines and sines besides.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from .config import RopeConfig

__all__ = [
    "llama3_divisors",
    "longrope_scale",
    "rope_frequencies",
    "yarn_divisors",
    "yarn_scale",
]


def rope_frequencies(rope: RopeConfig) -> Tensor:
    """Radians a position of each pair of dimensions, float32 [size / 2]."""
    frequencies = _frequencies(rope.base, rope.size)
    if rope.divisors:
        frequencies /= torch.tensor(rope.divisors, dtype=torch.float32)
    return frequencies


def _frequencies(base: float, size: int) -> Tensor:
    exponents = torch.arange(0, size, 2, dtype=torch.float32) / size
    return 1.0 / base**exponents


def llama3_divisors(
    base: float,
    size: int,
    *,
    factor: float,
    low_frequency_factor: float,
    high_frequency_factor: float,
    original_context: int,
) -> tuple[float, ...]:
    """Llama 3's stretching: slow pairs are divided by `factor`, fast ones not at all, and those
    between glide from one to the other."""
    divisors = []
    for frequency in _frequencies(base, size).tolist():
        turns = original_context * frequency / (2 * math.pi)
        if turns <= low_frequency_factor:
            divisors.append(factor)
        elif turns >= high_frequency_factor:
            divisors.append(1.0)
        else:
            fast = (turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor)
            divisors.append(1.0 / ((1 - fast) / factor + fast))
    return tuple(divisors)


def yarn_divisors(
    base: float,
    size: int,
    *,
    factor: float,
    beta_fast: float,
    beta_slow: float,
    original_context: int,
    truncate: bool,
) -> tuple[float, ...]:
    """YaRN's stretching: pairs that turn more than `beta_fast` times within the original context
    stay, those that turn less than `beta_slow` times are divided, a ramp over pairs between."""

    def pair_that_turns(turns: float) -> float:
        return size * math.log(original_context / (turns * 2 * math.pi)) / (2 * math.log(base))

    whole_down, whole_up = _roundings(truncate)
    low = max(whole_down(pair_that_turns(beta_fast)), 0.0)
    high = min(whole_up(pair_that_turns(beta_slow)), size - 1.0)
    width = high - low or 0.001
    ramp = [min(max((pair - low) / width, 0.0), 1.0) for pair in range(size // 2)]
    return tuple(1.0 / (stretched / factor + (1 - stretched)) for stretched in ramp)


def _roundings(truncate: bool) -> tuple[Callable[[float], float], Callable[[float], float]]:
    return (math.floor, math.ceil) if truncate else (float, float)


def yarn_scale(factor: float, weight: float = 1.0) -> float:
    """How much longer contexts sharpen attention: a factor of cosines, sines or scores."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def longrope_scale(factor: float, original_context: int) -> float:
    """LongRoPE's factor of cosines and sines for a context that is `factor` times as long."""
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original_context))
