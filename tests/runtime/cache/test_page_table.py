"""A page table grows amortised, shows its pages without a copy, and copies apart."""

from __future__ import annotations

import numpy as np
import pytest

from furcate.runtime.cache import PageTable


def test_a_table_reads_back_what_it_was_given_however_it_grows() -> None:
    table = PageTable([5])
    for page in range(100):
        table.extend([page, page])
    assert table.view().tolist() == [5] + [page for page in range(100) for _ in range(2)]
    assert table.view().dtype == np.int32
    assert table.ids(1, 4) == [0, 0, 1]
    assert table.ids(200, 300) == [99]


def test_the_view_is_no_copy() -> None:
    table = PageTable([1, 2])
    view = table.view()
    table[1] = 7
    assert view.tolist() == [1, 7]


def test_a_truncated_table_reuses_its_room() -> None:
    table = PageTable(range(6))
    table.truncate(2)
    table.truncate(4)
    table.extend([9])
    assert table.view().tolist() == [0, 1, 9]


def test_a_copy_is_independent() -> None:
    table = PageTable([1, 2])
    other = table.copy()
    other[0] = 8
    other.extend([3])
    assert (table.view().tolist(), other.view().tolist()) == ([1, 2], [8, 2, 3])


@pytest.mark.parametrize("index", [-1, 2, 7])
def test_an_index_outside_the_table_is_refused_though_there_is_room(index: int) -> None:
    table = PageTable([1, 2])
    with pytest.raises(IndexError, match="a table of 2 pages"):
        table[index]
    with pytest.raises(IndexError, match="a table of 2 pages"):
        table[index] = 0
