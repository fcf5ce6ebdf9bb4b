"""Pages and what a forward in flight may still do with them."""

from __future__ import annotations

from tests.runtime.cache.leases import TEXT, opened, served

from furcate.runtime.cache import KVCache


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


def test_a_tail_page_freed_by_eviction_is_not_written_before_its_last_user_is_done() -> None:
    cache = KVCache(1, 4)
    cache.release(served(cache, TEXT[:4]), fence_step=3)
    lease = opened(cache, [*TEXT[:2], 7, 7])
    assert cache.extend(lease, 4, 2) is None
    cache.check()
    cache.retire(3)
    assert cache.extend(lease, 4, 4) == ()
    cache.check()
