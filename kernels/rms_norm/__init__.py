"""Root-mean-square normalisation of rows: `rms_norm(x, weight, eps, dtype)`.

x       float32 or bfloat16 [T, D]
weight  float32 [D]
dtype   of the result: float32 or bfloat16
result  x / sqrt(mean(x**2) + eps) * weight, computed in float32 and rounded once, [T, D]

Each row is reduced in an order that depends on D alone, so a row's bits do not depend on T.
ValueError for other shapes or dtypes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .reference import rms_norm_reference

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["rms_norm"]


def rms_norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """The rows of `x`, each divided by its root mean square and scaled by `weight`."""
    if x.ndim != 2 or weight.shape != x.shape[1:]:
        raise ValueError(
            f"rms_norm needs x [T, D] and weight [D], got {list(x.shape)} and {list(weight.shape)}"
        )
    if weight.dtype != torch.float32:
        raise ValueError(f"the weight of rms_norm must be float32, got {weight.dtype}")
    return rms_norm_reference(x, weight, eps, dtype)
