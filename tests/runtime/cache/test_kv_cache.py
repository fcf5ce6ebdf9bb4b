"""Leases on the cache: what is shared, what is copied, what is refused."""

from __future__ import annotations

from array import array

import pytest
from tests.runtime.cache.leases import TEXT, opened, served

from furcate.runtime.cache import Copy, InvariantError, KVCache, Lease, LeaseState


@pytest.mark.parametrize("page_size", [1, 4, 16])
@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 15, 16, 17, 33])
def test_a_match_is_as_long_as_the_common_prefix_whatever_the_page_size(
    page_size: int, length: int
) -> None:
    cache = KVCache(64, page_size)
    served(cache, TEXT[:33])
    lease = opened(cache, [*TEXT[:length], 7, 7])
    assert lease.cached_len == lease.length == lease.inserted == length
    assert len(lease.page_table()) == cache.pages_for(length)
    cache.check()


@pytest.mark.parametrize(
    ("tokens", "limit", "expected"),
    [
        pytest.param([], None, 0, id="empty list"),
        pytest.param(TEXT[:1], None, 0, id="one token is left to compute"),
        pytest.param(TEXT[:8], None, 7, id="all but the last"),
        pytest.param(TEXT[:8], 8, 8, id="all"),
        pytest.param(TEXT[:8], 99, 8, id="limit beyond the end"),
        pytest.param(TEXT[:8], 3, 3, id="limit inside a page"),
        pytest.param(TEXT[:8], 0, 0, id="nothing"),
        pytest.param(TEXT[:8], -1, 0, id="limit below zero"),
    ],
)
def test_open_matches_up_to_the_limit(tokens: list[int], limit: int | None, expected: int) -> None:
    cache = KVCache(16, 4)
    served(cache, TEXT[:20])
    assert cache.cached_prefix(tokens, limit=limit) == expected
    lease = cache.open(tokens, limit=limit)
    assert isinstance(lease, Lease)
    assert lease.cached_len == expected


def test_tokens_may_come_as_any_sequence() -> None:
    cache = KVCache(16, 4)
    served(cache, TEXT[:8])
    for tokens in (tuple(TEXT[:8]), array("i", TEXT[:8]), array("q", TEXT[:8])):
        lease = cache.open(tokens)
        assert isinstance(lease, Lease)
        assert lease.cached_len == 7


def test_a_match_at_a_page_boundary_needs_no_copy() -> None:
    cache = KVCache(16, 4)
    first = served(cache, TEXT[:8])
    second = opened(cache, [*TEXT[:8], 7])
    assert cache.extend(second, 9, 2) == ()
    assert second.page_table()[:2].tolist() == first.page_table().tolist()
    cache.check()


def test_a_match_inside_a_page_that_is_still_written_is_copied() -> None:
    cache = KVCache(16, 4)
    writer = served(cache, TEXT[:6])
    reader = opened(cache, [*TEXT[:6], 7])
    tail = writer.page_table()[1]
    assert cache.extend(reader, 7, 2) == (Copy(tail, reader.page_table()[1], 2),)
    assert cache.extend(writer, 7, 2) == ()
    assert writer.page_table()[1] == tail
    cache.check()


def test_two_leases_that_branch_inside_one_page_get_a_page_each() -> None:
    cache = KVCache(16, 4)
    writer = served(cache, TEXT[:7])
    readers = [opened(cache, [*TEXT[:length], 7]) for length in (6, 5)]
    copies = [cache.extend(lease, lease.length + 1, 2) for lease in readers]
    assert [[copy.num_tokens for copy in each or ()] for each in copies] == [[2], [1]]
    assert len({lease.page_table()[1] for lease in [writer, *readers]}) == 3
    cache.check()


def test_a_tail_page_without_a_writer_is_continued_in_place() -> None:
    cache = KVCache(16, 4)
    first = served(cache, TEXT[:6])
    pages = first.page_table().tolist()
    cache.release(first)
    second = opened(cache, [*TEXT[:6], 7])
    assert cache.extend(second, 8, 2) == ()
    assert second.page_table().tolist() == pages
    third = opened(cache, [*TEXT[:6], 8])
    assert len(cache.extend(third, 7, 2) or ()) == 1
    cache.check()


