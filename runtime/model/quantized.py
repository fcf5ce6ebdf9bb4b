"""Turns stored tensor blocks into float32, one tensor at a time, and tells whether they are finite.

Bit for bit what the reference implementation of the format gives. It knows which types a file may
hold: no files, no devices, no model. What the bytes of a quantised block mean is the business of
the kernels that read them packed.
"""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from furcate.errors import ModelFileError
from furcate.kernels.linear.blocks import BLOCK_LAYOUTS, are_scales_finite, blocks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .gguf import TensorInfo

__all__ = ["DEQUANTIZERS", "check_stored", "dequantize", "is_finite"]

CHUNK_VALUES = 1 << 18  # expanded at a time, so that what lies between stays in the cache

# All ones in the exponent: an infinity or not a number.
_EXPONENTS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
)


def dequantize(info: TensorInfo, raw: np.ndarray) -> np.ndarray:
    """The tensor as a fresh, writable float32 array of `info.shape`; `raw` is left as it is."""
    check_stored(info, raw)
    return DEQUANTIZERS[info.type](np.ascontiguousarray(raw).reshape(-1)).reshape(info.shape)


def check_stored(info: TensorInfo, raw: np.ndarray) -> None:
    """ModelFileError unless `raw` is the bytes of a tensor of a type that can be read here."""
    if info.type not in DEQUANTIZERS:
        raise ModelFileError(
            f"tensor {info.name!r} is stored as {info.type!r}, which is not supported; "
            f"use a file with {', '.join(DEQUANTIZERS)}"
        )
    if raw.dtype != np.uint8 or raw.size != info.num_bytes:
        raise ModelFileError(
            f"tensor {info.name!r} takes {info.num_bytes} bytes, got {raw.size} of {raw.dtype}"
        )


def is_finite(type_name: str, raw: np.ndarray) -> bool:
    """Whether every value of a stored tensor is finite, without expanding it."""
    if type_name not in _EXPONENTS:
        return are_scales_finite(type_name, raw)
    word, mask = _EXPONENTS[type_name]
    words = np.ascontiguousarray(raw).reshape(-1).view(word)
    bits = words.dtype.type(mask)
    starts = range(0, len(words), CHUNK_VALUES)
    return not any(bool(((words[i : i + CHUNK_VALUES] & bits) == bits).any()) for i in starts)


def _f32(raw: np.ndarray) -> np.ndarray:
    return raw.view("<f4").astype(np.float32, copy=True)


def _f16(raw: np.ndarray) -> np.ndarray:
    return raw.view("<f2").astype(np.float32)


def _bf16(raw: np.ndarray) -> np.ndarray:
    return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


def _blocks(type_name: str, raw: np.ndarray) -> np.ndarray:
    layout = BLOCK_LAYOUTS[type_name]
    num_blocks = raw.size // layout.num_bytes
    values = np.empty((num_blocks, layout.values), np.float32)
    step = CHUNK_VALUES // layout.values
    for start in range(0, num_blocks, step):
        stop = min(start + step, num_blocks)
        part = raw[start * layout.num_bytes : stop * layout.num_bytes]
        values[start:stop] = blocks_of(type_name, part, (stop - start, layout.values)).values()
    return values


DEQUANTIZERS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {
        **{"F32": _f32, "F16": _f16, "BF16": _bf16},
        **{name: partial(_blocks, name) for name in BLOCK_LAYOUTS},
    }
)
