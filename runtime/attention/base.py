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
    """What a model asks of its backend. A layer with a window of n lets a token see itself and the
    n - 1 before it; its pages keep all of them, as those of every layer do."""

    num_layers: int
    num_heads: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype  # of the stored keys and values
    scale: float | None = None  # of the scores; None: 1 / sqrt(head_dim)
    softcap: float | None = None  # scores go through softcap * tanh(score / softcap)
    windows: tuple[int | None, ...] = ()  # of each layer; empty: none has one
    values_are_keys: bool = False  # what is stored once is both

    @property
    def kv_bytes_per_token(self) -> int:
        num_stored = 1 if self.values_are_keys else 2
        return num_stored * self.num_layers * self.kv_heads * self.head_dim * self.dtype.itemsize

    def window(self, layer: int) -> int | None:
        return self.windows[layer] if self.windows else None


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

    def attend(
        self,
        layer: int,
        plan: Plan,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Writes k and v [T, kv_heads, head_dim], does the copies, and attends with q
        [T, num_heads, head_dim]: float32 of q's shape. `v` is not read where values are keys. Each
        of `sinks` [num_heads] is a logit that takes part in its head's softmax and has no value."""
        ...
