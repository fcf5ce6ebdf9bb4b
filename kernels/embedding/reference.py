"""Table look-up in torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["embed_reference"]


def embed_reference(token_ids: Tensor, table: Tensor) -> Tensor:
    return table.index_select(0, token_ids)
