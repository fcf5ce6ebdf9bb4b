"""The gated activation in torch.

torch's own float32 silu and sigmoid use another formula for the last elements of a vector loop than
for the rest, so their bits depend on where a row lies. exp does not, and division is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["silu_mul_reference"]


def silu_mul_reference(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.float().chunk(2, dim=-1)
    # A gate below -88 overflows exp to infinity, and gate / infinity is the right limit, -0.
    denominator = gate.neg().exp_().add_(1.0)
    return (gate / denominator).mul_(up).to(gate_up.dtype)
