"""Rotary positions in torch: separate products and sums, each rounded as IEEE says, so no element
depends on which vector lane computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["rotate_reference", "rotation_table_reference"]


def rotation_table_reference(positions: Tensor, frequencies: Tensor) -> Tensor:
    angles = positions.double()[:, None] * frequencies.double()  # [T, D / 2]
    return torch.stack((angles.cos(), angles.sin())).float()


def rotate_reference(x: Tensor, table: Tensor, interleaved: bool) -> Tensor:
    cos, sin = table[0, :, None, :], table[1, :, None, :]  # [T, 1, D / 2]
    pairs = x.float()
    if interleaved:
        first, second = pairs[..., 0::2], pairs[..., 1::2]
    else:
        first, second = pairs.chunk(2, dim=-1)
    turned_first = first * cos - second * sin
    turned_second = second * cos + first * sin
    if interleaved:
        return torch.stack((turned_first, turned_second), dim=-1).flatten(-2)
    return torch.cat((turned_first, turned_second), dim=-1)
