"""Whether products of every stored type of blocks have the bits of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.elementwise.native import RowBuffer, RowType
from furcate.kernels.elementwise.reference import quantise_rows_reference

from .blocks import BLOCK_LAYOUTS, blocks_of
from .native import multiply
from .quantized import multiply_blocks
from .weight import LinearWeight, StoredRows

if TYPE_CHECKING:
    from furcate.kernels.library import Library, Pool

__all__ = ["check"]

NUM_ROWS, N, K = 13, 50, 512  # more than a tile of rows; columns that fill no unit


def check(library: Library, pool: Pool) -> list[str]:
    rng = np.random.default_rng(0)
    rows = quantise_rows_reference(rng.standard_normal((NUM_ROWS, K)).astype(np.float32))
    mistakes = []
    for kind, layout in BLOCK_LAYOUTS.items():
        raw = rng.integers(0, 256, (N * K // layout.values, layout.num_bytes), np.uint8)
        for at in layout.halves:
            raw[:, at : at + 2] = rng.uniform(-2, 2, (len(raw), 1)).astype("<f2").view(np.uint8)
        out = np.full((NUM_ROWS, N), np.nan, np.float32)
        weight = LinearWeight.pack(pool, [StoredRows(kind, N, raw)], K, "q8")
        multiply(pool, weight, RowBuffer(RowType.Q8, *rows), out)
        weight.close()
        expected = multiply_blocks(rows, blocks_of(kind, raw.reshape(-1), (N, K)))
        if not np.array_equal(out, expected):
            wrong = int((out != expected).sum())
            mistakes.append(f"{kind}: {wrong} of {out.size} products differ from the reference")
    return mistakes
