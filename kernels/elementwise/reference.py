"""Quantised rows in numpy: the specification of `write_row`, bit for bit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["BLOCK", "QuantRows", "dequantise_rows_reference", "quantise_rows_reference"]

BLOCK = 32
SMALLEST_SCALED = np.float32(2.0**-100)  # below it a scale would lose bits: zeros
LARGEST_CODE = np.float32(127)


class QuantRows(NamedTuple):
    """Rows as codes with a scale for every BLOCK of them."""

    codes: np.ndarray  # int8 [R, width]
    scales: np.ndarray  # float32 [R, width / BLOCK]
    sums: np.ndarray  # int32 [R, width / BLOCK]: of a block's codes


def quantise_rows_reference(values: np.ndarray) -> QuantRows:
    """float32 [R, width] with a width of whole blocks. A block with a value that is not finite has
    scale nan and codes of zero."""
    num_rows, width = values.shape
    blocks = values.reshape(num_rows, width // BLOCK, BLOCK)
    largest = np.abs(blocks).max(-1)  # nan where one is
    is_finite = np.isfinite(largest)
    has_codes = is_finite & (largest >= SMALLEST_SCALED)
    divisors = np.where(has_codes, largest, np.float32(1))
    inverse = LARGEST_CODE / divisors
    scaled = np.where(has_codes[..., None], blocks, np.float32(0)) * inverse[..., None]
    codes = np.rint(scaled).astype(np.int8)
    scales = np.where(has_codes, divisors / LARGEST_CODE, np.float32(0))
    scales[~is_finite] = np.nan
    return QuantRows(codes.reshape(num_rows, width), scales, codes.sum(-1, dtype=np.int32))


def dequantise_rows_reference(rows: QuantRows) -> np.ndarray:
    """The values that the codes stand for.  # float32 [R, width]"""
    num_rows, width = rows.codes.shape
    blocks = rows.codes.reshape(num_rows, width // BLOCK, BLOCK).astype(np.float32)
    values: np.ndarray = blocks * rows.scales[..., None]
    return values.reshape(num_rows, width)
