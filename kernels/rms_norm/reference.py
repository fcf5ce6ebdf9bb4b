"""Root-mean-square normalisation in torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["rms_norm_reference"]


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    wide = x.float()
    # float32 square, mean over the contiguous last dimension and rsqrt give the same bits for a row
    # wherever it lies; a fused layer_norm does not promise that.
    scale = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()  # [T, 1]
    return (wide * scale).mul_(weight).to(dtype)