def test_a_tail_page_is_not_taken_over_while_its_last_writer_is_in_flight() -> None:
    cache = KVCache(16, 4)
    first = served(cache, TEXT[:6])
    cache.extend(first, 7, 2)
    cache.release(first)
    second = opened(cache, [*TEXT[:6], 7])
    assert len(cache.extend(second, 7, 2) or ()) == 1
    cache.check()


def test_a_split_of_the_node_whose_tail_is_written_leaves_the_writer_alone() -> None:
    cache = KVCache(16, 4)
    writer = served(cache, TEXT[:6])
    other = opened(cache, [*TEXT[:5], 7])
    assert (writer.inserted, other.inserted) == (6, 5)
    assert cache.extend(writer, 8, 2) == ()
    cache.insert(writer, TEXT, 8, 2)
    cache.check()
    assert cache.cached_prefix(TEXT[:20]) == 8


def test_a_decode_step_inside_a_page_changes_nothing_but_the_length() -> None:
    cache = KVCache(16, 16)
    lease = served(cache, TEXT[:17])
    table, free = lease.page_table().tolist(), cache.stats().free_pages
    for length in range(18, 33):
        assert cache.extend(lease, length, 2) == ()
    assert (lease.length, lease.page_table().tolist()) == (32, table)
    assert cache.stats().free_pages == free
    cache.extend(lease, 33, 2)
    assert len(lease.page_table()) == 3


def test_a_stream_grows_one_node_while_nobody_else_reads_it() -> None:
    cache = KVCache(16, 4)
    lease = served(cache, TEXT[:4])
    for length in range(5, 30):
        step = cache.completed_step + 1
        cache.extend(lease, length, step)
        cache.insert(lease, TEXT, length, step)
        cache.check()
        cache.retire(step)
    assert cache.stats().nodes == 1
    assert cache.stats().tree_tokens == 29


def test_tokens_computed_twice_keep_the_pages_of_the_first_insertion() -> None:
    cache = KVCache(16, 4)
    leases = [opened(cache, TEXT[:10]) for _ in range(2)]
    for lease in leases:
        cache.extend(lease, 10, 1)
    tables = [lease.page_table().tolist() for lease in leases]
    for lease in leases:
        assert cache.insert(lease, TEXT, 10, 1) == 10
        cache.check()
    assert leases[0].page_table().tolist() == tables[0]
    # Whole pages are shared; the tail stays private, for both go on writing.
    assert leases[1].page_table().tolist() == [*tables[0][:2], tables[1][2]]
    assert cache.stats().fenced_pages == 2
    cache.retire(1)
    assert cache.stats().fenced_pages == 0
    for lease, token in zip(leases, [1, 2], strict=True):
        assert cache.extend(lease, 11, 2) == ()
        cache.insert(lease, [*TEXT[:10], token], 11, 2)
        cache.check()
    assert cache.stats().duplicate_tokens == 10


def test_tokens_that_another_stream_computes_later_are_not_taken_from_it() -> None:
    cache = KVCache(16, 4)
    early, late = opened(cache, TEXT[:8]), opened(cache, TEXT[:8])
    cache.extend(early, 8, 1)
    cache.extend(late, 8, 2)
    cache.insert(late, TEXT, 8, 2)
    table = early.page_table().tolist()
    assert cache.insert(early, TEXT, 8, 1) == 0
    assert early.page_table().tolist() == table
    cache.retire(2)
    assert cache.insert(early, TEXT, 8, 2) == 8
    assert early.page_table().tolist() == late.page_table().tolist()
    cache.check()


def test_the_winning_branch_becomes_the_stream_and_losers_leave_nothing() -> None:
    cache = KVCache(16, 4)
    lease = served(cache, TEXT[:6])
    used = cache.stats().total_pages - cache.stats().free_pages
    branches = [cache.branch(lease) for _ in range(3)]
    twig = cache.branch(branches[0])
    for branch in [*branches, twig]:
        assert len(cache.extend(branch, 9, 2) or ()) == 1
        cache.check()
    pages = twig.page_table().tolist()
    cache.adopt(lease, twig)
    for branch in branches:
        cache.release(branch)
    cache.check()
    assert (lease.length, lease.page_table().tolist()) == (9, pages)
    assert twig.state is LeaseState.RELEASED
    cache.retire(2)
    assert cache.insert(lease, [*TEXT[:6], 1, 2, 3], 9, 2) == 9
    cache.release(lease)
    cache.check()
    # The partial page of the tree and the copy that continues it.
    assert cache.stats().total_pages - cache.stats().free_pages == used + 2


