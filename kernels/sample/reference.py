"""Draws and log-probabilities of one row in double precision: what `sample.h` means, in numpy.

Without penalties, bias and banned ids, which change logits before all that is done here. Knows no
sums of float32: beside a boundary of two ids a native draw may pick the other one.
"""

from __future__ import annotations

import numpy as np

__all__ = ["draw_reference", "log_probs_reference", "uniform_reference"]

WORD = 2**64 - 1


def draw_reference(logits: np.ndarray, row: np.void, allowed: np.ndarray | None = None) -> int:
    """The token that a record of SAMPLE_ROW draws from float32 [V]; -1 where there is none."""
    values = logits.astype(np.float64)
    if allowed is not None:  # bool [V]
        values[~allowed] = -np.inf
    best = values.max()
    if not np.isfinite(best):
        return -1
    if row["temperature"] == 0:
        return int(values.argmax())
    weights = np.exp((values - best) / row["temperature"])
    kept = np.argsort(-values, kind="stable")  # best first, of equal ones the lowest id
    if row["top_k"] > 0:
        kept = kept[: row["top_k"]]
    if row["top_p"] < 1:
        cumulated = weights[kept].cumsum()
        kept = kept[: np.searchsorted(cumulated, row["top_p"] * cumulated[-1]) + 1]
    kept = np.sort(kept[weights[kept] >= row["min_p"]])
    cumulated = weights[kept].cumsum()
    u = uniform_reference(int(row["seed"]), int(row["index"]))
    return int(kept[np.searchsorted(cumulated, u * cumulated[-1], side="right")])


def log_probs_reference(logits: np.ndarray) -> np.ndarray:
    """Of a row of numbers.  # float64 [V]"""
    values = logits.astype(np.float64)
    offset = values.max()
    result: np.ndarray = values - (offset + np.log(np.exp(values - offset).sum()))
    return result


def uniform_reference(seed: int, index: int) -> float:
    """In [0, 1)."""
    word = _mix(_mix(seed) + (index + 1) * 0x9E3779B97F4A7C15 & WORD)
    return (word >> 11) * 2.0**-53


def _mix(word: int) -> int:
    """The finaliser of splitmix64."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & WORD
    return word ^ word >> 31
