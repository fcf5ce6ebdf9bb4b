"""The gate of a feed-forward layer whose sides are clamped: `clamped_swiglu(gate_up)`.

gate_up  float32 or bfloat16 [T, 2 F]: the gate's F columns, then the F columns it lets through
result   gate * sigmoid(ALPHA * gate) * (up + 1), where gate is at most LIMIT and up within
         -LIMIT .. LIMIT; computed in float32 and rounded once to gate_up's dtype, [T, F]

ValueError for other shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .reference import ALPHA, LIMIT, clamped_swiglu_reference

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ALPHA", "LIMIT", "clamped_swiglu"]


def clamped_swiglu(gate_up: Tensor) -> Tensor:
    """The second half of the columns plus one, each multiplied by its gate in the first half."""
    if gate_up.ndim != 2 or gate_up.shape[1] % 2:
        raise ValueError(f"clamped_swiglu needs [T, 2 F], got {list(gate_up.shape)}")
    return clamped_swiglu_reference(gate_up)
