"""Products by torch.mm on the weight as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .tile import PackedWeight

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ReferenceWeight"]


class ReferenceWeight(PackedWeight):
    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self._transposed = weight.contiguous().t()  # [K, N]

    def multiply_tile(self, tile: Tensor) -> Tensor:
        return torch.mm(tile, self._transposed)
