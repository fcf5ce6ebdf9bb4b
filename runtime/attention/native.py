"""KV pages for the native kernels: memory of every layer, as the attention kernel lays it out.

Knows layers, heads and pages; what a page holds is decided by whoever makes the page tables.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from furcate.errors import UsageError
from furcate.kernels.paged_attention import SPLIT
from furcate.kernels.structures import KV_TYPES, KVPages, KVShape

if TYPE_CHECKING:
    from furcate.kernels.library import Library, Pool
    from furcate.kernels.structures import KVType

__all__ = ["NativePages", "NativeSpec"]

LANES = 16


@dataclass(frozen=True, slots=True)
class NativeSpec:
    """What a model asks of its pages."""

    num_layers: int
    num_heads: int
    kv_heads: int
    head_dim: int
    type: KVType

    @property
    def kv_bytes_per_token(self) -> int:
        head_bytes = 2 * self.head_dim if self.type == "bf16" else self.head_dim + 4
        return 2 * self.num_layers * self.kv_heads * head_bytes


class NativePages:
    """The pages of every layer. Memory that is never written is never taken from the system."""

    def __init__(self, library: Library, spec: NativeSpec, num_pages: int, page_size: int) -> None:
        if page_size % LANES or SPLIT % page_size:
            raise UsageError(
                f"--page-size {page_size}: native kernels read pages of 16, 32, 64, 128 or 256 "
                f"tokens; take one of them, or --kernels reference"
            )
        self.shape = KVShape(
            KV_TYPES[spec.type],
            spec.num_heads,
            spec.kv_heads,
            spec.head_dim,
            page_size,
            num_pages,
        )
        sizes = (ctypes.c_int64 * 2)()
        library.lib.fc_kv_page_bytes(ctypes.byref(self.shape), sizes)
        self._page_bytes = int(sizes[0])  # of keys; values take as much
        self._memory: list[np.ndarray] = []
        self._parts: list[tuple[int, int]] = []  # address and bytes a page of each
        self.layers = (KVPages * spec.num_layers)(
            *(self._layer(num_pages, sizes[0], sizes[1]) for _ in range(spec.num_layers))
        )

    def read_page(self, page: int) -> bytes:
        return b"".join(ctypes.string_at(at + page * size, size) for at, size in self._parts)

    def touch(self, pool: Pool, num_bytes: int) -> None:
        """Takes about so much memory from the system now: that of the first pages, all layers."""
        starts = [start for layer in self.layers for start in (layer.keys, layer.values)]
        first = min(num_bytes // len(starts), self._page_bytes * self.shape.num_pages)
        pool.touch(starts, first)

    def _layer(self, num_pages: int, page_bytes: int, scale_bytes: int) -> KVPages:
        return KVPages(
            self._zeros(num_pages, page_bytes),
            self._zeros(num_pages, page_bytes),
            self._zeros(num_pages, scale_bytes) if scale_bytes else None,
            self._zeros(num_pages, scale_bytes) if scale_bytes else None,
        )

    def _zeros(self, num_pages: int, page_bytes: int) -> int:
        """The address, a multiple of 64, of so many pages of zeros."""
        memory = np.zeros(num_pages * page_bytes + 64, np.uint8)
        self._memory.append(memory)
        address = -(-memory.ctypes.data // 64) * 64
        self._parts.append((address, page_bytes))
        return address
