"""Turns stored tensor blocks into float32, one tensor at a time.

Bit for bit what the reference implementation of the format gives. It knows block layouts only: no
files, no devices, no model.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from furcate.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .gguf import TensorInfo

__all__ = ["DEQUANTIZERS", "dequantize"]

BLOCK = 32  # values in a block of every quantised type below


def dequantize(info: TensorInfo, raw: np.ndarray) -> np.ndarray:
    """The tensor as a fresh, writable float32 array of `info.shape`; `raw` is left as it is."""
    expand = DEQUANTIZERS.get(info.type)
    if expand is None:
        raise ModelFileError(
            f"tensor {info.name!r} is stored as {info.type!r}, which is not supported; "
            f"use a file with {', '.join(DEQUANTIZERS)}"
        )
    if raw.dtype != np.uint8 or raw.size != info.num_bytes:
        raise ModelFileError(
            f"tensor {info.name!r} takes {info.num_bytes} bytes, got {raw.size} of {raw.dtype}"
        )
    # An infinite scale times zero is not a number: a damaged weight, which is its loader's concern.
    with np.errstate(invalid="ignore"):
        return expand(np.ascontiguousarray(raw).reshape(-1)).reshape(info.shape)


def _f32(raw: np.ndarray) -> np.ndarray:
    return raw.view("<f4").astype(np.float32, copy=True)


def _f16(raw: np.ndarray) -> np.ndarray:
    return raw.view("<f2").astype(np.float32)


def _bf16(raw: np.ndarray) -> np.ndarray:
    return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


def _q8_0(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 2 + BLOCK)
    values = blocks[:, 2:].view(np.int8).astype(np.float32)
    values *= _half(blocks, 0)
    return values


def _q4_0(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 2 + BLOCK // 2)
    values = _nibbles(blocks[:, 2:])
    values -= np.float32(8)
    values *= _half(blocks, 0)
    return values


def _q4_1(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 4 + BLOCK // 2)
    values = _nibbles(blocks[:, 4:])
    values *= _half(blocks, 0)
    values += _half(blocks, 2)
    return values


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """Byte i of a block holds value i in its low half and value i + 16 in its high half."""
    values = np.empty((len(packed), BLOCK), np.float32)
    values[:, : BLOCK // 2] = packed & 15
    values[:, BLOCK // 2 :] = packed >> 4
    return values


def _half(blocks: np.ndarray, at: int) -> np.ndarray:
    """The float16 that stands at byte `at` of every block.  # [num_blocks, 1]"""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


DEQUANTIZERS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {"F32": _f32, "F16": _f16, "BF16": _bf16, "Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1}
)
