"""The seam between a model and the way it attends: KV memory and one plan for each forward.

Knows layers, heads and pages. Does not know weights, position encodings or whose a row is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

__all__ = ["AttentionBackend", "AttentionSpec", "PagedRows"]

Plan = TypeVar("Plan")


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """What a model asks of its backend."""

    num_layers: int
    num_heads: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype  # of the stored keys and values

    @property
    def kv_bytes_per_token(self) -> int:
        return 2 * self.num_layers * self.kv_heads * self.head_dim * self.dtype.itemsize


class PagedRows(Protocol):
    """The part of a forward batch that attention reads."""

    @property
    def positions(self) -> np.ndarray: ...
    @property
    def row_starts(self) -> np.ndarray: ...
    @property
    def kv_lens(self) -> np.ndarray: ...
    @property
    def page_table(self) -> np.ndarray: ...


class AttentionBackend(Protocol, Generic[Plan]):
    """Owns the KV pages of every layer."""

    def allocate(self, num_pages: int, page_size: int) -> None:
        """Makes the pages, zeroed; called once, before the first plan."""
        ...

    def read_page(self, page: int) -> bytes:
        """What every layer has in a page: keys and values of all its slots, as they are stored."""
        ...

    def plan(self, rows: PagedRows, copies: tuple[tuple[int, int, int], ...]) -> Plan:
        """Index work of one forward, for all layers. A copy is (source, target, num_tokens)."""
        ...

    def attend(self, layer: int, plan: Plan, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Writes k and v [T, kv_heads, head_dim], does the copies, and attends with q
        [T, num_heads, head_dim]: float32 of q's shape."""
        ...
