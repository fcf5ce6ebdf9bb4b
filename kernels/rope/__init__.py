"""Rotary positions: `rotation_table(positions, frequencies)` and `rotate(x, table, interleaved)`.

frequencies  float32 [D / 2]: radians a position, one for each pair of dimensions
positions    integers [T]
table        float32 [2, T, D / 2]: cosines and sines, made in float64 and rounded once
x            float32 or bfloat16 [T, H, D]
result       float32 [T, H, D]

Two layouts of a pair exist and a checkpoint is trained or permuted for exactly one. `interleaved`:
dimensions (2i, 2i + 1), as in llama-architecture GGUF files, whose query and key weights are
permuted for it. Half-split: dimensions (i, i + D / 2), as in transformers' checkpoints.

ValueError for other shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .reference import rotate_reference, rotation_table_reference

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["rotate", "rotation_table"]


def rotation_table(positions: Tensor, frequencies: Tensor) -> Tensor:
    """Cosines and sines of the angles of `positions`: one table serves every layer of a forward."""
    if positions.ndim != 1 or frequencies.ndim != 1:
        raise ValueError(
            f"rotation_table needs positions [T] and frequencies [D / 2], "
            f"got {list(positions.shape)} and {list(frequencies.shape)}"
        )
    return rotation_table_reference(positions, frequencies)


def rotate(x: Tensor, table: Tensor, interleaved: bool) -> Tensor:
    """`x` with every pair of dimensions turned by its angle."""
    if x.ndim != 3 or table.shape != (2, x.shape[0], x.shape[2] // 2) or x.shape[2] % 2:
        raise ValueError(
            f"rotate needs x [T, H, D] with an even D and a table [2, T, D / 2], "
            f"got {list(x.shape)} and {list(table.shape)}"
        )
    return rotate_reference(x, table, interleaved)
