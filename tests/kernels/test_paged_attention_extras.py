"""Windows, capped scores, sinks, values that are keys: their formula, and bits that depend on the
row alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.paged_memory import PAGE, SHAPE, Memory, Row, naive, pages_of
from torch.testing import assert_close

from furcate.kernels.paged_attention import SPLIT, AttentionShape, plan_attention

SINKS = torch.tensor([0.5, -3.0, 4.0, 0.0, 90.0, -90.0])
EXTRAS: dict[str, dict[str, object]] = {
    "window of one": {"window": 1},
    "window within a page": {"window": PAGE - 1},
    "window of pages": {"window": 40},
    "window of a split": {"window": SPLIT},
    "window beyond the text": {"window": 10_000},
    "softcap": {"softcap": 2.0},
    "sinks": {"sinks": SINKS},
    "values are keys": {"values_are_keys": True},
    "all": {"window": 50, "softcap": 3.0, "sinks": SINKS, "values_are_keys": True},
}
LENGTH = 2 * SPLIT + 30


@pytest.mark.parametrize("length", [1, PAGE, SPLIT, SPLIT + 1, LENGTH])
@pytest.mark.parametrize("name", EXTRAS)
def test_extras_follow_their_formula(name: str, length: int) -> None:
    memory = Memory(**EXTRAS[name])  # type: ignore[arg-type]
    (result,) = memory.run([Row(1, 0, length, pages_of(length))])
    assert_close(result.double(), naive(memory, 1, length), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", EXTRAS)
def test_a_row_has_the_bits_of_a_cold_run_however_it_was_cut_and_batched(
    name: str, data: st.DataObject
) -> None:
    memory = Memory(**EXTRAS[name])  # type: ignore[arg-type]
    lengths = data.draw(st.lists(st.integers(1, 400), min_size=1, max_size=3))
    pages = [list(range(26 * n, 26 * n + 26)) for n in range(len(lengths))]
    done = [0] * len(lengths)
    results: list[list[torch.Tensor]] = [[] for _ in lengths]
    while any(begin < end for begin, end in zip(done, lengths, strict=True)):
        chosen = [n for n in range(len(lengths)) if done[n] < lengths[n]]
        ends = [min(lengths[n], done[n] + data.draw(st.integers(1, 400))) for n in chosen]
        rows = [Row(n, done[n], end, pages[n]) for n, end in zip(chosen, ends, strict=True)]
        for n, end, result in zip(chosen, ends, memory.run(rows), strict=True):
            results[n].append(result)
            done[n] = end
    for n, length in enumerate(lengths):
        cold = Memory(**EXTRAS[name])  # type: ignore[arg-type]
        (whole,) = cold.run([Row(n, 0, length, pages_of(length))])
        assert torch.equal(torch.cat(results[n]), whole)


def test_splits_that_nobody_sees_are_not_computed() -> None:
    position = 3 * SPLIT + 5
    arrays = [
        np.array(values, np.int32)
        for values in ([position], [0, 1], [position + 1], [pages_of(position + 1)])
    ]
    assert len(plan_attention(SHAPE, *arrays).calls) == 4
    assert len(plan_attention(SHAPE, *arrays, window=20).calls) == 2
    assert len(plan_attention(SHAPE, *arrays, window=6).calls) == 1


def test_a_wide_head_that_every_query_reads_is_one_kv_head() -> None:
    memory = Memory(AttentionShape(12, 1, 48, PAGE), values_are_keys=True)
    (result,) = memory.run([Row(1, 0, 300, pages_of(300))])
    assert_close(result.double(), naive(memory, 1, 300), rtol=1e-4, atol=1e-5)


def test_sinks_of_another_number_of_heads_are_an_error() -> None:
    memory = Memory(sinks=torch.zeros(2))
    with pytest.raises(ValueError, match=r"sinks must be \[6\], got \[2\]"):
        memory.run([Row(1, 0, 4, pages_of(4))])
