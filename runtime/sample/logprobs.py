"""Log-probabilities of the model itself: before bias, penalties, masks and temperature.

Each row is normalised alone, with a fixed order of sums. What is asked of a row does not change the
answers to other questions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from .batch import Alternatives
from .draw import ranked
from .weights import softmax_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["log_probs"]

# Rows normalised at a time: their weights are a copy of the logits.
CHUNK_ROWS = 32


@torch.inference_mode()
def log_probs(logits: torch.Tensor, queries: Sequence[tuple[int, int, int]]) -> list[Alternatives]:
    """For each query (row of `logits` [L, vocab_size], token id, num_top), the token's
    log-probability and the `num_top` likeliest of that row, in the order of the queries.

    A row that is not made of numbers gives nan.
    """
    rows = sorted({row for row, _, _ in queries})
    lines: dict[int, np.ndarray] = {}
    offsets: dict[int, float] = {}
    for start in range(0, len(rows), CHUNK_ROWS):
        part = rows[start : start + CHUNK_ROWS]
        chosen = logits[part].float()
        weights = softmax_weights(chosen, [1.0] * len(part))
        for place, row in enumerate(part):
            lines[row] = chosen[place].numpy()
            total = weights.total(place)
            offsets[row] = float(lines[row].max()) + (math.log(total) if total > 0 else math.nan)
    return [
        Alternatives(
            float(lines[row][token_id]) - offsets[row], _top(lines[row], offsets[row], num_top)
        )
        for row, token_id, num_top in queries
    ]


def _top(logits: np.ndarray, offset: float, count: int) -> tuple[tuple[int, float], ...]:
    count = min(count, len(logits))
    if not count:
        return ()
    threshold = float(np.partition(logits, len(logits) - count)[-count])
    ids = ranked(logits, threshold)[:count]
    return tuple((int(token_id), float(logits[token_id]) - offset) for token_id in ids)
