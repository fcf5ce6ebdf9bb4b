"""The tile loop that every implementation of `linear` shares; it knows no matrix library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TILE_ROWS", "PackedWeight"]

TILE_ROWS = 32
LOWER_TILES = (8, 16)


class PackedWeight(ABC):
    """A weight [out_features, in_features] in the layout of one implementation."""

    def __init__(self, weight: Tensor) -> None:
        self.out_features, self.in_features = weight.shape
        self.dtype = weight.dtype
        self._heights: tuple[int, ...] = (TILE_ROWS,)  # of tiles with equal bits, ascending

    @abstractmethod
    def multiply_tile(self, tile: Tensor) -> Tensor:
        """The product of one tile of contiguous rows, TILE_ROWS or one of LOWER_TILES."""

    def try_lower_tiles(self) -> None:
        """Admits the lower tiles that give every row the bits that it has in a full tile.

        Whether they do is up to the library, the machine and the shape: they set the order of a
        sum, the numbers do not. So it is tried, once for each weight, with numbers that show it.
        """
        numbers = torch.Generator().manual_seed(self.in_features)
        rows = torch.randn((TILE_ROWS, self.in_features), generator=numbers).to(self.dtype)
        whole = self.multiply_tile(rows)

        def agrees(height: int) -> bool:
            starts = range(0, TILE_ROWS, height)
            parts = [self.multiply_tile(rows[at : at + height]) for at in starts]
            return torch.equal(torch.cat(parts), whole)

        self._heights = (*filter(agrees, LOWER_TILES), TILE_ROWS)

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
        height = next(height for height in self._heights if height >= x.shape[0])
        tile = x.new_zeros((height, self.in_features))
        tile[: x.shape[0]] = x
        return self.multiply_tile(tile)[: x.shape[0]]
