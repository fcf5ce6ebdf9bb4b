"""Attention by the paged kernels, with the pages of all layers in host memory.

Stateless between forwards except for the pages: whoever makes the page tables decides what a page
holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from furcate.kernels import paged_attention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from .base import AttentionSpec, PagedRows

__all__ = ["PagedAttention", "PagedPlan"]


@dataclass(frozen=True, slots=True)
class PagedPlan:
    attention: Mapping[int | None, paged_attention.AttentionPlan]  # by window
    copies: tuple[paged_attention.CopyStep, ...]


class PagedAttention:
    """Implements AttentionBackend with the reference kernels."""

    def __init__(self, spec: AttentionSpec) -> None:
        self._spec = spec
        self._scale = 1.0 / math.sqrt(spec.head_dim) if spec.scale is None else spec.scale
        self._scratch = paged_attention.Scratch()
        self._shape: paged_attention.AttentionShape | None = None
        self._key_pages: list[Tensor] = []  # [num_pages, kv_heads, page_size, head_dim] each
        self._value_pages: list[Tensor] = []  # the very same ones where values are keys

    def allocate(self, num_pages: int, page_size: int) -> None:
        spec = self._spec
        assert self._shape is None, "the KV pages are made once"
        self._shape = paged_attention.AttentionShape(
            spec.num_heads, spec.kv_heads, spec.head_dim, page_size
        )
        size = (num_pages, spec.kv_heads, page_size, spec.head_dim)
        for _ in range(spec.num_layers):
            keys = _zeros(size, spec.dtype)
            self._key_pages.append(keys)
            self._value_pages.append(keys if spec.values_are_keys else _zeros(size, spec.dtype))

    def read_page(self, page: int) -> bytes:
        stored = self._key_pages
        if not self._spec.values_are_keys:
            stored = [*stored, *self._value_pages]
        parts = (pages[page] for pages in stored)
        return b"".join(part.view(torch.uint8).numpy().tobytes() for part in parts)

    def plan(self, rows: PagedRows, copies: tuple[tuple[int, int, int], ...]) -> PagedPlan:
        shape = self._shape
        assert shape is not None, "allocate() comes before the first forward"
        arrays = (rows.positions, rows.row_starts, rows.kv_lens, rows.page_table)
        windows = dict.fromkeys(map(self._spec.window, range(self._spec.num_layers)))
        return PagedPlan(
            {w: paged_attention.plan_attention(shape, *arrays, window=w) for w in windows},
            paged_attention.plan_copies(shape, copies),
        )

    def attend(
        self,
        layer: int,
        plan: PagedPlan,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        sinks: Tensor | None = None,
    ) -> Tensor:
        attention = plan.attention[self._spec.window(layer)]
        keys, values = self._key_pages[layer], self._value_pages[layer]
        paged_attention.write_kv(keys, k, attention)
        paged_attention.copy_pages(keys, plan.copies)
        if values is not keys:
            paged_attention.write_kv(values, v, attention)
            paged_attention.copy_pages(values, plan.copies)
        return paged_attention.attend(
            q,
            keys,
            values,
            attention,
            self._scale,
            self._scratch,
            softcap=self._spec.softcap,
            sinks=sinks,
        )


def _zeros(size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros that take memory only as they are written; torch.zeros writes them all at once."""
    return torch.from_numpy(np.zeros((*size, dtype.itemsize), np.uint8)).view(dtype)[..., 0]
