"""From the tensors of a checkpoint to the parts of layers, in one dtype, packed for the kernels.

Knows names and shapes, not what a tensor is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from furcate.kernels.linear import pack

from .layers import Norm, Projection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from .weights import TensorSource

__all__ = ["WeightReader"]


class WeightReader:
    """Reads, checks and packs tensors, one after the other."""

    def __init__(self, source: TensorSource, dtype: torch.dtype, norm_eps: float) -> None:
        self._source = source
        self._dtype = dtype
        self._norm_eps = norm_eps

    @property
    def dtype(self) -> torch.dtype:
        """Of products, and of what is packed for them."""
        return self._dtype

    def exact(self, name: str, shape: tuple[int, int]) -> Tensor:
        """A matrix in float32."""
        return self._source.read(name, shape)

    def matrix(self, name: str, shape: tuple[int, int]) -> Tensor:
        return self._source.read(name, shape).to(self._dtype)

    def vector(self, name: str, size: int) -> Tensor:
        """In float32."""
        return self._source.read(name, (size,))

    def norm(self, name: str, size: int, eps: float | None = None) -> Norm:
        return Norm(self.vector(f"{name}.weight", size), self._norm_eps if eps is None else eps)

    def projection(self, parts: Mapping[str, int], width: int, *, bias: bool = False) -> Projection:
        """One projection of several, one on another: name to rows."""
        rows = [self.matrix(f"{name}.weight", (size, width)) for name, size in parts.items()]
        biases = [self.vector(f"{name}.bias", size) for name, size in parts.items() if bias]
        return Projection(
            pack(torch.cat(rows) if len(rows) > 1 else rows[0]),
            torch.cat(biases).to(self._dtype) if biases else None,
        )
