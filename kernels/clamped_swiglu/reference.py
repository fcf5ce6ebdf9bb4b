"""The clamped gate in torch. Its sigmoid is spelled out: torch's own has other bits at the end of a
row than within."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ALPHA", "LIMIT", "clamped_swiglu_reference"]

ALPHA = 1.702
LIMIT = 7.0


def clamped_swiglu_reference(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.float().chunk(2, dim=-1)
    gate = gate.clamp(max=LIMIT)
    # Far below zero exp overflows to infinity, and gate / infinity is the right limit, -0.
    denominator = gate.mul(-ALPHA).exp_().add_(1.0)
    return (gate / denominator).mul_(up.clamp(-LIMIT, LIMIT).add_(1.0)).to(gate_up.dtype)
