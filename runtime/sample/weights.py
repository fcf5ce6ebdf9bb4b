"""Unnormalised softmax weights of whole rows, and their sums.

Rows are summed in blocks of BLOCK ids in float32 and over the blocks in float64, in a fixed order,
so a row's sum does not depend on the rows beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BLOCK", "MIN_TEMPERATURE", "Weights", "softmax_weights"]

BLOCK = 256
# Below it float32 quotients overflow, and nothing but ties of the maximum has any weight left.
MIN_TEMPERATURE = 1e-6


class Weights(NamedTuple):
    """exp((logit - maximum) / temperature) of n rows. The largest weight of a row is 1."""

    blocks: np.ndarray  # float32 [n, vocab_size / BLOCK rounded up, BLOCK]; zeros past the end
    block_sums: np.ndarray  # float64 [n, blocks of a row]

    def total(self, row: int) -> float:
        return float(self.block_sums[row].cumsum()[-1])


def softmax_weights(logits: torch.Tensor, temperatures: list[float]) -> Weights:
    """The weights of rows [n, vocab_size] whose maxima are finite; -inf gives a weight of zero."""
    maxima = logits.amax(-1, keepdim=True)
    scale = torch.tensor([max(t, MIN_TEMPERATURE) for t in temperatures])
    scaled = (logits - maxima).div_(scale[:, None])
    padded = F.pad(scaled, (0, -logits.shape[1] % BLOCK), value=-torch.inf)
    blocks = padded.exp_().view(len(temperatures), -1, BLOCK)
    return Weights(blocks.numpy(), blocks.sum(-1).double().numpy())
