"""Paged attention against a naive one, and its bits under every cut, batch and page layout."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.paged_memory import PAGE, SHAPE, Memory, Row, naive, pages_of
from torch.testing import assert_close

from furcate.kernels.paged_attention import (
    SPLIT,
    AttentionShape,
    attend,
    copy_pages,
    plan_attention,
    plan_copies,
)

DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE, PAGE + 1, SPLIT, SPLIT + 1, 2 * SPLIT + 30])
@pytest.mark.parametrize("heads", [(6, 2), (4, 4), (8, 1), (9, 3), (20, 2)], ids=str)
def test_a_prompt_attends_as_the_naive_formula_says(
    heads: tuple[int, int], length: int, dtype: torch.dtype
) -> None:
    memory = Memory(AttentionShape(*heads, head_dim=16, page_size=PAGE), dtype)
    (result,) = memory.run([Row(1, 0, length, pages_of(length))])
    assert_close(result.double(), naive(memory, 1, length), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("page_size", [1, 8, 64, SPLIT])
def test_the_page_size_changes_no_bit(page_size: int) -> None:
    shape = AttentionShape(6, 2, 16, page_size)
    memory = Memory(shape, num_pages=512)
    (result,) = memory.run([Row(1, 0, 300, pages_of(300, page_size=page_size))])
    (expected,) = Memory().run([Row(1, 0, 300, pages_of(300))])
    assert torch.equal(result, expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunk", [1, 7, 32, 250, 256])
def test_a_prompt_cut_into_chunks_has_the_bits_of_the_whole(chunk: int, dtype: torch.dtype) -> None:
    length = 40 if chunk == 1 else 2 * SPLIT + 30
    (whole,) = Memory(dtype=dtype).run([Row(1, 0, length, pages_of(length))])
    memory, pages = Memory(dtype=dtype), pages_of(length)[::-1]
    parts = [
        memory.run([Row(1, first, min(first + chunk, length), pages)])[0]
        for first in range(0, length, chunk)
    ]
    assert torch.equal(torch.cat(parts), whole)


@st.composite
def _schedules(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Lengths of a few sequences and, for each, how many tokens every forward takes of it."""
    lengths = draw(st.lists(st.integers(1, 400), min_size=1, max_size=5))
    cuts = []
    for length in lengths:
        points = draw(st.lists(st.integers(0, length), max_size=4))
        bounds = [0, *sorted(points), length]
        cuts.append([end - start for start, end in itertools.pairwise(bounds)])
    return lengths, cuts


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(_schedules(), st.randoms(use_true_random=False))
def test_any_schedule_of_any_batch_has_the_bits_of_each_row_alone(schedule, random) -> None:
    lengths, cuts = schedule
    memory, free = Memory(num_pages=160), list(range(160))
    random.shuffle(free)
    pages = [[free.pop() for _ in range(-(-length // PAGE))] for length in lengths]
    done, results = [0] * len(lengths), [[] for _ in lengths]
    for turn in range(max(map(len, cuts))):
        active = [i for i, cut in enumerate(cuts) if turn < len(cut) and cut[turn] > 0]
        random.shuffle(active)
        if not active:
            continue
        rows = [Row(i, done[i], done[i] + cuts[i][turn], pages[i]) for i in active]
        for i, result in zip(active, memory.run(rows), strict=True):
            results[i].append(result)
            done[i] += cuts[i][turn]
    for i, length in enumerate(lengths):
        (alone,) = Memory().run([Row(i, 0, length, pages_of(length))])
        assert torch.equal(torch.cat(results[i]), alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_branches_on_shared_pages_have_the_bits_of_unshared_ones(dtype: torch.dtype) -> None:
    length, num_branches = SPLIT + 40, 9
    shared, private = Memory(dtype=dtype), Memory(dtype=dtype, num_pages=256)
    pages = pages_of(length)
    shared.run([Row(1, 0, length, pages)])
    rows, own = [], []
    for branch in range(num_branches):
        tail = 100 + branch
        rows.append(Row(1, length, length + 1, [*pages[:-1], tail]))
        own.append(Row(1, length, length + 1, pages_of(length + 1, first=20 * branch)))
        private.run([Row(1, 0, length, own[-1].pages)])
    copies = tuple((pages[-1], row.pages[-1], length % PAGE) for row in rows)
    # The branch's own token is written before the copy, into the slot after those copied.
    for result, expected in zip(shared.run(rows, copies), private.run(own), strict=True):
        assert torch.equal(result, expected)


def test_copies_run_in_order_and_may_read_what_an_earlier_one_wrote() -> None:
    copies = [(0, 1, PAGE), (1, 2, 5), (2, 0, 3), (3, 0, 1), (0, 0, 2), (3, 4, 0)]
    size = (5, SHAPE.kv_heads, PAGE, SHAPE.head_dim)
    pages = torch.randn(size, generator=torch.Generator().manual_seed(0))
    expected = pages.clone()
    for source, target, num_slots in copies:
        expected[target, :, :num_slots] = expected[source, :, :num_slots].clone()
    copy_pages(pages, plan_copies(SHAPE, copies))
    assert torch.equal(pages, expected)


def test_independent_copies_are_one_move() -> None:
    assert len(plan_copies(SHAPE, [(0, n, PAGE) for n in range(1, 9)])) == 1


def test_no_tokens_give_no_rows() -> None:
    plan = plan_attention(
        SHAPE, *(np.zeros(n, np.int32) for n in (0, 1, 0)), np.zeros((0, 1), np.int32)
    )
    pages = Memory().keys
    assert attend(torch.zeros(0, 6, 16), pages, pages, plan, 1.0).shape == (0, 6, 16)


def test_shapes_outside_the_contract_are_refused() -> None:
    with pytest.raises(ValueError, match="page_size must divide 256, got 24"):
        AttentionShape(4, 2, 16, 24)
    with pytest.raises(ValueError, match="multiple of the 3 kv heads, got 4"):
        AttentionShape(4, 3, 16, 16)
    with pytest.raises(ValueError, match="a copy moves 0 to 16 slots, got 17"):
        plan_copies(SHAPE, [(0, 1, 17)])
    plan = plan_attention(SHAPE, *(np.array(a, np.int32) for a in ([0], [0, 1], [1], [[0]])))
    with pytest.raises(ValueError, match="queries must be"):
        attend(torch.zeros(1, 5, 16), Memory().keys, Memory().values, plan, 1.0)
