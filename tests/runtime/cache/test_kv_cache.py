"""Leases on the cache: what is shared, what is copied, what is refused."""

from __future__ import annotations

from array import array

import pytest

from furcate.runtime.cache import Copy, InvariantError, KVCache, Lease, LeaseState, Pending

TEXT = list(range(100, 164))


def opened(cache: KVCache, tokens: list[int], **kwargs: int) -> Lease:
    lease = cache.open(tokens, **kwargs)
    assert isinstance(lease, Lease)
    return lease


def served(cache: KVCache, tokens: list[int]) -> Lease:
    """A lease whose tokens are all computed, in a forward of their own, and in the tree."""
    step = cache.completed_step + 1
    lease = opened(cache, tokens)
    assert cache.extend(lease, len(tokens), step) is not None
    cache.insert(lease, tokens, len(tokens), step)
    cache.retire(step)
    cache.check()
    return lease


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


def test_namespaces_share_nothing() -> None:
    cache = KVCache(16, 4)
    served(cache, TEXT[:8])
    other = cache.open(TEXT[:8], "adapter")
    assert isinstance(other, Lease)
    assert other.cached_len == 0
    assert cache.cached_prefix(TEXT[:8], "unknown") == 0
    cache.check()


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


@pytest.mark.parametrize(
    ("tokens", "cached_len"),
    [
        pytest.param([*TEXT[:10], 7], 10, id="all of the pending node"),
        pytest.param([*TEXT[:3], 7], 3, id="a part of the pending node"),
    ],
)
def test_who_runs_into_a_pending_node_waits_for_its_step(
    tokens: list[int], cached_len: int
) -> None:
    cache = KVCache(16, 4)
    writer = opened(cache, TEXT[:10])
    cache.extend(writer, 10, 1)
    cache.insert(writer, TEXT, 10, 1)
    assert cache.open(tokens) == Pending(1, cached_len)
    assert cache.stats().nodes == 1, "waiting changes nothing"
    assert isinstance(cache.open([7, 7]), Lease)
    cache.retire(1)
    assert opened(cache, tokens).cached_len == cached_len


def test_what_was_computed_before_a_node_grew_can_be_used_at_once() -> None:
    cache = KVCache(16, 4)
    writer = served(cache, TEXT[:6])
    cache.extend(writer, 9, 2)
    cache.insert(writer, TEXT, 9, 2)
    assert opened(cache, [*TEXT[:6], 7]).cached_len == 6
    assert cache.open([*TEXT[:7], 7]) == Pending(2, 7)
    cache.check()


def test_a_split_of_a_growing_node_remembers_what_was_computed_on_both_sides() -> None:
    cache = KVCache(16, 4)
    writer = served(cache, TEXT[:6])
    cache.extend(writer, 9, 2)
    cache.insert(writer, TEXT, 9, 2)
    for length in (5, 3, 6):
        assert opened(cache, [*TEXT[:length], 7]).cached_len == length
        cache.check()
    assert cache.open(TEXT[:9]) == Pending(2, 8)
    assert cache.drop_pending(2) == [writer]
    cache.check()
    assert opened(cache, TEXT[:9]).cached_len == 6


def test_what_was_computed_before_a_node_grew_can_be_followed_by_what_is_computed() -> None:
    cache = KVCache(32, 4)
    other = [*TEXT[:3], 7, 7]
    late = opened(cache, other)  # finds nothing yet, and so computes all of it
    cache.extend(late, 5, 1)
    lease = served(cache, TEXT[:4])
    cache.extend(lease, 8, 2)
    cache.insert(lease, TEXT[:8], 8, 2)  # grows the node: the rest is pending
    assert cache.insert(late, other, 5, 1) == 5
    cache.check()
    assert cache.cached_prefix([*other, 0]) == 5
    cache.drop_pending(2)
    cache.check()
    assert cache.cached_prefix(TEXT[:9]) == 4


def test_a_split_of_a_pending_node_leaves_both_halves_pending() -> None:
    cache = KVCache(16, 4)
    leases = [opened(cache, [*TEXT[:length], 7, 7]) for length in (9, 5)]
    for lease, length in zip(leases, (9, 5), strict=True):
        cache.extend(lease, length, 1)
        cache.insert(lease, TEXT, length, 1)
    assert cache.stats().nodes == 2
    assert cache.open([*TEXT[:3], 7]) == Pending(1, 3)
    assert cache.drop_pending(1) == leases
    cache.check()
    assert cache.stats().nodes == 0


