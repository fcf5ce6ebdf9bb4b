"""The gate of a feed-forward layer that uses GELU: `gelu_mul(gate_up)`.

gate_up  float32 or bfloat16 [T, 2 F]: the gate's F columns, then the F columns it lets through
result   gelu(gate) * up with the approximation of GELU by tanh, computed in float32 and rounded
         once to gate_up's dtype, [T, F]

ValueError for other shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .reference import gelu_mul_reference

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["gelu_mul"]


def gelu_mul(gate_up: Tensor) -> Tensor:
    """The second half of the columns, each multiplied by the GELU of its gate in the first half."""
    if gate_up.ndim != 2 or gate_up.shape[1] % 2:
        raise ValueError(f"gelu_mul needs [T, 2 F], got {list(gate_up.shape)}")
    return gelu_mul_reference(gate_up)
