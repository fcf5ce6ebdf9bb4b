"""What stands between products, timed at the width of a small model and at a larger one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.bench import BenchCase

from .native import Elementwise, RowBuffer, RowType, Table, TableType

if TYPE_CHECKING:
    from furcate.kernels.library import Library, Pool

__all__ = ["cases"]

WIDTHS = (576, 2048)
ROW_COUNTS = (1, 32, 256)
NUM_PAIRS = 32


def cases(library: Library, pool: Pool) -> list[BenchCase]:
    kernels = Elementwise(library, pool)
    found = []
    for width in WIDTHS:
        for count in ROW_COUNTS:
            found += [_norm(kernels, count, width, row_type) for row_type in RowType]
            found.append(_embed(kernels, count, width))
    return [*found, *(_table(kernels, count) for count in ROW_COUNTS)]


def _norm(kernels: Elementwise, count: int, width: int, row_type: RowType) -> BenchCase:
    x = np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)
    out = RowBuffer.unwritten(row_type, count, width)
    run = partial(kernels.norm, x, np.ones(width, np.float32), 1e-5, out)
    name = f"norm to {row_type.name.lower()} {count} x {width}"
    return BenchCase(name, run, 4.0 * x.size, float(x.nbytes), "fp32")


def _embed(kernels: Elementwise, count: int, width: int) -> BenchCase:
    table = Table(TableType.Q8_0, np.zeros(1024 * width // 32 * 34, np.uint8), 1024, width)
    ids = np.arange(count, dtype=np.int32)

    def run() -> None:
        kernels.embed(table, ids)

    return BenchCase(f"embed q8_0 {count} x {width}", run, 0.0, count * width * 34 / 32, "fp32")


def _table(kernels: Elementwise, count: int) -> BenchCase:
    positions = np.arange(count, dtype=np.int32) * 7
    frequencies = (10_000.0 ** -(np.arange(NUM_PAIRS) / NUM_PAIRS)).astype(np.float32)

    def run() -> None:
        kernels.rope_table(positions, frequencies)

    return BenchCase(f"table of {count} positions", run, 0.0, 4.0 * positions.size, "fp32")
