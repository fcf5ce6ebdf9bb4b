"""Calls of the native products on numpy arrays, for tests and benchmarks.

Knows no layers; an executor uses the C++ functions of `linear.h` directly.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.library import check_sizes
from furcate.kernels.structures import EPILOGUES, Linear

if TYPE_CHECKING:
    from furcate.kernels.elementwise.native import Activation, RowBuffer
    from furcate.kernels.library import Pool

    from .weight import LinearWeight

__all__ = ["multiply", "multiply_gated"]


def multiply(
    pool: Pool,
    weight: LinearWeight,
    x: RowBuffer,
    out: np.ndarray,
    bias: np.ndarray | None = None,
    add: bool = False,
) -> None:
    """out [T, >= n] float32 becomes the products, plus the bias; `add`: plus what it held."""
    _check(weight, x, bias)
    if out.dtype != np.float32 or out.shape[0] != len(x.data) or out.shape[1] < weight.out_features:
        raise ValueError(f"out must be float32 [{len(x.data)}, >= {weight.out_features}]")
    rows = x.struct
    linear = Linear(
        weight=weight.handle,
        x=ctypes.addressof(rows),
        bias=None if bias is None else bias.ctypes.data,
        epilogue=EPILOGUES["add" if add else "store"],
        out=out.ctypes.data,
        out_stride=out.strides[0] // out.itemsize,
    )
    _run(pool, linear, len(x.data))


def multiply_gated(
    pool: Pool,
    weight: LinearWeight,
    x: RowBuffer,
    out: RowBuffer,
    activation: Activation,
    bias: np.ndarray | None = None,
) -> None:
    """Rows of `out` become activation(gate) * up; `weight` is packed with `gated`."""
    _check(weight, x, bias)
    if out.data.shape != (len(x.data), weight.out_features // 2):
        raise ValueError(
            f"out must have rows of {weight.out_features // 2}, got {list(out.data.shape)}"
        )
    rows, out_rows = x.struct, out.struct
    linear = Linear(
        weight=weight.handle,
        x=ctypes.addressof(rows),
        bias=None if bias is None else bias.ctypes.data,
        epilogue=EPILOGUES["gated"],
        activation=int(activation),
        gated_out=ctypes.addressof(out_rows),
    )
    _run(pool, linear, len(x.data))


def _check(weight: LinearWeight, x: RowBuffer, bias: np.ndarray | None) -> None:
    if x.type.name.lower() != weight.row_type or x.data.shape[1] != weight.in_features:
        raise ValueError(
            f"the weight takes {weight.row_type} rows of {weight.in_features}, "
            f"got {x.type.name.lower()} of {x.data.shape[1]}"
        )
    if bias is not None and (bias.dtype != np.float32 or bias.shape != (weight.out_features,)):
        raise ValueError(f"the bias must be float32 [{weight.out_features}]")


def _run(pool: Pool, linear: Linear, num_rows: int) -> None:
    lib = pool.library.lib
    check_sizes(lib, {"Linear": Linear})
    lib.fc_linear.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    lib.fc_linear.restype = None
    lib.fc_linear(pool.handle, ctypes.byref(linear), num_rows)
