"""A row's bits come from the row alone: not from its company, its chunks, its pages, from threads
or from the instruction set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from tests.fakes.checkpoints import LlamaShape, random_extras, random_llama, write_llama
from tests.fakes.native_models import PAGE_SIZE, Row, logits_of, native_model, random_ids
from tests.kernels.native import AVAILABLE

from furcate.runtime.engine.batch import PageCopy
from furcate.runtime.model.catalog import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from furcate.kernels.structures import KVType
    from furcate.runtime.model.native import NativeModel
    from furcate.runtime.model.native_weights import Matmul

TIER = AVAILABLE[0]
SHAPE = LlamaShape(hidden_size=96, ffn_size=160, num_heads=6, kv_heads=2, head_dim=16)
LENGTH = 300  # more than a split of keys, and no multiple of a page
PAGES = range(LENGTH // PAGE_SIZE + 1)
IDS = random_ids(LENGTH, SHAPE.vocab_size)


class Numbers(NamedTuple):
    kind: str
    matmul: Matmul
    kv_type: KVType
    extras: bool = False


NUMBERS = {
    "int8 products": Numbers("Q8_0", "auto", "bf16"),
    "int8 keys": Numbers("Q4_0", "auto", "int8"),
    "bf16": Numbers("BF16", "bf16", "bf16"),
    "fp32": Numbers("F32", "fp32", "bf16"),
    "int8 products, biases and norms of heads": Numbers("Q8_0", "auto", "bf16", extras=True),
    "bf16, biases and norms of heads": Numbers("BF16", "bf16", "int8", extras=True),
}


@pytest.fixture(scope="module", params=NUMBERS.values(), ids=NUMBERS)
def numbers(request: pytest.FixtureRequest) -> Numbers:
    found: Numbers = request.param
    return found


@pytest.fixture(scope="module")
def path(numbers: Numbers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors = random_llama(numbers.kind, shape=SHAPE)
    if numbers.extras:
        tensors |= random_extras(SHAPE)
    return write_llama(tmp_path_factory.mktemp("model") / "model.gguf", tensors, SHAPE)


@pytest.fixture
def model(numbers: Numbers, path: Path) -> Iterator[NativeModel]:
    with opened(numbers, path) as opened_model:
        yield opened_model


def opened(
    numbers: Numbers, path: Path, tier: str = TIER, num_threads: int = 2
) -> AbstractContextManager[NativeModel]:
    return native_model(
        path,
        tier,
        num_threads=num_threads,
        matmul=numbers.matmul,
        kv_type=numbers.kv_type,
        extras=numbers.extras,
    )


@pytest.fixture(scope="module")
def expected(numbers: Numbers, path: Path) -> np.ndarray:
    """The logits of every token of the sequence, token by token, by one thread."""
    with opened(numbers, path, num_threads=1) as model:
        return in_chunks(model, [1] * LENGTH)


def in_chunks(model: NativeModel, sizes: Sequence[int]) -> np.ndarray:
    logits = []
    begin = 0
    for size in sizes:
        row = Row(IDS[begin : begin + size], begin, PAGES[: -(-(begin + size) // PAGE_SIZE)])
        logits.extend(logits_of(model, [row]))
        begin += size
    assert begin == LENGTH
    return np.concatenate(logits)


def test_a_sequence_may_be_cut_anywhere(model: NativeModel, expected: np.ndarray) -> None:
    cuts = [
        [LENGTH],
        [PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, LENGTH - 3 * PAGE_SIZE],
        [255, 1, 1, LENGTH - 257],
        [256, LENGTH - 256],
        [7] * 42 + [6],
    ]
    for sizes in cuts:
        np.testing.assert_array_equal(in_chunks(model, sizes), expected, str(sizes))


def test_a_row_may_have_any_company(model: NativeModel, expected: np.ndarray) -> None:
    own = len(PAGES)
    for num_others in range(9):
        others = [
            Row(random_ids(1 + 5 * n, SHAPE.vocab_size, n), 0, range(own + 3 * n, own + 3 * n + 3))
            for n in range(num_others)
        ]
        begin = 0
        found = []
        for size in (1, 40, 100, LENGTH - 141):
            row = Row(IDS[begin : begin + size], begin, PAGES)
            rows = [*others[: num_others // 2], row, *others[num_others // 2 :]]
            found.append(logits_of(model, rows)[num_others // 2])
            begin += size
        np.testing.assert_array_equal(np.concatenate(found), expected, f"{num_others} others")


def test_rows_that_share_pages_are_as_if_alone(model: NativeModel, expected: np.ndarray) -> None:
    shared = 17 * PAGE_SIZE  # more than a split
    logits_of(model, [Row(IDS[:shared], 0, PAGES)])
    for num_rows in (1, 2, 5, 9):
        rows = []
        for n in range(num_rows):
            own = range(30 + 2 * n, 32 + 2 * n)
            rows.append(Row(IDS[shared : shared + 1 + 3 * n], shared, [*PAGES[:17], *own]))
        for row, found in zip(rows, logits_of(model, rows), strict=True):
            np.testing.assert_array_equal(found, expected[shared : shared + len(row.ids)])


def test_any_pages_serve(model: NativeModel, expected: np.ndarray) -> None:
    for seed in range(3):
        pages = np.random.default_rng(seed).permutation(128)[: len(PAGES)].tolist()
        found = logits_of(model, [Row(IDS, 0, pages)])[0]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("length", [1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 40, 256, 257])
def test_a_copy_of_a_page_is_as_good_as_the_page(
    model: NativeModel, expected: np.ndarray, length: int
) -> None:
    logits_of(model, [Row(IDS[:length], 0, PAGES)])
    *whole, last = PAGES[: -(-length // PAGE_SIZE)]
    copy = PageCopy(last, 100, length - len(whole) * PAGE_SIZE)
    # Page 100 holds something else, and what follows the copied slots is written over.
    logits_of(model, [Row(random_ids(PAGE_SIZE, SHAPE.vocab_size, 9), 0, [100])])
    rest = Row(IDS[length : length + 9], length, [*whole, 100, 101])
    found = logits_of(model, [rest], [copy])[0]
    np.testing.assert_array_equal(found, expected[length : length + 9])


def test_copies_follow_the_writes_of_their_step_and_one_another(
    model: NativeModel, expected: np.ndarray
) -> None:
    """Two copies in a row of a page that the same step fills, and a reader of the second."""
    logits_of(model, [Row(IDS[:10], 0, PAGES)])
    rows = [Row(IDS[10:12], 10, PAGES), Row(IDS[12:20], 12, [51, 52])]
    copies = [PageCopy(0, 50, 12), PageCopy(50, 51, 12)]
    found = logits_of(model, rows, copies)
    np.testing.assert_array_equal(found[0], expected[10:12])
    # The reader's own token writes precede the copies: they lie in slots that are not copied.
    np.testing.assert_array_equal(found[1], expected[12:20])


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("tier", AVAILABLE)
def test_threads_and_instruction_sets_change_no_bit(
    numbers: Numbers, path: Path, expected: np.ndarray, tier: str, num_threads: int
) -> None:
    with opened(numbers, path, tier, num_threads) as model:
        np.testing.assert_array_equal(in_chunks(model, [200, 1, 99]), expected)
        others = [Row(random_ids(9, SHAPE.vocab_size, n), 0, [30 + n]) for n in range(9)]
        found = logits_of(model, [*others, Row(IDS, 0, PAGES)])[-1]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("page_size", [16, 32, 64, 128, 256])
def test_the_size_of_pages_changes_no_bit(
    numbers: Numbers, path: Path, expected: np.ndarray, page_size: int
) -> None:
    with native_model(
        path,
        TIER,
        matmul=numbers.matmul,
        kv_type=numbers.kv_type,
        extras=numbers.extras,
        page_size=page_size,
    ) as model:
        found = logits_of(model, [Row(IDS, 0, range(-(-LENGTH // page_size)))])[0]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.parametrize("tier", AVAILABLE)
def test_the_embedded_model_has_the_same_bits_in_every_tier_and_company(tier: str) -> None:
    path, ids = Path(ensure("smollm2")), random_ids(24, 49_152)
    with native_model(path, TIER, num_threads=1, num_pages=8) as model:
        expected = logits_of(model, [Row(ids, 0, [0, 1])])[0]
    with native_model(path, tier, num_pages=8) as model:
        first = logits_of(model, [Row(ids[:5], 0, [3, 2])])[0]
        others = [Row(random_ids(3 + n, 49_152, n), 0, [4 + n]) for n in range(3)]
        rest = logits_of(model, [*others, Row(ids[5:], 5, [3, 2])])[-1]
    np.testing.assert_array_equal(np.concatenate([first, rest]), expected)
