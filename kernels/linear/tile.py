"""The tile loop that every implementation of `linear` shares; it knows no matrix library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TILE_ROWS", "PackedWeight"]

TILE_ROWS = 32


class PackedWeight(ABC):
    """A weight [out_features, in_features] in the layout of one implementation."""

    def __init__(self, weight: Tensor) -> None:
        self.out_features, self.in_features = weight.shape
        self.dtype = weight.dtype

    @abstractmethod
    def multiply_tile(self, tile: Tensor) -> Tensor:
        """The product of exactly TILE_ROWS contiguous rows."""

    def multiply(self, x: Tensor) -> Tensor:
        """The product of any number of rows, tile by tile."""
        num_rows = x.shape[0]
        if num_rows == TILE_ROWS:
            return self.multiply_tile(x.contiguous())
        if num_rows < TILE_ROWS:
            return self._multiply_part(x)
        result = x.new_empty((num_rows, self.out_features))
        whole = num_rows - num_rows % TILE_ROWS
        for start in range(0, whole, TILE_ROWS):
            end = start + TILE_ROWS
            result[start:end] = self.multiply_tile(x[start:end].contiguous())
        if whole < num_rows:
            result[whole:] = self._multiply_part(x[whole:])
        return result

    def _multiply_part(self, x: Tensor) -> Tensor:
        tile = x.new_zeros((TILE_ROWS, self.in_features))
        tile[: x.shape[0]] = x
        return self.multiply_tile(tile)[: x.shape[0]]
