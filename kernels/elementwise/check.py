"""Whether rows are quantised and rounded to the bit, and normalised to a last digit or two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .native import Elementwise, RowBuffer, RowType
from .reference import quantise_rows_reference

if TYPE_CHECKING:
    from furcate.kernels.library import Library, Pool

__all__ = ["check"]

WIDTH = 96


def check(library: Library, pool: Pool) -> list[str]:
    operations = Elementwise(library, pool)
    values = np.random.default_rng(0).standard_normal((5, WIDTH)).astype(np.float32)
    mistakes = []

    rows = RowBuffer.unwritten(RowType.Q8, len(values), WIDTH)
    operations.write_rows(values, rows)
    expected = quantise_rows_reference(values)
    if not all(map(np.array_equal, rows.quantised, expected)):
        mistakes.append("quantised rows are not those of the reference")

    out = RowBuffer.unwritten(RowType.F32, len(values), WIDTH)
    weight = np.linspace(0.5, 2, WIDTH, dtype=np.float32)
    operations.norm(values, weight, 1e-5, out)
    exact = values.astype(np.float64)
    exact *= weight / np.sqrt((exact**2).mean(1, keepdims=True) + 1e-5)
    if not np.allclose(out.values(), exact, rtol=1e-6, atol=0):
        mistakes.append("normalised rows differ from the reference")
    return mistakes
