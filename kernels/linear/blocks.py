"""What the bytes of a quantised matrix mean: codes, scales and minima, in numpy.

A stored block holds `values` weights in `num_bytes` bytes. Whatever its format, weight j of row r
is

    scales[r, b] * (codes[r, j] - zero_point) + mins[r, b],    b = j // block

in float32, one operation after the other: bit for bit what the format's own dequantiser gives (the
last sum is left out where `mins` is None). A format of super-blocks stores its scales as a float16
times small integers; `scales` and `mins` are those products, rounded once to float32.

This is the specification that packed weights are tested against. It reads whole matrices and is not
meant to be fast. It knows no files and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BLOCK_LAYOUTS", "BlockLayout", "QuantBlocks", "are_scales_finite", "blocks_of"]


@dataclass(frozen=True, slots=True, eq=False)
class QuantBlocks:
    """A matrix of n rows of k weights, as codes with a scale for every `block` of them."""

    codes: np.ndarray  # uint8 [n, k]
    zero_point: int
    scales: np.ndarray  # float32 [n, k / block]
    mins: np.ndarray | None  # float32 [n, k / block]
    block: int

    def values(self) -> np.ndarray:
        """The weights.  # float32 [n, k]"""
        n, k = self.codes.shape
        values = self.codes.reshape(n, k // self.block, self.block).astype(np.float32)
        if self.zero_point:
            values -= np.float32(self.zero_point)
        # An infinite scale times zero is not a number: a damaged weight, its loader's concern.
        with np.errstate(invalid="ignore"):
            values *= self.scales[:, :, None]
            if self.mins is not None:
                values += self.mins[:, :, None]
        return values.reshape(n, k)


class Unpacked(NamedTuple):
    """The parts of S stored blocks."""

    codes: np.ndarray  # uint8 [S, values]
    scales: np.ndarray  # float32 [S, values / block]
    mins: np.ndarray | None  # float32 [S, values / block]


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """A stored block of one format."""

    values: int
    num_bytes: int
    block: int  # values that share one scale
    zero_point: int
    halves: tuple[int, ...]  # bytes at which a float16 stands; every other byte is an integer
    unpack: Callable[[np.ndarray], Unpacked]  # of uint8 [S, num_bytes]


def blocks_of(type_name: str, raw: np.ndarray, shape: tuple[int, ...]) -> QuantBlocks:
    """The parts of a tensor; leading dimensions of `shape` become rows.

    ValueError for a type that is not in BLOCK_LAYOUTS and for bytes that do not fit the shape."""
    layout = _layout(type_name)
    k = shape[-1]
    num_blocks, rest = divmod(int(np.prod(shape, dtype=np.int64)), layout.values)
    if (
        k % layout.values
        or rest
        or raw.dtype != np.uint8
        or raw.size != num_blocks * layout.num_bytes
    ):
        raise ValueError(
            f"{type_name} {list(shape)} takes {num_blocks} blocks of {layout.num_bytes} bytes and "
            f"rows in multiples of {layout.values}, got {raw.size} of {raw.dtype}"
        )
    with np.errstate(invalid="ignore"):
        codes, scales, mins = layout.unpack(_stored(raw, layout))
    per_row = k // layout.block
    return QuantBlocks(
        codes=codes.reshape(-1, k),
        zero_point=layout.zero_point,
        scales=scales.reshape(-1, per_row),
        mins=None if mins is None else mins.reshape(-1, per_row),
        block=layout.block,
    )


def are_scales_finite(type_name: str, raw: np.ndarray) -> bool:
    """Whether every weight is finite, from the float16 fields alone: float32 holds any product of
    one with the integers beside it."""
    layout = _layout(type_name)
    stored = _stored(raw, layout)
    infinite = np.uint8(0x7C)  # the exponent's bits in the high one of two bytes
    return not any(bool(((stored[:, at + 1] & infinite) == infinite).any()) for at in layout.halves)


def _layout(type_name: str) -> BlockLayout:
    layout = BLOCK_LAYOUTS.get(type_name)
    if layout is None:
        known = ", ".join(BLOCK_LAYOUTS)
        raise ValueError(f"{type_name!r} is not stored in blocks known here: {known}")
    return layout


def _stored(raw: np.ndarray, layout: BlockLayout) -> np.ndarray:
    return np.ascontiguousarray(raw).reshape(-1, layout.num_bytes)


def _q4_0(stored: np.ndarray) -> Unpacked:
    return Unpacked(_planes(stored[:, 2:], 16, 4), _half(stored, 0), None)


def _q4_1(stored: np.ndarray) -> Unpacked:
    return Unpacked(_planes(stored[:, 4:], 16, 4), _half(stored, 0), _half(stored, 2))


def _q5_0(stored: np.ndarray) -> Unpacked:
    return Unpacked(_five_bits(stored[:, 2:]), _half(stored, 0), None)


def _q5_1(stored: np.ndarray) -> Unpacked:
    return Unpacked(_five_bits(stored[:, 4:]), _half(stored, 0), _half(stored, 2))


def _q8_0(stored: np.ndarray) -> Unpacked:
    codes = stored[:, 2:] ^ np.uint8(0x80)  # a signed byte plus 128
    return Unpacked(codes, _half(stored, 0), None)


def _q2_k(stored: np.ndarray) -> Unpacked:
    packed = stored[:, :16]
    scales = _half(stored, 80) * (packed & 15).astype(np.float32)
    mins = _half(stored, 82) * (packed >> 4).astype(np.float32)
    return Unpacked(_planes(stored[:, 16:80], 32, 2), scales, -mins)


def _q3_k(stored: np.ndarray) -> Unpacked:
    codes = _planes(stored[:, 32:96], 32, 2)
    codes |= _planes(stored[:, :32], 32, 1) << np.uint8(2)
    factors = _planes(stored[:, 96:104], 8, 4)
    factors |= _planes(stored[:, 104:108], 4, 2) << np.uint8(4)
    scales = _half(stored, 108) * (factors.astype(np.float32) - np.float32(32))
    return Unpacked(codes, scales, None)


def _q4_k(stored: np.ndarray) -> Unpacked:
    scales, mins = _six_bit_scales(stored)
    return Unpacked(_planes(stored[:, 16:], 32, 4), scales, mins)


def _q5_k(stored: np.ndarray) -> Unpacked:
    scales, mins = _six_bit_scales(stored)
    codes = _planes(stored[:, 48:], 32, 4)
    codes |= _planes(stored[:, 16:48], 32, 1) << np.uint8(4)
    return Unpacked(codes, scales, mins)


def _q6_k(stored: np.ndarray) -> Unpacked:
    codes = _planes(stored[:, :128], 64, 4)
    codes |= _planes(stored[:, 128:192], 32, 2) << np.uint8(4)
    factors = stored[:, 192:208].view(np.int8).astype(np.float32)
    return Unpacked(codes, _half(stored, 208) * factors, None)


def _planes(packed: np.ndarray, run: int, bits: int) -> np.ndarray:
    """Codes of `bits` bits. A run of bytes holds the first `run` codes in its lowest bits, the
    next `run` in the bits above, and so on.  # uint8 [S, bytes * 8 / bits]"""
    num_stored, num_bytes = packed.shape
    codes = np.empty((num_stored, num_bytes // run, 8 // bits, run), np.uint8)
    runs = packed.reshape(num_stored, num_bytes // run, run)
    mask = np.uint8((1 << bits) - 1)
    np.bitwise_and(runs, mask, out=codes[:, :, 0])
    for plane in range(1, 8 // bits):
        np.bitwise_and(runs >> np.uint8(plane * bits), mask, out=codes[:, :, plane])
    return codes.reshape(num_stored, -1)


def _five_bits(packed: np.ndarray) -> np.ndarray:
    """Four bytes with the high bits of 32 codes in their order, then the low nibbles."""
    codes = _planes(packed[:, 4:], 16, 4)
    codes |= np.unpackbits(packed[:, :4], axis=1, bitorder="little") << np.uint8(4)
    return codes


def _six_bit_scales(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales and minima of eight blocks: float16 factors, then twelve bytes of which the first four
    hold scales 0 to 3 and the next four minima 0 to 3; the low nibbles of 4 to 7 are in the last
    four, their upper two bits in the spare bits of the others."""
    first, second, third = stored[:, 4:8], stored[:, 8:12], stored[:, 12:16]
    low, spare = np.uint8(0x3F), np.uint8(0x30)
    factors = np.concatenate([first & low, (third & 15) | ((first >> 2) & spare)], axis=1)
    offsets = np.concatenate([second & low, (third >> 4) | ((second >> 2) & spare)], axis=1)
    scales = _half(stored, 0) * factors.astype(np.float32)
    mins = _half(stored, 2) * offsets.astype(np.float32)
    return scales, -mins


def _half(stored: np.ndarray, at: int) -> np.ndarray:
    """The float16 that stands at byte `at` of every stored block.  # float32 [S, 1]"""
    return np.ascontiguousarray(stored[:, at : at + 2]).view("<f2").astype(np.float32)


BLOCK_LAYOUTS: Mapping[str, BlockLayout] = MappingProxyType(
    {
        "Q8_0": BlockLayout(32, 34, 32, 128, (0,), _q8_0),
        "Q4_0": BlockLayout(32, 18, 32, 8, (0,), _q4_0),
        "Q4_1": BlockLayout(32, 20, 32, 0, (0, 2), _q4_1),
        "Q5_0": BlockLayout(32, 22, 32, 16, (0,), _q5_0),
        "Q5_1": BlockLayout(32, 24, 32, 0, (0, 2), _q5_1),
        "Q2_K": BlockLayout(256, 84, 16, 0, (80, 82), _q2_k),
        "Q3_K": BlockLayout(256, 110, 16, 4, (108,), _q3_k),
        "Q4_K": BlockLayout(256, 144, 32, 0, (0, 2), _q4_k),
        "Q5_K": BlockLayout(256, 176, 32, 0, (0, 2), _q5_k),
        "Q6_K": BlockLayout(256, 210, 16, 32, (208,), _q6_k),
    }
)
