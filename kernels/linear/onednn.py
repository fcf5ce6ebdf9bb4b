"""Products on a weight that is repacked once into oneDNN's layout for tiles of TILE_ROWS.

The two operators are those that torch.compile emits for frozen weights; torch has no Python wrapper
for them, so their presence is asked for and not assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .tile import TILE_ROWS, PackedWeight

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["OneDNNWeight", "is_onednn_available"]


def is_onednn_available() -> bool:
    """Whether this build of torch has oneDNN and the operators of its packed products."""
    has_onednn: Callable[[], bool] = torch.backends.mkldnn.is_available
    return has_onednn() and all(
        hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
    )


class OneDNNWeight(PackedWeight):
    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        # Under inference mode the repacked tensor could not be read outside of it.
        with torch.inference_mode(False), torch.no_grad():
            plain = weight.detach().clone() if weight.is_inference() else weight.detach()
            self._packed = torch.ops.mkldnn._reorder_linear_weight(plain.contiguous(), TILE_ROWS)
            self.try_lower_tiles()

    def multiply_tile(self, tile: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            tile, self._packed, None, "none", [], ""
        )
        return product
