"""Calls of the native paged attention on numpy arrays, for tests and benchmarks.

bfloat16 is held in uint16. Knows no model and no cache: pages are named by the caller's tables. An
executor uses the C++ functions of `attention.h` directly.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.library import check_sizes, declare
from furcate.kernels.structures import (
    KV_TYPES,
    Attention,
    KVPages,
    KVShape,
    PageCopy,
    StepRows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.kernels.elementwise.native import RowBuffer
    from furcate.kernels.library import Library, Pool

__all__ = [
    "KVType",
    "PageMemory",
    "PagedAttention",
    "Plan",
    "Shape",
    "Step",
    "round_bf16",
]

POINTER, I32, I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
CACHE_LINE = 64


class KVType(IntEnum):
    BF16 = KV_TYPES["bf16"]
    INT8 = KV_TYPES["int8"]


@dataclass(frozen=True, slots=True)
class Shape:
    """Facts of the heads and pages, as in `KVShape`."""

    num_heads: int
    kv_heads: int
    head_dim: int
    page_size: int
    num_pages: int
    type: KVType = KVType.BF16

    @property
    def struct(self) -> KVShape:
        return KVShape(
            int(self.type),
            self.num_heads,
            self.kv_heads,
            self.head_dim,
            self.page_size,
            self.num_pages,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """The rows of a step, as in `StepRows`; all arrays int32 and contiguous."""

    row_starts: np.ndarray  # [R + 1]
    positions: np.ndarray  # [T]
    kv_lens: np.ndarray  # [R]
    page_table: np.ndarray  # [R, pages of a row]

    @property
    def struct(self) -> StepRows:
        """Points into this step, which must outlive it."""
        return StepRows(
            len(self.kv_lens),
            len(self.positions),
            self.row_starts.ctypes.data,
            self.positions.ctypes.data,
            self.kv_lens.ctypes.data,
            self.page_table.ctypes.data,
            self.page_table.shape[1],
        )


@dataclass(frozen=True, slots=True)
class PageMemory:
    """One layer's pages. Their layout is the kernel's."""

    keys: np.ndarray  # uint8 [num pages, bytes of a page]
    values: np.ndarray
    key_scales: np.ndarray  # float32 [num pages, scales of a page]
    value_scales: np.ndarray

    @property
    def struct(self) -> KVPages:
        """Points into this memory, which must outlive it."""
        return KVPages(
            self.keys.ctypes.data,
            self.values.ctypes.data,
            self.key_scales.ctypes.data,
            self.value_scales.ctypes.data,
        )


def round_bf16(values: np.ndarray) -> np.ndarray:
    """float32 to bfloat16, to the nearest, halves to even; for numbers, not for NaNs.  # uint16"""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


class Plan:
    """A native plan; its memory is kept from step to step until `close`."""

    def __init__(self, library: Library, shape: Shape) -> None:
        self._lib = library.lib
        self._shape = shape.struct
        self._address: int | None = self._lib.fc_attention_plan_new(ctypes.byref(self._shape))
        self._step: Step | None = None  # kept alive: the plan points into it
        self._rows: StepRows | None = None

    def make(self, step: Step, num_threads: int) -> None:
        if step is not self._step:
            self._step, self._rows = step, step.struct
        assert self._rows is not None
        self._lib.fc_attention_plan_make(self.handle, ctypes.byref(self._rows), num_threads)

    @property
    def handle(self) -> ctypes.c_void_p:
        if self._address is None:
            raise ValueError("the plan is closed")
        return ctypes.c_void_p(self._address)

    @property
    def num_tasks(self) -> list[int]:
        """Of each stage."""
        stages = int(self._lib.fc_attention_num_stages(self.handle))
        return [
            int(self._lib.fc_attention_num_tasks(self.handle, stage)) for stage in range(stages)
        ]

    def close(self) -> None:
        """Again: nothing."""
        address, self._address = self._address, None
        if address is not None:
            self._lib.fc_attention_plan_free(address)


