"""The random numbers of sampling: a pure function of a seed and a counter.

There is no state to save, to share or to disturb: retries, batches and their order change no draw.
"""

from __future__ import annotations

__all__ = ["uniform"]

_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, odd: index * _STEP visits every 64-bit word once


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) with 53 random bits. Seeds and indices count modulo 2**64."""
    word = _mix(_mix(seed & _MASK) + (index + 1) * _STEP & _MASK)
    return (word >> 11) * 2.0**-53


def _mix(word: int) -> int:
    """The finaliser of splitmix64: a bijection in which every bit depends on every other."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _MASK
    return word ^ (word >> 31)
