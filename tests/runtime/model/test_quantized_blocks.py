"""Expanding stored blocks: bit for bit what the format's own package gives."""

from __future__ import annotations

import itertools

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furcate.errors import ModelFileError
from furcate.kernels.linear.blocks import BLOCK_LAYOUTS
from furcate.runtime.model.gguf import TENSOR_TYPES, TensorInfo
from furcate.runtime.model.quantized import CHUNK_VALUES, DEQUANTIZERS, dequantize, is_finite

LAYOUT = {name: (block, size) for name, block, size in TENSOR_TYPES.values()}


def stored(kind: str, rows: int, blocks: int, seed: int) -> tuple[TensorInfo, np.ndarray]:
    block, block_bytes = LAYOUT[kind]
    values = max(block, 32)
    shape = (rows, blocks * values)
    num_bytes = rows * blocks * values // block * block_bytes
    raw = np.random.default_rng(seed).integers(0, 256, num_bytes, np.uint8)
    return TensorInfo("t", kind, shape, 0, num_bytes), raw


@pytest.mark.parametrize("kind", DEQUANTIZERS)
@given(rows=st.integers(1, 5), blocks=st.integers(1, 5), seed=st.integers(0, 2**32))
@settings(max_examples=25)
def test_any_bytes_expand_exactly_as_the_oracle_expands_them(
    kind: str, rows: int, blocks: int, seed: int
) -> None:
    info, raw = stored(kind, rows, blocks, seed)
    raw.flags.writeable = False
    ours = dequantize(info, raw)
    with np.errstate(all="ignore"):  # random scales are infinite or not a number at times
        oracle = gguf.dequantize(raw.reshape(rows, -1), gguf.GGMLQuantizationType[kind])
    assert ours.dtype == np.float32
    assert ours.shape == info.shape
    assert_same_bits(ours, oracle.reshape(info.shape).astype(np.float32))


@pytest.mark.parametrize("half", [0, 1, 2, 0x3FF, 0x400, 0x7BFF], ids=hex)
@pytest.mark.parametrize("kind", BLOCK_LAYOUTS)
def test_the_least_and_the_greatest_scales_expand_exactly_too(kind: str, half: int) -> None:
    info, raw = stored(kind, 2, 3, half)
    layout = BLOCK_LAYOUTS[kind]
    blocks = raw.reshape(-1, layout.num_bytes)
    for at, sign in itertools.product(layout.halves, (0, 0x8000)):
        blocks[:: 1 + (sign > 0), at : at + 2] = np.array([half | sign], "<u2").view(np.uint8)
    oracle = gguf.dequantize(raw.reshape(2, -1), gguf.GGMLQuantizationType[kind])
    assert np.isfinite(oracle).all()
    assert_same_bits(dequantize(info, raw), oracle.reshape(info.shape))


def test_a_large_tensor_expands_as_its_parts_do() -> None:
    info, raw = stored("Q3_K", 3, CHUNK_VALUES // 256 - 1, 0)
    row = TensorInfo("t", "Q3_K", (1, info.shape[1]), 0, raw.size // 3)
    rows = [dequantize(row, part)[0] for part in raw.reshape(3, -1)]
    assert_same_bits(dequantize(info, raw), np.stack(rows))


def assert_same_bits(ours: np.ndarray, oracle: np.ndarray) -> None:
    """Zeros with their signs; whatever is not a number, in the same places."""
    np.testing.assert_array_equal(ours, oracle)
    numbers = ~np.isnan(oracle)
    np.testing.assert_array_equal(np.signbit(ours[numbers]), np.signbit(oracle[numbers]))


@pytest.mark.parametrize("kind", DEQUANTIZERS)
def test_the_result_is_writable_and_apart_from_the_file(kind: str) -> None:
    info, raw = stored(kind, 1, 1, 0)
    before = raw.copy()
    values = dequantize(info, raw)
    values[:] = 0
    np.testing.assert_array_equal(raw, before)


FLOAT_WORDS = {"F32": ("<u4", 0x7F7FFFFF, 0x7F800000)} | {
    "F16": ("<u2", 0x7BFF, 0x7C00),
    "BF16": ("<u2", 0x7F7F, 0x7F80),
}


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("kind", DEQUANTIZERS)
def test_a_tensor_is_finite_when_every_value_of_it_is(kind: str, sign: int) -> None:
    word, greatest, infinity = FLOAT_WORDS.get(kind, ("<u2", 0x7BFF, 0x7C00))
    info, raw = stored(kind, 2, 3, 1)
    words = raw.reshape(-1, LAYOUT[kind][1])
    top = sign << (8 * np.dtype(word).itemsize - 1)
    places = BLOCK_LAYOUTS[kind].halves if kind in BLOCK_LAYOUTS else (0,)
    fields = [slice(at, at + np.dtype(word).itemsize) for at in places]
    for field in fields:
        words[:, field] = np.array([greatest | top], word).view(np.uint8)
    assert is_finite(kind, raw)
    assert np.isfinite(dequantize(info, raw)).all()
    for field, damage in itertools.product(fields, (infinity, infinity + 1)):
        before = words[-1, field].copy()
        words[-1, field] = np.array([damage | top], word).view(np.uint8)
        assert not is_finite(kind, raw)
        assert not np.isfinite(dequantize(info, raw)).all()
        words[-1, field] = before


@pytest.mark.parametrize("kind", sorted(set(LAYOUT) - set(DEQUANTIZERS)))
def test_a_type_without_a_reader_names_itself_and_the_readable_ones(kind: str) -> None:
    info = TensorInfo("blk.0", kind, (256,), 0, 256)
    with pytest.raises(ModelFileError, match=f"'blk.0' is stored as '{kind}', .* use .*Q4_1"):
        dequantize(info, np.zeros(256, np.uint8))


def test_bytes_of_another_length_are_refused() -> None:
    info, raw = stored("Q4_1", 1, 1, 0)
    with pytest.raises(ModelFileError, match="takes 20 bytes, got 19"):
        dequantize(info, raw[:-1])


@pytest.mark.parametrize("kind", LAYOUT)
def test_block_sizes_are_those_of_the_format(kind: str) -> None:
    assert LAYOUT[kind] == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
