"""GELU by tanh, in torch: products, sums and tanh, whose bits do not depend on where a row lies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["gelu_mul_reference"]


def gelu_mul_reference(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.float().chunk(2, dim=-1)
    inner = (gate * gate * gate).mul_(0.044715).add_(gate).mul_(math.sqrt(2 / math.pi))
    gelu = inner.tanh_().add_(1.0).mul_(gate).mul_(0.5)
    return gelu.mul_(up).to(gate_up.dtype)
