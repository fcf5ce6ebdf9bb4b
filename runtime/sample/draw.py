"""Draws from one row: which ids survive top-k, top-p and min-p, and which of them u picks.

Everything here sees one row only. Ids of equal logits rank by id, lowest first, so a filter that
cuts through a tie cuts it the same way always. Draws invert the cumulative weights in id order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .weights import BLOCK, MIN_TEMPERATURE

if TYPE_CHECKING:
    from furcate.protocol.sampling import Sampling

__all__ = ["Filter", "draw_from_candidates", "draw_from_weights", "ranked"]


@dataclass(frozen=True, slots=True)
class Filter:
    """The filters of one row; those that are off in `Sampling` are None here."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None

    @classmethod
    def of(cls, sampling: Sampling) -> Filter:
        return cls(
            temperature=max(sampling.temperature, MIN_TEMPERATURE),
            top_k=sampling.top_k if sampling.top_k > 0 else None,
            top_p=sampling.top_p if sampling.top_p < 1.0 else None,
            min_p=sampling.min_p if sampling.min_p > 0.0 else None,
        )

    @property
    def is_off(self) -> bool:
        return self.top_k is None and self.top_p is None and self.min_p is None

    @property
    def needs_total(self) -> bool:
        """Whether top-p counts over the whole vocabulary."""
        return self.top_p is not None and self.top_k is None

    def first_rank(self, vocab_size: int) -> int:
        """How many ranked ids to look at first. With top-k that is all it keeps."""
        if self.top_k is not None:
            return min(self.top_k, vocab_size)
        return min(64, vocab_size)


def ranked(logits: np.ndarray, threshold: float) -> np.ndarray:
    """The ids of all logits of at least `threshold` that are not -inf, best first."""
    ids = np.flatnonzero((logits >= threshold) & (logits > -np.inf))
    return ids[np.argsort(-logits[ids], kind="stable")]


def draw_from_candidates(
    logits: np.ndarray, ids: np.ndarray, choice: Filter, total: float, is_all: bool, u: float
) -> int | None:
    """The id that u picks among the survivors of `ids`, ranked as by `ranked`.

    None if more ranked ids must be looked at first; never if `is_all` says that there are none.
    `total` is the sum of all weights of the row, read where `choice.needs_total`.
    """
    ids = ids[: choice.top_k]
    best = float(logits[ids[0]])
    weights = np.exp((logits[ids].astype(np.float64) - best) / choice.temperature)
    cumulative = weights.cumsum()
    kept = len(ids)
    if choice.top_p is not None:
        whole = total if choice.needs_total else float(cumulative[-1])
        kept = int(np.searchsorted(cumulative, choice.top_p * whole)) + 1
        if kept > len(ids):
            if choice.needs_total and not is_all:
                return None
            kept = len(ids)
    elif choice.top_k is None and not is_all and weights[-1] >= (choice.min_p or 0.0):
        return None
    if choice.min_p is not None:
        kept = min(kept, int(np.count_nonzero(weights >= choice.min_p)))
    order = np.argsort(ids[:kept])
    return int(ids[order[_pick(weights[order], u)]])


def draw_from_weights(blocks: np.ndarray, block_sums: np.ndarray, u: float) -> int:
    """The id that u picks among all ids, by their weights [blocks, BLOCK] and the blocks' sums."""
    cumulative = block_sums.cumsum()
    block = _pick(block_sums, u)
    before = float(cumulative[block - 1]) if block else 0.0
    rest = (u * float(cumulative[-1]) - before) / float(block_sums[block])
    weights = blocks[block].astype(np.float64)
    return block * BLOCK + _pick(weights, max(rest, 0.0))


def _pick(weights: np.ndarray, u: float) -> int:
    """The first index whose cumulative weight exceeds u times the sum; its weight is above zero."""
    cumulative = weights.cumsum()
    index = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
    if index < len(weights):
        return index
    return int(np.flatnonzero(weights)[-1])  # u rounded up to the whole