def test_a_branch_may_outlive_the_lease_that_it_came_from() -> None:
    cache = KVCache(16, 4)
    lease = opened(cache, TEXT[:6])
    cache.extend(lease, 6, 1)
    branch = cache.branch(lease)
    cache.release(lease)
    cache.retire(1)
    assert cache.extend(branch, 7, 2) == (), "its tail page has no other user now"
    assert cache.insert(branch, TEXT, 7, 2) == 7
    cache.check()


def test_a_lease_truncated_below_a_branch_does_not_write_what_the_branch_reads() -> None:
    cache = KVCache(16, 4)
    lease = opened(cache, TEXT[:10])
    cache.extend(lease, 10, 1)
    cache.retire(1)
    branch = cache.branch(lease)
    cache.truncate(lease, 5)
    assert len(cache.extend(lease, 6, 2) or ()) == 1
    assert branch.page_table()[1] != lease.page_table()[1]
    cache.check()


def test_truncating_gives_back_the_pages_and_keeps_the_tree() -> None:
    cache = KVCache(16, 4)
    lease = served(cache, TEXT[:5])
    cache.extend(lease, 14, 2)
    cache.truncate(lease, 7)
    assert (lease.length, len(lease.page_table()), cache.stats().fenced_pages) == (7, 2, 2)
    cache.truncate(lease, 9)
    assert lease.length == 7
    with pytest.raises(InvariantError, match="5 positions are in the tree"):
        cache.truncate(lease, 4)
    cache.retire(2)
    assert cache.extend(lease, 8, 3) == ()
    cache.check()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_leases_may_be_released_in_any_order_and_twice(order: tuple[int, ...]) -> None:
    cache = KVCache(16, 4)
    leases = [served(cache, TEXT[:6]), served(cache, TEXT[:11]), served(cache, [*TEXT[:5], 7])]
    for index in order + order:
        cache.release(leases[index])
        cache.check()
    stats = cache.stats()
    assert stats.private_pages == stats.tree_locked_pages == stats.leases == 0
    assert cache.evict(99) == stats.tree_unlocked_pages
    assert cache.stats().free_pages == 16
    assert cache.stats().nodes == 0


def test_a_released_lease_is_refused() -> None:
    cache = KVCache(16, 4)
    lease = served(cache, TEXT[:6])
    cache.release(lease)
    for use in (
        lambda: cache.extend(lease, 7, 2),
        lambda: cache.insert(lease, TEXT, 6, 2),
        lambda: cache.truncate(lease, 6),
        lambda: cache.branch(lease),
    ):
        with pytest.raises(InvariantError, match="it is released"):
            use()


def test_insert_refuses_positions_that_have_no_page_or_no_token() -> None:
    cache = KVCache(16, 4)
    lease = opened(cache, TEXT[:6])
    cache.extend(lease, 6, 1)
    with pytest.raises(InvariantError, match="insert up to 7"):
        cache.insert(lease, TEXT, 7, 1)
    with pytest.raises(InvariantError, match="of 3 tokens"):
        cache.insert(lease, TEXT[:3], 6, 1)


def test_the_statistics_close() -> None:
    cache = KVCache(16, 4)
    served(cache, TEXT[:10])
    reader = opened(cache, [*TEXT[:6], 7])
    cache.extend(reader, 7, 2)
    stats = cache.stats()
    assert (stats.opens, stats.opened_tokens, stats.hit_tokens) == (2, 17, 6)
    assert (stats.inserted_tokens, stats.copies, stats.leases) == (10, 1, 2)
    assert (stats.free_pages, stats.private_pages, stats.tree_locked_pages) == (12, 1, 3)


@pytest.mark.parametrize("arguments", [(0, 16), (4, 0)])
def test_a_cache_without_room_is_refused(arguments: tuple[int, int]) -> None:
    with pytest.raises(InvariantError, match="at least one"):
        KVCache(*arguments)
