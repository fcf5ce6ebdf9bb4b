"""Who leaves when there is no room: classes, expectations, times, costs; and what stays."""

from __future__ import annotations

import pytest
from tests.runtime.cache.leases import TEXT, opened, served

from furcate.runtime.cache import KVCache


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


@pytest.mark.parametrize("num_pages", [1, 2])
def test_a_tiny_pool_serves_one_stream_after_the_other(num_pages: int) -> None:
    cache = KVCache(num_pages, 4)
    for token in range(5):
        lease = served(cache, [token] * 4 * num_pages)
        assert cache.extend(lease, 4 * num_pages + 1, cache.completed_step + 1) is None
        cache.release(lease)
        cache.check()
