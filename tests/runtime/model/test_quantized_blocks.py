"""Expanding stored blocks: bit for bit what the format's own package gives."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furcate.errors import ModelFileError
from furcate.runtime.model.gguf import TENSOR_TYPES, TensorInfo
from furcate.runtime.model.quantized import DEQUANTIZERS, dequantize

LAYOUT = {name: (block, size) for name, block, size in TENSOR_TYPES.values()}


def stored(kind: str, rows: int, blocks: int, seed: int) -> tuple[TensorInfo, np.ndarray]:
    block, block_bytes = LAYOUT[kind]
    shape = (rows, blocks * 32)
    num_bytes = rows * blocks * 32 // block * block_bytes
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
    np.testing.assert_array_equal(ours, oracle.reshape(info.shape).astype(np.float32))


@pytest.mark.parametrize("kind", DEQUANTIZERS)
def test_the_result_is_writable_and_apart_from_the_file(kind: str) -> None:
    info, raw = stored(kind, 1, 1, 0)
    before = raw.copy()
    values = dequantize(info, raw)
    values[:] = 0
    np.testing.assert_array_equal(raw, before)


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
