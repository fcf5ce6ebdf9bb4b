"""The pool refuses what would lose or double a page, and frees pages behind their fence."""

from __future__ import annotations

import pytest

from furcate.runtime.cache import InvariantError, PagePool


def test_pages_are_given_in_a_fixed_order_and_reused_last_freed_first() -> None:
    pool = PagePool(4)
    assert pool.allocate(3) == [0, 1, 2]
    pool.drop(1, fence=0)
    pool.drop(0, fence=0)
    assert pool.allocate(3) == [0, 1, 3]


def test_an_allocation_that_is_too_large_takes_nothing() -> None:
    pool = PagePool(2)
    assert pool.allocate(3) is None
    assert pool.num_free == 2
    assert pool.allocate(0) == []


def test_the_latest_fence_of_all_former_users_counts() -> None:
    pool = PagePool(1)
    pool.allocate(1)
    pool.hold(0)
    pool.drop(0, fence=5)
    pool.drop(0, fence=2)
    pool.retire(4)
    assert (pool.num_free, pool.num_fenced) == (0, 1)
    pool.retire(5)
    assert (pool.num_free, pool.num_fenced) == (1, 0)


def test_the_completed_step_never_goes_back() -> None:
    pool = PagePool(1)
    pool.retire(3)
    pool.retire(1)
    assert pool.completed_step == 3


def test_a_page_passes_through_its_classes() -> None:
    pool = PagePool(1)
    pool.allocate(1)
    assert (pool.num_private, pool.num_tree, pool.num_evictable) == (1, 0, 0)
    pool.attach(0)
    pool.pin(0)
    pool.drop(0, fence=0)
    assert (pool.num_private, pool.num_tree, pool.num_evictable) == (0, 1, 0)
    pool.unpin(0)
    assert (pool.num_tree, pool.num_evictable) == (1, 1)
    pool.detach(0, fence=1)
    assert (pool.num_tree, pool.num_evictable, pool.num_fenced) == (0, 0, 1)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        pytest.param(lambda pool: pool.hold(1), "cannot hold page 1: it is free", id="hold"),
        pytest.param(lambda pool: pool.attach(1), "cannot attach page 1", id="attach"),
        pytest.param(lambda pool: pool.drop(1, 0), "no lease holds it", id="drop"),
        pytest.param(lambda pool: pool.detach(0, 0), "no unlocked node", id="detach"),
        pytest.param(lambda pool: pool.pin(0), "pinned more often", id="pin"),
        pytest.param(lambda pool: pool.unpin(0), "no locked node", id="unpin"),
    ],
)
def test_a_reference_that_does_not_exist_is_refused(operation, message: str) -> None:  # type: ignore[no-untyped-def]
    pool = PagePool(2)
    pool.allocate(1)
    with pytest.raises(InvariantError, match=message):
        operation(pool)


def test_check_names_the_page_whose_count_is_wrong() -> None:
    pool = PagePool(2)
    pool.allocate(1)
    pool.check({}, {}, {0: 1})
    with pytest.raises(InvariantError, match="page 0 counts"):
        pool.check({}, {}, {})