class PagedAttention:
    """The operation in one library, on the threads of one pool."""

    def __init__(self, library: Library, pool: Pool) -> None:
        self._lib, self._pool, self._library = library.lib, pool, library
        check_sizes(
            library.lib,
            {
                "KVShape": KVShape,
                "KVPages": KVPages,
                "StepRows": StepRows,
                "PageCopy": PageCopy,
                "Attention": Attention,
            },
        )
        arguments: dict[str, list[type]] = {
            "fc_kv_page_bytes": [POINTER, POINTER],
            "fc_kv_write": [POINTER] * 6,
            "fc_kv_copy": [POINTER, POINTER, POINTER, I64],
            "fc_attention_plan_new": [POINTER],
            "fc_attention_plan_free": [POINTER],
            "fc_attention_plan_make": [POINTER, POINTER, I32],
            "fc_attention_num_stages": [POINTER],
            "fc_attention_num_tasks": [POINTER, I32],
            "fc_attention": [POINTER, POINTER],
        }
        results = {
            "fc_attention_plan_new": POINTER,
            "fc_attention_num_stages": I32,
            "fc_attention_num_tasks": I64,
        }
        declare(
            library.lib, {name: (types, results.get(name)) for name, types in arguments.items()}
        )

    def plan(self, shape: Shape) -> Plan:
        return Plan(self._library, shape)

    def allocate(self, shape: Shape, fill: int = 0) -> PageMemory:
        """Pages of a layer, every byte being `fill`; 0xFF makes NaNs of bfloat16 and of scales."""
        page_bytes = (I64 * 2)()
        self._lib.fc_kv_page_bytes(ctypes.byref(shape.struct), page_bytes)
        elements, scales = (
            _aligned(shape.num_pages * count, fill).reshape(shape.num_pages, -1)
            for count in (int(page_bytes[0]), int(page_bytes[1]))
        )
        return PageMemory(
            elements,
            _aligned(elements.size, fill).reshape(elements.shape),
            scales.view(np.float32),
            scales.copy().view(np.float32),
        )

    def write(
        self, shape: Shape, pages: PageMemory, step: Step, keys: np.ndarray, values: np.ndarray
    ) -> None:
        """float32 keys and values [T, kv_heads, head_dim] of a step's tokens into their slots."""
        self._lib.fc_kv_write(
            self._pool.handle,
            ctypes.byref(shape.struct),
            ctypes.byref(pages.struct),
            ctypes.byref(step.struct),
            keys.ctypes.data,
            values.ctypes.data,
        )

    def copy(self, shape: Shape, pages: PageMemory, copies: Sequence[tuple[int, int, int]]) -> None:
        """`(source page, target page, number of tokens)`, in order."""
        array = (PageCopy * len(copies))(*(PageCopy(*each) for each in copies))
        self._lib.fc_kv_copy(
            ctypes.byref(shape.struct), ctypes.byref(pages.struct), array, len(copies)
        )

    def attend(
        self,
        shape: Shape,
        pages: PageMemory,
        plan: Plan,
        queries: np.ndarray,
        out: RowBuffer,
        scale: float,
        soft_cap: float = 0.0,
        window: int = 0,
    ) -> None:
        """bfloat16 queries [T, num_heads, head_dim] into rows [T, num_heads * head_dim]."""
        shape_struct, pages_struct, rows = shape.struct, pages.struct, out.struct
        attention = Attention(
            ctypes.addressof(shape_struct),
            ctypes.addressof(pages_struct),
            plan.handle,
            queries.ctypes.data,
            ctypes.addressof(rows),
            scale,
            soft_cap,
            window,
        )
        self._lib.fc_attention(self._pool.handle, ctypes.byref(attention))


def _aligned(num_bytes: int, fill: int) -> np.ndarray:
    memory = np.full(num_bytes + CACHE_LINE, fill, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + num_bytes]
