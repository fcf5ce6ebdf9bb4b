"""The parts of stored blocks: of the shapes and ranges that packing counts on. That they give the
right weights is tested with the expansion of tensors."""

from __future__ import annotations

import numpy as np
import pytest

from furcate.kernels.linear.blocks import BLOCK_LAYOUTS, are_scales_finite, blocks_of

MOST = {"Q8_0": 255, "Q4_0": 15, "Q4_1": 15, "Q5_0": 31, "Q5_1": 31} | {
    "Q2_K": 3,
    "Q3_K": 7,
    "Q4_K": 15,
    "Q5_K": 31,
    "Q6_K": 63,
}


def stored(kind: str, n: int, k: int) -> np.ndarray:
    """Random integers and tame scales."""
    layout = BLOCK_LAYOUTS[kind]
    num_blocks = n * k // layout.values
    rng = np.random.default_rng(n * k)
    raw = rng.integers(0, 256, (num_blocks, layout.num_bytes), np.uint8)
    for at in layout.halves:
        halves = rng.uniform(-2, 2, (num_blocks, 1)).astype("<f2")
        raw[:, at : at + 2] = halves.view(np.uint8)
    return raw.reshape(-1)


@pytest.mark.parametrize("kind", BLOCK_LAYOUTS)
@pytest.mark.parametrize(("n", "num_blocks"), [(1, 1), (3, 1), (2, 5)])
def test_the_parts_have_the_shapes_of_the_contract(kind: str, n: int, num_blocks: int) -> None:
    layout = BLOCK_LAYOUTS[kind]
    k = num_blocks * layout.values
    blocks = blocks_of(kind, stored(kind, n, k), (n, k))
    assert (blocks.codes.shape, blocks.codes.dtype) == ((n, k), np.dtype(np.uint8))
    assert (blocks.scales.shape, blocks.scales.dtype) == ((n, k // layout.block), np.float32)
    assert blocks.values().shape == (n, k)
    if blocks.mins is not None:
        assert (blocks.mins.shape, blocks.mins.dtype) == ((n, k // layout.block), np.float32)
        assert blocks.zero_point == 0


@pytest.mark.parametrize("kind", BLOCK_LAYOUTS)
def test_codes_take_the_whole_range_of_their_bits(kind: str) -> None:
    codes = blocks_of(kind, stored(kind, 16, 2560), (16, 2560)).codes
    assert (codes.min(), codes.max()) == (0, MOST[kind])


@pytest.mark.parametrize("kind", BLOCK_LAYOUTS)
def test_a_weight_is_its_scale_times_its_code_plus_its_minimum(kind: str) -> None:
    n, k = 3, 512
    blocks = blocks_of(kind, stored(kind, n, k), (n, k))
    values = blocks.values()
    for row, column in [(0, 0), (1, 17), (2, 255), (2, 511)]:
        at = (row, column // blocks.block)
        weight = blocks.scales[at] * np.float32(int(blocks.codes[row, column]) - blocks.zero_point)
        if blocks.mins is not None:
            weight = weight + blocks.mins[at]
        assert values[row, column] == weight


@pytest.mark.parametrize("kind", BLOCK_LAYOUTS)
def test_a_row_of_a_matrix_has_the_parts_it_has_alone(kind: str) -> None:
    raw = stored(kind, 4, 512)
    whole = blocks_of(kind, raw, (4, 512))
    alone = blocks_of(kind, raw.reshape(4, -1)[2], (512,))
    np.testing.assert_array_equal(whole.codes[2], alone.codes[0])
    np.testing.assert_array_equal(whole.scales[2], alone.scales[0])


@pytest.mark.parametrize("kind", BLOCK_LAYOUTS)
def test_reading_leaves_the_stored_bytes_as_they_are(kind: str) -> None:
    raw = stored(kind, 2, 256)
    before = raw.copy()
    raw.flags.writeable = False
    blocks_of(kind, raw, (2, 256)).codes[:] = 0
    assert are_scales_finite(kind, raw)
    np.testing.assert_array_equal(raw, before)


@pytest.mark.parametrize("shape", [(2, 31), (4, 16), (1, 32), (2, 64)], ids=str)
def test_bytes_that_do_not_fit_the_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Q4_0 \[.* rows in multiples of 32, got 36 of uint8"):
        blocks_of("Q4_0", stored("Q4_0", 2, 32), shape)


def test_a_type_that_is_not_known_is_answered_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"'IQ4_NL' is not stored .*: Q8_0, Q4_0, .*Q6_K"):
        blocks_of("IQ4_NL", np.zeros(18, np.uint8), (1, 32))
