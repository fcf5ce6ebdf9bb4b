"""The native elementwise kernels of every tier against their specifications. Where no sum or
exponential is involved the specification gives the bits; the others are compared tier by tier."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from furcate.kernels.elementwise.native import (
    TABLE_TYPES,
    Activation,
    Elementwise,
    RowBuffer,
    RowType,
    Table,
    TableType,
)
from furcate.kernels.elementwise.reference import (
    dequantise_rows_reference,
    quantise_rows_reference,
)
from furcate.kernels.linear.blocks import BLOCK_LAYOUTS, blocks_of
from furcate.kernels.paged_attention.native import PagedAttention, Shape, Step, round_bf16
from furcate.kernels.rms_norm.reference import rms_norm_reference
from furcate.kernels.rope.reference import rotate_reference, rotation_table_reference
from furcate.kernels.structures import RopeWrite

from .native import AVAILABLE, TIERS, library, pool

if TYPE_CHECKING:
    from collections.abc import Callable

OPS = ("elementwise", "paged_attention")
BLOCK_WIDTHS = [32, 64, 96, 576]
ODD_WIDTHS = [1, 15, 16, 17, 31, 576]
EPS = 1e-5

every_tier = pytest.mark.parametrize("tier", TIERS)
every_type = pytest.mark.parametrize("row_type", list(RowType), ids=lambda t: t.name)


def kernels(tier: str, num_threads: int = 2) -> Elementwise:
    return Elementwise(library(tier, *OPS), pool(tier, num_threads, *OPS))


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def spread(num_rows: int, width: int) -> np.ndarray:
    """Rows of all sizes, blocks of zeros, ties between two codes, subnormal numbers."""
    values = random(num_rows, width) * np.exp(random(num_rows, 1, seed=1, scale=20.0))
    values[0::5, :8] = np.arange(-4, 4) + np.float32(0.5)
    values[1::5] = 0.0
    values[2::5] *= np.float32(1e-44)
    values[3::5] = values[3::5, :1]
    return values


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()


def assert_tiers_agree(compute: Callable[[Elementwise], list[np.ndarray]]) -> None:
    first, *others = [compute(kernels(tier)) for tier in AVAILABLE]
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert_same_bits(a, b)


def arrays_of(rows: RowBuffer) -> list[np.ndarray]:
    return [rows.data, rows.scales, rows.sums]


# Rows


@every_tier
@pytest.mark.parametrize("num_rows", [0, 1, 7, 40])
@pytest.mark.parametrize("width", BLOCK_WIDTHS)
def test_quantised_rows_have_the_bits_of_the_reference(
    tier: str, width: int, num_rows: int
) -> None:
    values = spread(num_rows, width)
    out = RowBuffer.unwritten(RowType.Q8, num_rows, width)
    kernels(tier).write_rows(values, out)
    for ours, expected in zip(out.quantised, quantise_rows_reference(values), strict=True):
        assert_same_bits(ours, expected)


@every_tier
@pytest.mark.parametrize("broken", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 15, 16, 31])
@pytest.mark.parametrize("num_blocks", [3, 7])
def test_a_block_with_a_value_that_is_not_finite_spoils_itself_alone(
    tier: str, num_blocks: int, place: int, broken: float
) -> None:
    values = random(1, num_blocks * 32)
    values[0, 32 + place] = broken
    out = RowBuffer.unwritten(RowType.Q8, 1, num_blocks * 32)
    kernels(tier).write_rows(values, out)
    expected = quantise_rows_reference(values)
    assert np.flatnonzero(np.isnan(out.scales[0])).tolist() == [1]
    assert not out.data[0, 32:64].any()
    np.testing.assert_array_equal(out.scales, expected.scales)
    assert_same_bits(out.data, expected.codes)
    assert_same_bits(out.sums, expected.sums)


def test_quantised_rows_are_half_a_code_from_their_values() -> None:
    values = random(50, 64) * np.exp(random(50, 1, seed=1, scale=5.0))
    rows = quantise_rows_reference(values)
    error = np.abs(dequantise_rows_reference(rows) - values).reshape(50, 2, 32)
    assert (error <= rows.scales[..., None] * 0.50001).all()
    assert (np.abs(rows.codes.astype(int)).reshape(50, 2, 32).max(-1) == 127).all()


@every_tier
@pytest.mark.parametrize("width", ODD_WIDTHS)
def test_rows_in_bfloat16_are_rounded_to_the_nearest(tier: str, width: int) -> None:
    values = spread(40, width) if width >= 8 else random(40, width)
    values[7, 0], values[8, 0], values[9, 0] = np.inf, -np.inf, 3.4e38  # the last rounds up to inf
    out = RowBuffer.unwritten(RowType.BF16, 40, width)
    kernels(tier).write_rows(values, out)
    expected = torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
    assert_same_bits(out.data, expected)


@every_tier
def test_not_a_number_stays_one_in_bfloat16(tier: str) -> None:
    bits = np.array([[0x7F800001, 0xFF800001, 0x7FFFFFFF, 0x7FC00000] * 8], np.uint32)
    out = RowBuffer.unwritten(RowType.BF16, 1, 32)
    kernels(tier).write_rows(bits.view(np.float32), out)
    assert np.isnan(out.values()).all()


@every_tier
@every_type
def test_rows_written_in_parts_are_the_rows_written_at_once(tier: str, row_type: RowType) -> None:
    values = spread(14, 192)
    values[3, 70], values[8, 5] = np.nan, np.inf
    whole, parts = (RowBuffer.unwritten(row_type, 14, 192) for _ in range(2))
    kernels(tier).write_rows(values, whole)
    for row, end_row in ((0, 1), (1, 3), (3, 6), (6, 10), (10, 14), (2, 14)):
        for first, end in ((64, 192), (0, 32), (32, 64)):
            kernels(tier).write_rows_part(values[row:end_row, first:end], parts, row, first)
    for a, b in zip(arrays_of(whole), arrays_of(parts), strict=True):
        assert_same_bits(a, b)


# Norms


@every_tier
@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("width", ODD_WIDTHS)
def test_normalised_rows_follow_the_reference(tier: str, width: int, offset: float) -> None:
    x, weight = random(9, width, scale=3.0), random(width, seed=1)
    out = RowBuffer.unwritten(RowType.F32, 9, width)
    kernels(tier).norm(x, weight, EPS, out, offset)
    expected = rms_norm_reference(
        torch.from_numpy(x), torch.from_numpy(weight + np.float32(offset)), EPS, torch.float32
    )
    np.testing.assert_allclose(out.data, expected.numpy(), rtol=1e-5, atol=1e-6)


@every_tier
@every_type
def test_a_normalised_row_is_written_as_any_row(tier: str, row_type: RowType) -> None:
    x, weight = random(5, 96), random(96, seed=1)
    wide, out, again = (
        RowBuffer.unwritten(kind, 5, 96) for kind in (RowType.F32, row_type, row_type)
    )
    kernels(tier).norm(x, weight, EPS, wide)
    kernels(tier).norm(x, weight, EPS, out)
    kernels(tier).write_rows(wide.data, again)
    for a, b in zip(arrays_of(out), arrays_of(again), strict=True):
        assert_same_bits(a, b)


@every_tier
@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_normalised_row_depends_on_itself_alone(tier: str, num_threads: int) -> None:
    x, weight = random(23, 80), random(80, seed=1)
    everything = RowBuffer.unwritten(RowType.F32, 23, 80)
    kernels(tier, num_threads).norm(x, weight, EPS, everything)
    chosen = np.array([22, 0, 5, 5], np.int32)
    some = RowBuffer.unwritten(RowType.F32, 4, 80)
    kernels(tier).norm(x, weight, EPS, some, rows=chosen)
    assert_same_bits(some.data, everything.data[chosen])


def test_norms_have_the_same_bits_in_every_tier() -> None:
    def compute(ops: Elementwise) -> list[np.ndarray]:
        results = []
        for width in ODD_WIDTHS:
            out = RowBuffer.unwritten(RowType.F32, 11, width)
            ops.norm(random(11, width, scale=9.0), random(width, seed=1), EPS, out, 0.5)
            results.append(out.data)
        return results

    assert_tiers_agree(compute)


# Rotary positions


@every_tier
@pytest.mark.parametrize("num_pairs", [1, 7, 8, 32, 50])
def test_tables_of_positions_have_the_bits_of_the_reference(tier: str, num_pairs: int) -> None:
    positions = np.concatenate([np.arange(300), np.arange(1000, 1_000_000, 9973)]).astype(np.int32)
    frequencies = (10000.0 ** -(np.arange(num_pairs) / num_pairs)).astype(np.float32)
    table = kernels(tier).rope_table(positions, frequencies)
    expected = rotation_table_reference(torch.from_numpy(positions), torch.from_numpy(frequencies))
    assert_same_bits(table, expected.numpy())


@dataclass(frozen=True)
class Rope:
    """A case of rope_write: two rows, of 5 tokens after 3 cached ones and of one token."""

    rotary_dim: int = 32
    interleaved: bool = False
    has_norms: bool = False

    @property
    def shape(self) -> Shape:
        return Shape(num_heads=4, kv_heads=2, head_dim=32, page_size=16, num_pages=3)

    @property
    def step(self) -> Step:
        return Step(
            np.array([0, 5, 6], np.int32),
            np.array([3, 4, 5, 6, 7, 16], np.int32),
            np.array([8, 17], np.int32),
            np.array([[2, 0], [1, 0]], np.int32),
        )

    @property
    def qkv(self) -> np.ndarray:
        return random(6, 8, 32, seed=5)


ROPES = {
    "whole heads, halves": Rope(),
    "whole heads, interleaved": Rope(interleaved=True),
    "part of a head": Rope(rotary_dim=20),
    "part of a head, interleaved": Rope(rotary_dim=20, interleaved=True),
    "norms": Rope(has_norms=True),
    "norms, part of a head": Rope(rotary_dim=8, interleaved=True, has_norms=True),
}
every_rope = pytest.mark.parametrize("rope", list(ROPES.values()), ids=list(ROPES))


def head_norms(rope: Rope) -> list[np.ndarray]:
    return [random(32, seed=7), random(32, seed=8)] if rope.has_norms else []


def rope_write(tier: str, rope: Rope) -> list[np.ndarray]:
    """Queries, keys and values of all pages."""
    ops, attention = kernels(tier), PagedAttention(library(tier, *OPS), pool(tier, 2, *OPS))
    step, qkv, norms = rope.step, rope.qkv, head_norms(rope)
    pages = attention.allocate(rope.shape)
    table = ops.rope_table(step.positions, frequencies(rope))
    q = np.zeros((6, 4, 32), np.uint16)
    shape_struct, pages_struct, step_struct = rope.shape.struct, pages.struct, step.struct
    ops.rope_write(
        RopeWrite(
            ctypes.addressof(shape_struct),
            ctypes.addressof(pages_struct),
            ctypes.addressof(step_struct),
            qkv.ctypes.data,
            table[0].ctypes.data,
            table[1].ctypes.data,
            rope.rotary_dim,
            rope.interleaved,
            norms[0].ctypes.data if norms else None,
            norms[1].ctypes.data if norms else None,
            EPS,
            0.0,
            q.ctypes.data,
        )
    )
    return [q, pages.keys, pages.values]


def frequencies(rope: Rope) -> np.ndarray:
    return (100.0 ** -np.linspace(0, 1, rope.rotary_dim // 2)).astype(np.float32)


def rotated(tier: str, rope: Rope, heads: np.ndarray, norm: np.ndarray | None) -> np.ndarray:
    """The heads [T, H, 32], normalised by the kernel that has its own test, turned by torch."""
    if norm is not None:
        out = RowBuffer.unwritten(RowType.F32, heads.shape[0] * heads.shape[1], 32)
        kernels(tier).norm(np.ascontiguousarray(heads).reshape(-1, 32), norm, EPS, out)
        heads = out.data.reshape(heads.shape)
    positions = torch.from_numpy(rope.step.positions)
    table = rotation_table_reference(positions, torch.from_numpy(frequencies(rope)))
    turning = torch.from_numpy(np.ascontiguousarray(heads[:, :, : rope.rotary_dim]))
    done = rotate_reference(turning, table, rope.interleaved).numpy()
    return np.concatenate([done, heads[:, :, rope.rotary_dim :]], axis=2)


@every_tier
@every_rope
def test_queries_and_keys_are_rotated_with_the_bits_of_the_reference(tier: str, rope: Rope) -> None:
    q, keys, values = rope_write(tier, rope)
    q_norm, k_norm = head_norms(rope) or (None, None)
    assert_same_bits(q, round_bf16(rotated(tier, rope, rope.qkv[:, :4], q_norm)))
    attention = PagedAttention(library(tier, *OPS), pool(tier, 2, *OPS))
    expected = attention.allocate(rope.shape)
    attention.write(
        rope.shape,
        expected,
        rope.step,
        rotated(tier, rope, rope.qkv[:, 4:6], k_norm),
        np.ascontiguousarray(rope.qkv[:, 6:]),
    )
    assert_same_bits(keys, expected.keys)
    assert_same_bits(values, expected.values)


@every_rope
def test_rotated_rows_have_the_same_bits_in_every_tier(rope: Rope) -> None:
    first, *others = [rope_write(tier, rope) for tier in AVAILABLE]
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert_same_bits(a, b)


# Embeddings


def stored_table(table_type: TableType, num_rows: int, width: int) -> tuple[Table, np.ndarray]:
    """Random bytes with tame scales, and the values that they stand for."""
    name = table_type.name
    rng = np.random.default_rng(width)
    if name not in BLOCK_LAYOUTS:
        values = torch.from_numpy(random(num_rows, width))
        narrow = {"F32": values, "F16": values.half(), "BF16": values.bfloat16()}[name]
        raw = narrow.reshape(-1).view(torch.uint8).numpy()
        return Table(table_type, raw, num_rows, width), narrow.float().numpy()
    layout = BLOCK_LAYOUTS[name]
    num_blocks = num_rows * width // layout.values
    stored = rng.integers(0, 256, (num_blocks, layout.num_bytes), np.uint8)
    for at in layout.halves:
        halves = rng.uniform(-2, 2, (num_blocks, 1)).astype("<f2")
        stored[:, at : at + 2] = halves.view(np.uint8)
    raw = stored.reshape(-1)
    return Table(table_type, raw, num_rows, width), blocks_of(name, raw, (num_rows, width)).values()


@every_tier
@pytest.mark.parametrize("name", list(TABLE_TYPES))
def test_embedded_tokens_have_the_bits_of_the_dequantised_table(tier: str, name: str) -> None:
    table, values = stored_table(TABLE_TYPES[name], 5, 768)
    token_ids = np.array([4, 0, 3, 4], np.int32)
    assert_same_bits(kernels(tier).embed(table, token_ids), values[token_ids])
    assert kernels(tier).embed(table, token_ids[:0]).shape == (0, 768)
    scaled = kernels(tier).embed(table, token_ids, scale=27.5)
    assert_same_bits(scaled, values[token_ids] * np.float32(27.5))


def test_a_table_of_all_numbers_in_half_precision_is_expanded_exactly() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16)
    expected = halves.view(np.float16).astype(np.float32)
    table = Table(TableType.F16, halves.view(np.uint8), 64, 1024)
    for tier in AVAILABLE:
        values = kernels(tier).embed(table, np.arange(64, dtype=np.int32)).reshape(-1)
        np.testing.assert_array_equal(values, expected)  # NaNs of any kind are equal here
        assert_same_bits(np.signbit(values), np.signbit(expected))


@pytest.mark.parametrize(
    ("table_type", "num_bytes", "width"), [("Q4_0", 18, 16), ("F16", 63, 32), ("Q6_K", 210, 255)]
)
def test_a_table_of_the_wrong_size_is_refused(table_type: str, num_bytes: int, width: int) -> None:
    with pytest.raises(ValueError, match="takes"):
        Table(TABLE_TYPES[table_type], np.zeros(num_bytes, np.uint8), 1, width)


# Gates


GATES = np.concatenate(
    [
        np.linspace(-100, 100, 2001).astype(np.float32),
        np.array(
            [0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 88.1, -88.1, 87.0, -87.0, 1e-3], np.float32
        ),
        np.zeros(4, np.float32),
    ]
)


@every_tier
@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_gates_follow_torch(tier: str, activation: Activation) -> None:
    up = random(len(GATES), seed=3)
    gates = torch.from_numpy(GATES).double()
    power = gates
    if activation is Activation.GELU_TANH:  # (1 + tanh(u)) / 2 is the sigmoid of 2 u
        power = 2 * np.sqrt(2 / np.pi) * (gates + 0.044715 * gates**3)
        torch.testing.assert_close(
            gates * power.sigmoid(), torch.nn.functional.gelu(gates, approximate="tanh")
        )
    expected = (gates * power.sigmoid() * torch.from_numpy(up)).numpy()
    result = kernels(tier).activate(GATES, up, activation)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-35)


def test_gates_have_the_same_bits_in_every_tier() -> None:
    up = random(len(GATES), seed=3)
    assert_tiers_agree(lambda ops: [ops.activate(GATES, up, a) for a in Activation])


@every_tier
@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
def test_a_gate_that_is_not_a_number_gives_none(tier: str, activation: Activation) -> None:
    gate = np.full(16, np.nan, np.float32)
    assert np.isnan(kernels(tier).activate(gate, np.ones(16, np.float32), activation)).all()