def test_a_scheduler_that_launches_in_order_may_read_what_is_launched() -> None:
    cache = KVCache(16, 4)
    writer = opened(cache, TEXT[:10])
    cache.extend(writer, 10, 1)
    cache.insert(writer, TEXT, 10, 1)
    reader = opened(cache, [*TEXT[:10], 7], ready_by=1)
    assert reader.cached_len == 10
    cache.check()


def test_a_failed_forward_takes_its_nodes_and_all_who_rely_on_them() -> None:
    cache = KVCache(16, 4)
    base = served(cache, TEXT[:6])
    writer, other = opened(cache, TEXT[:20]), opened(cache, [*TEXT[:6], 7])
    cache.extend(writer, 12, 2)
    cache.insert(writer, TEXT, 12, 2)
    reader = opened(cache, [*TEXT[:9], 7], ready_by=2)
    assert cache.drop_pending(2) == [writer, reader]
    cache.check()
    assert writer.state is reader.state is LeaseState.LOST
    assert base.state is other.state is LeaseState.LIVE
    assert cache.cached_prefix(TEXT[:20]) == 6
    with pytest.raises(InvariantError, match="it is lost"):
        cache.extend(writer, 13, 3)
    for lease in (reader, writer, other, base):
        cache.release(lease)
        cache.check()
    cache.retire(2)
    assert cache.stats().tree_tokens == 6


def test_a_failed_forward_cuts_a_grown_node_back_to_what_was_computed() -> None:
    cache = KVCache(16, 4)
    writer = served(cache, TEXT[:6])
    cache.extend(writer, 12, 2)
    cache.insert(writer, TEXT, 12, 2)
    assert cache.drop_pending(2) == [writer]
    cache.check()
    cache.release(writer, 2)
    cache.retire(2)
    assert opened(cache, TEXT[:20]).cached_len == 6
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


def test_a_page_is_allocatable_only_when_its_fence_has_passed() -> None:
    cache = KVCache(2, 4)
    lease = opened(cache, TEXT[:8])
    cache.extend(lease, 8, 1)
    cache.release(lease, fence_step=3)
    waiting = opened(cache, TEXT[:4])
    for completed in (1, 2):
        cache.retire(completed)
        assert cache.extend(waiting, 4, 4) is None
        assert cache.num_available == 2
        cache.check()
    cache.retire(3)
    assert cache.extend(waiting, 4, 4) == ()


def test_a_prefix_is_not_given_away_while_a_forward_reads_it_whose_stream_has_ended() -> None:
    cache = KVCache(3, 4)
    cache.release(served(cache, TEXT[:8]))
    reader = opened(cache, [*TEXT[:8], 7])
    cache.extend(reader, 9, 2)
    cache.release(reader)
    assert cache.evict(2) == 2
    assert (cache.stats().free_pages, cache.stats().fenced_pages) == (0, 3)
    cache.retire(2)
    assert cache.stats().free_pages == 3


def test_the_trimmed_tail_of_a_prefix_waits_for_its_last_reader_too() -> None:
    cache = KVCache(2, 4)
    cache.release(served(cache, TEXT[:8]), fence_step=3)
    assert cache.evict(1) == 1
    assert cache.cached_prefix(TEXT[:9]) == 4
    assert (cache.stats().free_pages, cache.stats().fenced_pages) == (0, 1)


def test_pages_provided_ahead_wait_for_the_step_that_computes_them() -> None:
    cache = KVCache(2, 4)
    lease = opened(cache, TEXT[:8])
    cache.extend(lease, 8, 1)
    cache.insert(lease, TEXT, 4, 1)
    cache.retire(1)
    cache.insert(lease, TEXT, 8, 2)
    cache.release(lease)
    assert cache.evict(2) == 2
    assert (cache.stats().free_pages, cache.stats().fenced_pages) == (0, 2)


def test_a_step_that_needs_no_new_page_is_waited_for_too() -> None:
    cache = KVCache(2, 4)
    lease = opened(cache, TEXT[:8])
    assert cache.extend(lease, 8, 1) == ()
    assert cache.extend(lease, 6, 2) == ()
    assert lease.last_step == 2
    cache.release(lease)
    cache.retire(1)
    assert (cache.stats().free_pages, cache.stats().fenced_pages) == (0, 2)
    cache.retire(2)
    assert cache.stats().free_pages == 2
    cache.check()


