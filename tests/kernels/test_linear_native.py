"""Native products of every format in every tier: the bits of the reference, whatever surrounds a
row, whoever computes it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furcate.kernels.elementwise.native import Activation, RowBuffer, RowType
from furcate.kernels.elementwise.reference import QuantRows, quantise_rows_reference
from furcate.kernels.linear.blocks import BLOCK_LAYOUTS, QuantBlocks, blocks_of
from furcate.kernels.linear.native import multiply, multiply_gated
from furcate.kernels.linear.quantized import multiply_blocks, multiply_floats, swap_pairs
from furcate.kernels.linear.weight import LinearWeight, StoredRows

from .native import AVAILABLE, TIERS, pool

if TYPE_CHECKING:
    from furcate.kernels.library import Pool

OPS = ("elementwise", "linear", "paged_attention")
FORMATS = tuple(BLOCK_LAYOUTS)
FLOATS = ("F32", "F16", "BF16")
ROW_COUNTS = (0, 1, 2, 3, 11, 12, 13, 25, 97, 257)
COLUMNS = (1, 15, 16, 17, 31, 32, 33, 100)


def threads(tier: str, num_threads: int = 2) -> Pool:
    return pool(tier, num_threads, *OPS)


@functools.cache
def stored(kind: str, n: int, k: int, seed: int = 0) -> tuple[StoredRows, QuantBlocks]:
    """Random integers and tame scales."""
    layout = BLOCK_LAYOUTS[kind]
    rng = np.random.default_rng(n * k + seed)
    raw = rng.integers(0, 256, (n * k // layout.values, layout.num_bytes), np.uint8)
    for at in layout.halves:
        halves = rng.uniform(-2, 2, (len(raw), 1)).astype("<f2")
        raw[:, at : at + 2] = halves.view(np.uint8)
    return StoredRows(kind, n, raw), blocks_of(kind, raw.reshape(-1), (n, k))


@functools.cache
def quantised(num_rows: int, k: int) -> QuantRows:
    """Rows of all sizes; a block of zeros and the largest codes of both signs among them."""
    rng = np.random.default_rng(k)  # row n is the same in every number of rows
    values = rng.standard_normal((num_rows, k)).astype(np.float32)
    values *= np.exp(rng.standard_normal((num_rows, 1)) * 3).astype(np.float32)
    values[:1, :32] = 0
    values[1:2, :32] = 5
    values[2:3, :32] = -5
    return quantise_rows_reference(values)


def buffer_of(rows: QuantRows, *which: int) -> RowBuffer:
    chosen = list(which) if which else list(range(len(rows.codes)))
    parts = [np.ascontiguousarray(part[chosen]) for part in rows]
    return RowBuffer(RowType.Q8, parts[0], parts[1], parts[2])


def product(threads: Pool, weight: LinearWeight, x: RowBuffer) -> np.ndarray:
    out = np.full((len(x.data), weight.out_features), np.nan, np.float32)
    multiply(threads, weight, x, out)
    return out


def name_of(row_type: RowType) -> Literal["f32", "bf16"]:
    return "f32" if row_type is RowType.F32 else "bf16"


def k_of(kind: str, records: int) -> int:
    """A depth of at least so many records of 32."""
    values = BLOCK_LAYOUTS[kind].values
    return -(-records * 32 // values) * values


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("n", COLUMNS)
def test_products_of_blocks_have_the_bits_of_the_reference(n: int, kind: str, tier: str) -> None:
    k = k_of(kind, 1 if n < 32 else 5)
    part, blocks = stored(kind, n, k)
    expected = multiply_blocks(quantised(13, k), blocks)
    weight = LinearWeight.pack(threads(tier), [part], k, "q8")
    result = product(threads(tier), weight, buffer_of(quantised(13, k)))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_row_has_the_same_bits_in_any_number_of_rows_on_any_number_of_threads(
    kind: str, tier: str
) -> None:
    k = k_of(kind, 3)
    part, blocks = stored(kind, 80, k)
    rows = quantised(max(ROW_COUNTS), k)
    expected = multiply_blocks(rows, blocks)
    weight = LinearWeight.pack(threads(tier), [part], k, "q8")
    for num_rows in ROW_COUNTS:
        x = buffer_of(QuantRows(*(part[:num_rows] for part in rows)))
        for num_threads in (1, 2, 5):
            result = product(threads(tier, num_threads), weight, x)
            np.testing.assert_array_equal(result, expected[:num_rows])
    for row in (0, 5, 96, 256):
        alone = product(threads(tier), weight, buffer_of(rows, row))
        np.testing.assert_array_equal(alone[0], expected[row])


@functools.cache
def expected_row(kind: str, row: int) -> tuple[bytes, ...]:
    """The bits of a row alone, in every tier."""
    k = k_of(kind, 3)
    part, _ = stored(kind, 48, k)
    x = buffer_of(quantised(ROW_COUNTS[-1], k), row)
    alone = []
    for tier in AVAILABLE:
        weight = LinearWeight.pack(threads(tier), [part], k, "q8")
        alone.append(product(threads(tier), weight, x).tobytes())
    return tuple(alone)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(FORMATS),
    tier=st.sampled_from(AVAILABLE),
    num_threads=st.integers(1, 3),
    num_rows=st.integers(1, ROW_COUNTS[-1]),
    seed=st.integers(0, 99),
)
def test_a_row_has_its_bits_alone_and_anywhere_in_any_batch_and_tier(
    kind: str, tier: str, num_threads: int, num_rows: int, seed: int
) -> None:
    k = k_of(kind, 3)
    part, _ = stored(kind, 48, k)
    weight = LinearWeight.pack(threads(tier), [part], k, "q8")
    rows = np.random.default_rng(seed).integers(0, ROW_COUNTS[-1], num_rows).tolist()
    x = buffer_of(quantised(ROW_COUNTS[-1], k), *rows)
    found = product(threads(tier, num_threads), weight, x)
    for place in {0, num_rows // 2, num_rows - 1}:
        assert {found[place].tobytes()} == set(expected_row(kind, rows[place]))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("row_type", [RowType.F32, RowType.BF16])
def test_a_row_of_floats_has_the_same_bits_in_every_number_of_rows(
    row_type: RowType, tier: str
) -> None:
    part, _ = floats_of("F32", 40, 34)
    weight = LinearWeight.pack(threads(tier), [part], 34, name_of(row_type))
    x, _ = float_rows(row_type, ROW_COUNTS[-1], 34)
    whole = product(threads(tier), weight, x)
    for num_rows in range(1, ROW_COUNTS[-1]):
        few = RowBuffer(row_type, x.data[:num_rows], x.scales, x.sums)
        np.testing.assert_array_equal(product(threads(tier), weight, few), whole[:num_rows])


def floats_of(kind: str, n: int, k: int) -> tuple[StoredRows, np.ndarray]:
    values = np.random.default_rng(n * k).standard_normal((n, k)).astype(np.float32)
    if kind == "F32":
        return StoredRows(kind, n, values), values
    if kind == "F16":
        halves = values.astype(np.float16)
        return StoredRows(kind, n, halves), halves.astype(np.float32)
    upper = bf16_bits(values)
    return StoredRows(kind, n, upper), bf16_values(upper)


def bf16_bits(values: np.ndarray) -> np.ndarray:
    """Rounded to the nearest, halves to even."""
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)


def bf16_values(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def float_rows(row_type: RowType, num_rows: int, k: int) -> tuple[RowBuffer, np.ndarray]:
    values = np.random.default_rng(k).standard_normal((num_rows, k)).astype(np.float32)
    nothing = (np.empty((0, 0), np.float32), np.empty((0, 0), np.int32))
    if row_type is RowType.F32:
        return RowBuffer(row_type, values, *nothing), values
    bits = bf16_bits(values)
    return RowBuffer(row_type, bits, *nothing), bf16_values(bits)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("row_type", [RowType.F32, RowType.BF16])
@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (16, 2), (17, 33), (100, 64), (33, 7)])
def test_products_of_floats_have_the_bits_of_the_reference(
    n: int, k: int, kind: str, row_type: RowType, tier: str
) -> None:
    part, matrix = floats_of(kind, n, k)
    x, values = float_rows(row_type, 37, k)
    if row_type is RowType.F32:
        expected = multiply_floats(values, matrix)
    else:
        rounded = bf16_values(bf16_bits(matrix))
        expected = multiply_floats(swap_pairs(values), swap_pairs(rounded))
    weight = LinearWeight.pack(threads(tier), [part], k, name_of(row_type))
    np.testing.assert_array_equal(product(threads(tier), weight, x), expected)
    for num_rows in (0, 1, 2, 12, 13):
        few = RowBuffer(row_type, x.data[:num_rows], x.scales, x.sums)
        np.testing.assert_array_equal(product(threads(tier), weight, few), expected[:num_rows])


@pytest.mark.parametrize("tier", TIERS)
def test_parts_of_several_formats_stand_one_after_the_other(tier: str) -> None:
    k = 256
    kinds = [("Q4_K", 40), ("Q6_K", 17), ("Q4_1", 16), ("Q8_0", 1), ("Q8_0", 70)]
    parts, blocks = zip(*(stored(kind, n, k) for kind, n in kinds), strict=True)
    rows = quantised(30, k)
    expected = np.concatenate([multiply_blocks(rows, each) for each in blocks], axis=1)
    weight = LinearWeight.pack(threads(tier), parts, k, "q8")
    for num_rows in (1, 14, 30):
        x = buffer_of(rows, *range(num_rows))
        result = product(threads(tier, 3), weight, x)
        np.testing.assert_array_equal(result, expected[:num_rows])


@pytest.mark.parametrize("tier", TIERS)
def test_a_bias_is_added_to_the_product_and_the_sum_to_what_was_there(tier: str) -> None:
    part, blocks = stored("Q4_1", 50, 64)
    rows = quantised(9, 64)
    rng = np.random.default_rng(1)
    bias = rng.standard_normal(50).astype(np.float32)
    held = rng.standard_normal((9, 60)).astype(np.float32)
    out = held.copy()
    weight = LinearWeight.pack(threads(tier), [part], 64, "q8")
    multiply(threads(tier), weight, buffer_of(rows), out, bias, add=True)
    expected = held[:, :50] + (multiply_blocks(rows, blocks) + bias)
    np.testing.assert_array_equal(out[:, :50], expected)
    np.testing.assert_array_equal(out[:, 50:], held[:, 50:])


def gated_case(
    tier: str, kinds: tuple[str, str], width: int, out_type: RowType, num_rows: int
) -> tuple[RowBuffer, np.ndarray, np.ndarray]:
    k = 256
    rows = quantised(num_rows, k)
    bias = np.random.default_rng(2).standard_normal(2 * width).astype(np.float32)
    (gate, gate_blocks), (up, up_blocks) = (
        stored(kind, width, k, seed) for seed, kind in enumerate(kinds)
    )
    out = RowBuffer.unwritten(out_type, num_rows, width)
    weight = LinearWeight.pack(threads(tier), [gate, up], k, "q8", gated=True)
    multiply_gated(threads(tier), weight, buffer_of(rows), out, Activation.SILU, bias)
    gates = multiply_blocks(rows, gate_blocks) + bias[:width]
    return out, gates, multiply_blocks(rows, up_blocks) + bias[width:]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kinds", [("Q4_1", "Q4_1"), ("Q4_K", "Q6_K")])
@pytest.mark.parametrize("width", [1, 31, 32, 50, 128])
def test_gates_are_activated_and_multiply_their_ups(
    width: int, kinds: tuple[str, str], tier: str
) -> None:
    out, gates, ups = gated_case(tier, kinds, width, RowType.F32, 14)
    with np.errstate(over="ignore"):
        exact = gates / (1 + np.exp(-gates.astype(np.float64))) * ups
    np.testing.assert_allclose(out.data, exact, rtol=2e-6, atol=1e-20)
    first, _, _ = gated_case("portable", kinds, width, RowType.F32, 14)
    np.testing.assert_array_equal(out.data, first.data)


@pytest.mark.parametrize("tier", TIERS)
def test_gated_products_are_written_in_the_form_that_is_asked_for(tier: str) -> None:
    plain, _, _ = gated_case(tier, ("Q4_1", "Q4_1"), 96, RowType.F32, 5)
    rounded, _, _ = gated_case(tier, ("Q4_1", "Q4_1"), 96, RowType.BF16, 5)
    np.testing.assert_array_equal(rounded.data, bf16_bits(plain.data))
    codes, _, _ = gated_case(tier, ("Q4_1", "Q4_1"), 96, RowType.Q8, 5)
    for got, expected in zip(codes.quantised, quantise_rows_reference(plain.data), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_broken_row_spoils_itself_alone(kind: str, tier: str) -> None:
    k = k_of(kind, 2)
    part, blocks = stored(kind, 20, k)
    rows = quantised(6, k)
    scales = rows.scales.copy()
    scales[3, 1] = np.nan
    broken = QuantRows(rows.codes, scales, rows.sums)
    weight = LinearWeight.pack(threads(tier), [part], k, "q8")
    result = product(threads(tier), weight, buffer_of(broken))
    assert np.isnan(result[3]).all()
    expected = multiply_blocks(rows, blocks)
    np.testing.assert_array_equal(np.delete(result, 3, 0), np.delete(expected, 3, 0))


@pytest.mark.parametrize("tier", TIERS)
def test_the_widest_codes_do_not_overflow(tier: str) -> None:
    rows = QuantRows(
        np.repeat(np.array([[127], [-127]], np.int8), 64, 1),
        np.ones((2, 2), np.float32),
        np.array([[4064, 4064], [-4064, -4064]], np.int32),
    )
    raw = np.full((16 * 2, 34), 0x7F, np.uint8)
    raw[:16, 2:] = 0x80
    raw[:, :2] = np.array([1], "<f2").view(np.uint8)
    weight = LinearWeight.pack(threads(tier), [StoredRows("Q8_0", 16, raw)], 64, "q8")
    result = product(threads(tier), weight, buffer_of(rows))
    expected = np.repeat([[-128.0, 127.0]], 8, 1).T.reshape(-1)[None] * 64 * 127
    np.testing.assert_array_equal(result, np.concatenate([expected, -expected]))


def test_what_cannot_be_multiplied_is_refused() -> None:
    part, _ = stored("Q4_K", 3, 256)
    with pytest.raises(ValueError, match="cannot be packed for rows of bf16"):
        LinearWeight.pack(threads("portable"), [part], 256, "bf16")
    with pytest.raises(ValueError, match="Q4_K, 128 wide, cannot be packed"):
        LinearWeight.pack(threads("portable"), [part], 128, "q8")
    with pytest.raises(ValueError, match="cannot be packed"):
        LinearWeight.pack(threads("portable"), [part], 256, "q8", gated=True)
    weight = LinearWeight.pack(threads("portable"), [part], 256, "q8")
    with pytest.raises(ValueError, match="takes q8 rows of 256, got q8 of 64"):
        product(threads("portable"), weight, buffer_of(quantised(1, 64)))
