"""`linear` in every implementation of this machine: its product, its tiles, its bits."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from furcate.kernels.linear import IMPLEMENTATIONS, TILE_ROWS, PackedWeight, linear, pack
from furcate.kernels.spec import Candidate, choose

NAMES = [candidate.name for candidate in IMPLEMENTATIONS if candidate.is_available()]
DTYPES = [torch.float32, torch.bfloat16]
SHAPES = [(1, 1), (16, 8), (37, 65), (576, 960), (1536, 576)]  # K, N
ROW_COUNTS = [0, 1, TILE_ROWS - 1, TILE_ROWS, TILE_ROWS + 1, 3 * TILE_ROWS]


def _operands(
    num_rows: int, shape: tuple[int, int], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    k, n = shape
    generator = torch.Generator().manual_seed(num_rows + k)
    x = torch.randn(num_rows, k, generator=generator).to(dtype)
    return x, (torch.randn(n, k, generator=generator) / k**0.5).to(dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_rows", ROW_COUNTS)
def test_product_equals_the_exact_one_rounded(
    num_rows: int, shape: tuple[int, int], dtype: torch.dtype, name: str
) -> None:
    x, weight = _operands(num_rows, shape, dtype)
    result = linear(x, pack(weight, name))
    assert result.dtype == dtype
    rtol = 1e-4 if dtype == torch.float32 else 2**-7
    assert_close(result.double(), x.double() @ weight.double().t(), rtol=rtol, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_has_the_same_bits_in_every_batch_and_at_every_place_of_a_tile(
    shape: tuple[int, int], dtype: torch.dtype, name: str
) -> None:
    x, weight = _operands(2 * TILE_ROWS, shape, dtype)
    packed = pack(weight, name)
    together = linear(x, packed)
    for shift in range(TILE_ROWS):
        assert torch.equal(linear(x.roll(shift, 0), packed), together.roll(shift, 0))
    for start, end in [(0, 1), (9, 10), (3, 8), (1, 33), (0, 63)]:
        assert torch.equal(linear(x[start:end], packed), together[start:end])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype, name: str) -> None:
    x, weight = _operands(TILE_ROWS, (1536, 576), dtype)
    packed = pack(weight, name)
    before = torch.get_num_threads()
    try:
        results = []
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            results.append(linear(x, packed))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])


def test_rows_that_overflow_do_not_touch_their_neighbours() -> None:
    x, weight = _operands(TILE_ROWS, (64, 48), torch.float32)
    packed = pack(weight)
    expected = linear(x, packed)
    x[5] = torch.inf
    kept = [row for row in range(TILE_ROWS) if row != 5]
    assert torch.equal(linear(x, packed)[kept], expected[kept])


def test_a_weight_packed_in_inference_mode_serves_outside_of_it() -> None:
    x, weight = _operands(4, (64, 48), torch.bfloat16)
    with torch.inference_mode():
        packed = pack(weight.clone())
        inside = linear(x, packed)
    assert torch.equal(linear(x, packed), inside)


def test_operands_outside_the_contract_are_refused() -> None:
    packed = pack(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"needs x \[T, 4\]"):
        linear(torch.zeros(2, 5), packed)
    with pytest.raises(ValueError, match="convert x first"):
        linear(torch.zeros(2, 4).bfloat16(), packed)
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        pack(torch.zeros(3, 4).half())


def test_a_named_implementation_is_never_replaced() -> None:
    candidates = [
        Candidate("fast", 1, lambda: False),
        Candidate("reference", 0, lambda: True),
    ]
    assert choose("op", candidates).name == "reference"
    with pytest.raises(ValueError, match="'fast' is not available"):
        choose("op", candidates, "fast")
    with pytest.raises(ValueError, match="no implementation 'other'"):
        choose("op", candidates, "other")


class OrderOfSums(PackedWeight):
    """A library that adds in another order where a tile has fewer than `agrees_from` rows."""

    def __init__(self, weight: torch.Tensor, agrees_from: int) -> None:
        super().__init__(weight)
        self.weight = weight
        self.agrees_from = agrees_from
        self.heights: list[int] = []
        self.try_lower_tiles()
        self.heights.clear()

    def multiply_tile(self, tile: torch.Tensor) -> torch.Tensor:
        self.heights.append(len(tile))
        total = torch.zeros((len(tile), self.out_features))
        for k in sorted(range(self.in_features), reverse=len(tile) < self.agrees_from):
            total = total + tile[:, k, None] * self.weight[:, k]
        return total


@pytest.mark.parametrize(
    ("agrees_from", "rows", "heights"),
    [
        (8, 3, [8]),
        (8, 9, [16]),
        (8, 17, [32]),
        (8, 40, [32, 8]),
        (16, 3, [16]),
        (32, 3, [32]),
    ],
)
def test_a_lower_tile_is_used_only_where_it_changes_no_bit(
    agrees_from: int, rows: int, heights: list[int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((5, 64), generator=generator)
    packed = OrderOfSums(weight, agrees_from)
    x = torch.randn((rows, 64), generator=generator)
    result = packed.multiply(x)
    assert packed.heights == heights
    padded = torch.zeros((32 * (-(-rows // 32)), 64))
    padded[:rows] = x
    whole = torch.cat([packed.multiply_tile(tile) for tile in padded.split(32)])
    assert torch.equal(result, whole[:rows])