def test_pages_of_a_failed_forward_wait_for_those_launched_after_it() -> None:
    cache = KVCache(2, 4)
    lease = opened(cache, TEXT[:8])
    cache.extend(lease, 8, 1)
    cache.insert(lease, TEXT, 8, 1)
    assert cache.drop_pending(1, fence_step=3) == [lease]
    cache.release(lease)
    cache.retire(2)
    assert (cache.stats().free_pages, cache.stats().fenced_pages) == (0, 2)
    cache.retire(3)
    assert cache.stats().free_pages == 2


def test_the_source_of_a_copy_is_not_given_away_before_the_copy() -> None:
    cache = KVCache(3, 4)
    writer = served(cache, TEXT[:6])
    reader = opened(cache, [*TEXT[:6], 7])
    assert len(cache.extend(reader, 7, 2) or ()) == 1
    cache.release(writer)
    cache.release(reader)
    assert cache.evict(3) == 2
    assert (cache.stats().free_pages, cache.stats().fenced_pages) == (0, 3)


def test_the_tail_of_a_branch_is_not_given_away_before_it_is_copied() -> None:
    cache = KVCache(3, 4)
    lease = opened(cache, TEXT[:6])
    cache.extend(lease, 6, 1)
    cache.retire(1)
    branch = cache.branch(lease)
    assert len(cache.extend(branch, 7, 2) or ()) == 1
    cache.release(lease)
    assert (cache.stats().free_pages, cache.stats().fenced_pages) == (0, 1)
    cache.check()


def test_extending_evicts_the_least_recently_used_and_no_more_than_needed() -> None:
    cache = KVCache(6, 4)
    texts = [[number] * 8 for number in range(3)]
    for text in texts:
        cache.release(served(cache, text))
    cache.release(opened(cache, [*texts[0], 9]))
    lease = opened(cache, TEXT[:3])
    assert cache.extend(lease, 3, 4) == ()
    cache.check()
    assert [cache.cached_prefix([*text, 9]) for text in texts] == [8, 4, 8]
    assert cache.extend(lease, 16, 4) == ()
    assert [cache.cached_prefix([*text, 9]) for text in texts] == [8, 0, 0]
    assert cache.stats().evicted_tokens == 16
    cache.check()


def test_what_cannot_be_had_is_refused_without_evicting_anything() -> None:
    cache = KVCache(4, 4)
    cache.release(served(cache, [1] * 8))
    lease = opened(cache, TEXT[:20])
    assert cache.extend(lease, 20, 2) is None
    assert (lease.length, len(lease.page_table())) == (0, 0)
    assert cache.cached_prefix([1] * 9) == 8
    cache.check()


def test_evicting_one_half_of_a_split_node_keeps_the_page_of_the_other() -> None:
    cache = KVCache(8, 4)
    cache.release(served(cache, TEXT[:6]))
    upper = opened(cache, [*TEXT[:5], 7])
    assert cache.evict(8) == 0, "the lower half has only the shared page"
    assert cache.stats().nodes == 1
    assert upper.page_table().tolist() == [0, 1]
    cache.release(upper)
    assert cache.evict(8) == 2
    cache.check()


@pytest.mark.parametrize("page_size", [4, 16])
def test_a_stream_fits_a_pool_of_one_page_that_holds_another_with_its_prefix(
    page_size: int,
) -> None:
    cache = KVCache(1, page_size)
    cache.release(served(cache, TEXT[:4]))
    lease = opened(cache, [*TEXT[:2], 7, 7])
    assert lease.cached_len == 2
    assert cache.extend(lease, 4, 2) == (), "nothing is left to copy to, so the rest is evicted"
    assert cache.insert(lease, [*TEXT[:2], 7, 7], 4, 2) == 4
    cache.check()


def test_a_tail_page_freed_by_eviction_is_not_written_before_its_last_user_is_done() -> None:
    cache = KVCache(1, 4)
    cache.release(served(cache, TEXT[:4]), fence_step=3)
    lease = opened(cache, [*TEXT[:2], 7, 7])
    assert cache.extend(lease, 4, 2) is None
    cache.check()
    cache.retire(3)
    assert cache.extend(lease, 4, 4) == ()
    cache.check()


@pytest.mark.parametrize("num_pages", [1, 2])
def test_a_tiny_pool_serves_one_stream_after_the_other(num_pages: int) -> None:
    cache = KVCache(num_pages, 4)
    for token in range(5):
        lease = served(cache, [token] * 4 * num_pages)
        assert cache.extend(lease, 4 * num_pages + 1, cache.completed_step + 1) is None
        cache.release(lease)
        cache.check()


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
