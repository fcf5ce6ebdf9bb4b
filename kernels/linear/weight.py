"""A matrix packed for native products, with the life of its memory.

Takes rows as they are stored; does not know files or what a matrix is for.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.library import declare
from furcate.kernels.structures import ROW_TYPES, RowType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from furcate.kernels.library import Library, Pool

__all__ = ["STORED_TYPES", "LinearWeight", "StoredRows", "is_block_type"]

# GGUF's numbers; float types first.
STORED_TYPES: Mapping[str, int] = MappingProxyType(
    {
        **{"F32": 0, "F16": 1, "BF16": 30},
        **{"Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8},
        **{"Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14},
    }
)
_FLOATS = frozenset({"F32", "F16", "BF16"})


def is_block_type(name: str) -> bool:
    """Whether the packed products read this type of stored blocks as such."""
    return name in STORED_TYPES and name not in _FLOATS


@dataclass(frozen=True, slots=True, eq=False)
class StoredRows:
    """`num_rows` rows of a matrix as they are stored: GGUF's name of their type, and the bytes."""

    type: str
    num_rows: int
    data: np.ndarray  # contiguous


class _Part(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("n", ctypes.c_int32), ("rows", ctypes.c_void_p))


class LinearWeight:
    """A packed matrix [out_features, in_features]; `row_type` is the form of rows it multiplies."""

    def __init__(self, library: Library, address: int) -> None:
        self.library = library
        self.handle = ctypes.c_void_p(address)
        lib = library.lib
        self.out_features = int(lib.fc_linear_columns(self.handle))
        self.in_features = int(lib.fc_linear_depth(self.handle))
        self.num_bytes = int(lib.fc_linear_bytes(self.handle))
        names: dict[int, RowType] = {number: name for name, number in ROW_TYPES.items()}
        self.row_type: RowType = names[lib.fc_linear_row_type(self.handle)]

    @classmethod
    def pack(
        cls,
        pool: Pool,
        parts: Sequence[StoredRows],
        in_features: int,
        row_type: RowType,
        *,
        gated: bool = False,
    ) -> LinearWeight:
        """Parts one on another; `gated` takes two of the same height, gates and ups.

        ValueError for a type that does not go with `row_type`, and for a width that is not a
        multiple of a type's blocks."""
        lib = _bind(pool.library)
        kept = [np.ascontiguousarray(part.data) for part in parts]
        array = (_Part * len(parts))(
            *(
                _Part(STORED_TYPES[part.type], part.num_rows, data.ctypes.data)
                for part, data in zip(parts, kept, strict=True)
            )
        )
        address = lib.fc_linear_pack(
            array, len(parts), in_features, ROW_TYPES[row_type], gated, pool.handle
        )
        if address is None:
            types = ", ".join(part.type for part in parts)
            raise ValueError(
                f"a matrix of {types}, {in_features} wide, cannot be packed for rows of {row_type}"
            )
        return cls(pool.library, address)

    def close(self) -> None:
        """Frees the packed matrix. Idempotent."""
        if self.handle:
            self.library.lib.fc_linear_free(self.handle)
            self.handle = ctypes.c_void_p()

    def __del__(self) -> None:
        self.close()


def _bind(library: Library) -> ctypes.CDLL:
    lib, pointer, i32 = library.lib, ctypes.c_void_p, ctypes.c_int32
    declare(
        lib,
        {
            "fc_linear_pack": ([pointer, i32, i32, i32, i32, pointer], pointer),
            "fc_linear_free": ([pointer], None),
            "fc_linear_bytes": ([pointer], ctypes.c_int64),
            "fc_linear_columns": ([pointer], i32),
            "fc_linear_depth": ([pointer], i32),
            "fc_linear_row_type": ([pointer], i32),
        },
    )
    return lib
