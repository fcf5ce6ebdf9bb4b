"""The parts that decoder layers are built of: norms, projections, gates, and the residual stream.

Hidden states [T, hidden_size] are float32 between sublayers, products are in the model's dtype. A
row's bits depend on that row alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from furcate.kernels.clamped_swiglu import clamped_swiglu
from furcate.kernels.gelu_mul import gelu_mul
from furcate.kernels.linear import TILE_ROWS, PackedWeight, linear
from furcate.kernels.rms_norm import rms_norm
from furcate.kernels.silu_mul import silu_mul

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch
    from torch import Tensor

    from .config import Activation

__all__ = ["GATES", "Norm", "Projection", "Residual", "chunks"]

# Rows that go through one block at a time, so that its temporaries stay in the second-level cache.
CHUNK_ROWS = 4 * TILE_ROWS

GATES: Mapping[Activation, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"silu": silu_mul, "gelu_tanh": gelu_mul, "clamped_swiglu": clamped_swiglu}
)


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Root-mean-square normalisation of rows."""

    weight: Tensor  # float32 [width]
    eps: float

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return rms_norm(x, self.weight, self.eps, dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A product with a fixed matrix, and its bias if there is one."""

    weight: PackedWeight
    bias: Tensor | None = None  # in the weight's dtype [out_features]

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    def __call__(self, x: Tensor) -> Tensor:
        product = linear(x, self.weight)
        return product if self.bias is None else product.add_(self.bias)


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """How a sublayer takes part in the hidden states: what it reads of them and how it adds."""

    before: Norm | None
    after: Norm | None
    scale: float = 1.0

    def read(self, hidden: Tensor, dtype: torch.dtype) -> Tensor:
        return hidden.to(dtype) if self.before is None else self.before(hidden, dtype)

    def add(self, hidden: Tensor, output: Tensor) -> None:
        """Adds a sublayer's output to its rows of `hidden`, in place."""
        if self.after is not None:
            output = self.after(output, hidden.dtype)
        hidden += output if self.scale == 1.0 else output * self.scale


def chunks(num_rows: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK_ROWS) for start in range(0, num_rows, CHUNK_ROWS))
