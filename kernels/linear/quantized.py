"""Products of quantised rows with block-quantised matrices: the law of the native kernels.

A row is codes in int8 with a scale for every 32 of them; a matrix is what `blocks_of` gives. Over
the matrix's blocks in ascending order, each product and each sum rounded once to float32,

    acc += float(sum((code - zero_point) * x_code)) * (scale * x_scale)
    acc += min * (x_scale * float(sum(x_code)))          where the format has minima

so every implementation gives the same bits. For floats the law is as short: `multiply_floats` adds
product after product. It knows no files, and is not meant to be fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from furcate.kernels.elementwise.reference import QuantRows

    from .blocks import QuantBlocks

__all__ = ["multiply_blocks", "multiply_floats", "swap_pairs"]

ROW_BLOCK = 32  # values of a row that share a scale


def multiply_blocks(rows: QuantRows, weight: QuantBlocks) -> np.ndarray:
    """The products of all rows with all columns.  # float32 [T, n]"""
    num_rows, k = rows.codes.shape
    n, size = weight.codes.shape[0], weight.block
    x = rows.codes.astype(np.int32).reshape(num_rows, k // size, size)
    codes = weight.codes.astype(np.int32).reshape(n, k // size, size) - weight.zero_point
    acc = np.zeros((num_rows, n), np.float32)
    for b in range(k // size):
        dots = (x[:, b] @ codes[:, b].T).astype(np.float32)
        x_scale = rows.scales[:, b * size // ROW_BLOCK, None]
        acc = acc + dots * (weight.scales[None, :, b] * x_scale)
        if weight.mins is not None:
            x_sum = x[:, b].sum(axis=1, dtype=np.int32).astype(np.float32)[:, None]
            acc = acc + weight.mins[None, :, b] * (x_scale * x_sum)
    return acc


def multiply_floats(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """float32 x [T, k] with float32 weight [n, k], over k in ascending order.  # float32 [T, n]"""
    acc = np.zeros((x.shape[0], weight.shape[0]), np.float32)
    for k in range(x.shape[1]):
        acc = acc + x[:, k, None] * weight[None, :, k]
    return acc


def swap_pairs(values: np.ndarray) -> np.ndarray:
    """Columns 1, 0, 3, 2 .. of [.., k], an odd k filled up with a zero: the order in which products
    of bfloat16 are added, as processors with an instruction for pairs do it."""
    k = values.shape[1]
    padded = np.pad(values, ((0, 0), (0, k % 2)))
    return padded.reshape(-1, (k + 1) // 2, 2)[:, :, ::-1].reshape(len(values), -1)
