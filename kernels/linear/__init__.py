"""Products with a fixed matrix: `pack(weight)` once, then `linear(x, packed)`.

weight  float32 or bfloat16 [N, K]
x       the weight's dtype, [T, K], any T
result  x @ weight.T with float32 sums, rounded once to the same dtype, [T, N]

A row's result depends on that row and the weight alone, bit for bit. Matrix libraries pick their
kernel, and so the order of a sum, by the number of rows; therefore rows are computed in tiles of
TILE_ROWS, the last one filled with zeros. A lower tile takes its place where the implementation has
shown, for this weight on this machine, that every row has the same bits in it.

Implementations, fastest first:
`onednn`     the weight repacked once into oneDNN's blocked layout; 1.3 times the reference in
             bfloat16, 2 to 3 times in float32 (32 rows, Zen 5, 2 threads)
`reference`  torch.mm

ValueError for other shapes, for mixed dtypes, and for an implementation this machine has not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from furcate.kernels.spec import Candidate, choose

from .onednn import OneDNNWeight, is_onednn_available
from .reference import ReferenceWeight
from .tile import TILE_ROWS, PackedWeight

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["IMPLEMENTATIONS", "TILE_ROWS", "PackedWeight", "linear", "pack"]

IMPLEMENTATIONS: tuple[Candidate[type[PackedWeight]], ...] = (
    Candidate("onednn", OneDNNWeight, is_onednn_available),
    Candidate("reference", ReferenceWeight, lambda: True),
)


def pack(weight: Tensor, implementation: str = "auto") -> PackedWeight:
    """`weight` as `linear` reads it. The implementation may keep the tensor or a repacked copy."""
    if weight.ndim != 2 or weight.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(
            f"a weight must be float32 or bfloat16 [N, K], got {weight.dtype} {list(weight.shape)}"
        )
    name = implementation if weight.device.type == "cpu" else "reference"
    return choose("linear", IMPLEMENTATIONS, name).kernel(weight)


def linear(x: Tensor, weight: PackedWeight) -> Tensor:
    """`x` times the transposed weight, in tiles of TILE_ROWS rows."""
    if x.ndim != 2 or x.shape[1] != weight.in_features:
        raise ValueError(f"linear needs x [T, {weight.in_features}], got {list(x.shape)}")
    if x.dtype != weight.dtype:
        raise ValueError(f"x is {x.dtype} and the weight {weight.dtype}; convert x first")
    return weight.multiply(x)
