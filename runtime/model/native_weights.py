"""From the tensors of a checkpoint to weights packed for native products.

Decides once for each matrix in which numbers its products are computed; every batch size uses that
one path. Knows names and formats, not what a tensor is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from furcate.errors import UsageError
from furcate.kernels.elementwise.native import TableType
from furcate.kernels.linear.weight import LinearWeight, StoredRows, is_block_type
from furcate.kernels.structures import Embedding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from furcate.kernels.library import Pool
    from furcate.kernels.structures import RowType

    from .weights import RawTensor, TensorSource

__all__ = ["Matmul", "WeightPacker"]

Matmul = Literal["auto", "int8", "bf16", "fp32"]


class WeightPacker:
    """Reads, checks and packs tensors, one matrix after the other."""

    def __init__(self, source: TensorSource, pool: Pool, matmul: Matmul) -> None:
        self._source = source
        self._pool = pool
        self._matmul: Matmul = matmul

    def vector(self, name: str, size: int) -> np.ndarray:
        return np.ascontiguousarray(self._source.read(name, (size,)).numpy())

    def matrix(self, parts: Mapping[str, int], width: int, *, gated: bool = False) -> LinearWeight:
        """One weight of several tensors [rows, width], one on another: name to rows. `gated`: two
        of the same size, gates and ups, for one gated product."""
        stored = {name: self._source.raw(name, (rows, width)) for name, rows in parts.items()}
        row_type = self._row_type(stored)
        rows = [
            self._rows(name, (count, width), stored[name], row_type)
            for name, count in parts.items()
        ]
        return LinearWeight.pack(self._pool, rows, width, row_type, gated=gated)

    def biases(self, parts: Mapping[str, int]) -> np.ndarray:
        """Vectors, one behind another: name to size.  # float32 [their sum]"""
        return np.concatenate([self.vector(name, size) for name, size in parts.items()])

    def table(self, name: str, vocab_size: int, width: int, scale: float = 1.0) -> Embedding:
        """An embedding matrix, read where it is stored if the kernels know its type."""
        shape = (vocab_size, width)
        raw = self._source.raw(name, shape)
        if raw is not None and raw.type in TableType.__members__:
            kind, data = raw.type, raw.data
        else:
            kind, data = "F32", self._source.read(name, shape).numpy()
        kept = np.ascontiguousarray(data)
        embedding = Embedding(TableType[kind], width, vocab_size, kept.ctypes.data, scale)
        embedding.kept = kept  # lives as long as the struct
        return embedding

    def _row_type(self, stored: Mapping[str, RawTensor | None]) -> RowType:
        in_floats = [n for n, raw in stored.items() if raw is None or not is_block_type(raw.type)]
        if self._matmul == "int8" and in_floats:
            raise UsageError(
                f"--matmul int8 needs weights that are stored in blocks, and tensor "
                f"{in_floats[0]!r} is not; use --matmul auto"
            )
        if self._matmul in ("auto", "int8") and not in_floats:
            return "q8"
        if self._matmul == "fp32":
            return "f32"
        has_bf16 = self._pool.library.tier == "avx512"
        return "bf16" if has_bf16 or self._matmul == "bf16" else "f32"

    def _rows(
        self, name: str, shape: tuple[int, int], raw: RawTensor | None, row_type: RowType
    ) -> StoredRows:
        if raw is not None and (row_type == "q8" or not is_block_type(raw.type)):
            return StoredRows(raw.type, shape[0], raw.data)
        values = np.ascontiguousarray(self._source.read(name, shape).numpy())
        return StoredRows("F32", shape[0], values)
