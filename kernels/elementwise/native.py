"""Calls of the native elementwise kernels on numpy arrays, for tests and benchmarks.

Arrays are float32 and contiguous unless told otherwise. Knows no layers and allocates its results;
an executor uses the C++ functions of `elementwise.h` directly.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.library import check_sizes, declare
from furcate.kernels.linear.blocks import BLOCK_LAYOUTS
from furcate.kernels.structures import (
    ACTIVATIONS,
    ROW_TYPES,
    Embedding,
    Norm,
    RopeWrite,
    Rows,
)

from .reference import BLOCK, QuantRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from furcate.kernels.library import Library, Pool

__all__ = [
    "TABLE_TYPES",
    "Activation",
    "Elementwise",
    "RowBuffer",
    "RowType",
    "Table",
    "TableType",
]

_WORDS = {"F32": 4, "F16": 2, "BF16": 2}  # bytes of a value
POINTER, I32, I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class RowType(IntEnum):
    F32 = ROW_TYPES["f32"]
    BF16 = ROW_TYPES["bf16"]
    Q8 = ROW_TYPES["q8"]


class TableType(IntEnum):
    """Named as in GGUF files."""

    F32 = 0
    F16 = 1
    BF16 = 2
    Q4_0 = 3
    Q4_1 = 4
    Q5_0 = 5
    Q5_1 = 6
    Q8_0 = 7
    Q2_K = 8
    Q3_K = 9
    Q4_K = 10
    Q5_K = 11
    Q6_K = 12


TABLE_TYPES: Mapping[str, TableType] = MappingProxyType({t.name: t for t in TableType})


class Activation(IntEnum):
    SILU = ACTIVATIONS["silu"]
    GELU_TANH = ACTIVATIONS["gelu_tanh"]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A stored embedding matrix: the blocks of [vocab_size, width], row after row."""

    type: TableType
    data: np.ndarray  # uint8, contiguous
    vocab_size: int
    width: int

    def __post_init__(self) -> None:
        name = self.type.name
        layout = BLOCK_LAYOUTS.get(name)
        values, num_bytes = (layout.values, layout.num_bytes) if layout else (1, _WORDS[name])
        expected = self.vocab_size * (self.width // values) * num_bytes
        if self.width % values or self.data.dtype != np.uint8 or self.data.size != expected:
            raise ValueError(
                f"a table of {name} [{self.vocab_size}, {self.width}] takes {expected} bytes and a "
                f"width in multiples of {values}, got {self.data.size} of {self.data.dtype}"
            )
        if not self.data.flags.c_contiguous:
            raise ValueError("the bytes of a table must be contiguous")

    def struct(self, scale: float = 1.0) -> Embedding:
        """Points at this table, which must outlive it. Rows are multiplied by `scale`."""
        return Embedding(int(self.type), self.width, self.vocab_size, self.data.ctypes.data, scale)


@dataclass(frozen=True, slots=True, eq=False)
class RowBuffer:
    """Memory of rows in one of the three forms, filled with values that no row has."""

    type: RowType
    data: np.ndarray  # float32, uint16 (bfloat16) or int8 [R, width]
    scales: np.ndarray  # float32 [R, width / BLOCK]; nothing in it unless Q8
    sums: np.ndarray  # int32, the same

    @classmethod
    def unwritten(cls, row_type: RowType, num_rows: int, width: int) -> RowBuffer:
        dtype = (np.float32, np.uint16, np.int8)[row_type]
        blocks = (num_rows, width // BLOCK) if row_type is RowType.Q8 else (0, 0)
        return cls(
            row_type,
            np.full((num_rows, width), 99, dtype),
            np.full(blocks, 99, np.float32),
            np.full(blocks, 99, np.int32),
        )

    @property
    def struct(self) -> Rows:
        """Points into this buffer, which must outlive it."""
        return Rows(
            int(self.type),
            self.data.shape[1],
            self.data.ctypes.data,
            self.scales.ctypes.data,
            self.sums.ctypes.data,
        )

    @property
    def quantised(self) -> QuantRows:
        return QuantRows(self.data, self.scales, self.sums)

    def values(self) -> np.ndarray:
        """What F32 and BF16 rows hold.  # float32 [R, width]"""
        if self.type is RowType.BF16:
            return (self.data.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return self.data


class Elementwise:
    """The operations of one library, on the threads of one pool."""

    def __init__(self, library: Library, pool: Pool) -> None:
        self._lib, self._pool = library.lib, pool
        mirrors = {"Rows": Rows, "Norm": Norm, "RopeWrite": RopeWrite, "Embedding": Embedding}
        check_sizes(library.lib, mirrors)
        arguments: dict[str, list[type]] = {
            "fc_write_rows": [POINTER, POINTER, POINTER, I64],
            "fc_write_rows_part": [POINTER, I64, I32, I32, I32, POINTER, I64],
            "fc_norm_rows": [POINTER, POINTER, I64],
            "fc_rope_write": [POINTER, POINTER],
            "fc_rope_table": [POINTER, I64, POINTER, I32, POINTER, POINTER],
            "fc_embed": [POINTER, POINTER, POINTER, I64, POINTER],
            "fc_activate": [POINTER, POINTER, I64, I32, POINTER],
        }
        declare(library.lib, {name: (types, None) for name, types in arguments.items()})

    def write_rows(self, values: np.ndarray, out: RowBuffer) -> None:
        """All rows of `values` [R, width] into `out`."""
        rows = out.struct
        self._lib.fc_write_rows(
            self._pool.handle, ctypes.byref(rows), values.ctypes.data, len(values)
        )

    def write_rows_part(self, values: np.ndarray, out: RowBuffer, row: int, first: int) -> None:
        """`values` [R, count] into columns `first` and on of `out`'s rows from `row` on; the rows
        of `values` may be any distance apart."""
        rows, (num_rows, count) = out.struct, values.shape
        stride = values.strides[0] // values.itemsize
        self._lib.fc_write_rows_part(
            ctypes.byref(rows), row, num_rows, first, count, values.ctypes.data, stride
        )

    def norm(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        eps: float,
        out: RowBuffer,
        offset: float = 0.0,
        rows: np.ndarray | None = None,
    ) -> None:
        """Row n of `out` becomes the normalised row rows[n] (int32; all in order: None) of x."""
        out_rows = out.struct
        norm = Norm(
            x.ctypes.data,
            weight.ctypes.data,
            eps,
            offset,
            x.shape[1],
            None if rows is None else rows.ctypes.data,
            ctypes.addressof(out_rows),
        )
        self._lib.fc_norm_rows(self._pool.handle, ctypes.byref(norm), len(out.data))

    def rope_table(self, positions: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        """Cosines and sines of int32 positions [T].  # [2, T, num_pairs]"""
        table = np.empty((2, len(positions), len(frequencies)), np.float32)
        self._lib.fc_rope_table(
            positions.ctypes.data,
            len(positions),
            frequencies.ctypes.data,
            len(frequencies),
            table[0].ctypes.data,
            table[1].ctypes.data,
        )
        return table

    def rope_write(self, rope: RopeWrite) -> None:
        """Every token of rope.rows; what the struct points to must be alive."""
        self._lib.fc_rope_write(self._pool.handle, ctypes.byref(rope))

    def embed(self, table: Table, token_ids: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Rows of a table; int32 ids, which must be in it.  # [T, width]"""
        out = np.empty((len(token_ids), table.width), np.float32)
        embedding = table.struct(scale)
        self._lib.fc_embed(
            self._pool.handle,
            ctypes.byref(embedding),
            token_ids.ctypes.data,
            len(token_ids),
            out.ctypes.data,
        )
        return out

    def activate(self, gate: np.ndarray, up: np.ndarray, activation: Activation) -> np.ndarray:
        """activation(gate) * up of arrays whose size is a multiple of 16."""
        out = np.empty_like(gate)
        self._lib.fc_activate(
            gate.ctypes.data, up.ctypes.data, gate.size, int(activation), out.ctypes.data
        )
        return out
