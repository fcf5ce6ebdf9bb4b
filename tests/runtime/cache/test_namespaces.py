"""Namespaces: adapters and tenants see nothing of each other."""

from __future__ import annotations

import pytest
from tests.runtime.cache.leases import TEXT, served

from furcate.runtime.cache import KVCache, Lease, NextUse, Pending


def opened_in(cache: KVCache, namespace: str, limit: int | None = None) -> Lease:
    lease = cache.open(TEXT[:8], namespace, limit)
    assert isinstance(lease, Lease)
    return lease


def test_namespaces_share_nothing() -> None:
    cache = KVCache(16, 4)
    served(cache, TEXT[:8])
    other = opened_in(cache, "adapter")
    assert other.cached_len == 0
    assert cache.cached_prefix(TEXT[:8], "unknown") == 0
    cache.check()


@pytest.mark.parametrize("namespace", ["", "b", "a ", "A"])
def test_the_same_tokens_have_pages_of_their_own_in_each_namespace(namespace: str) -> None:
    cache = KVCache(16, 4)
    leases = [served(cache, TEXT[:8], namespace=each) for each in ("a", namespace)]
    pages = [set(lease.page_table().tolist()) for lease in leases]
    assert pages[0].isdisjoint(pages[1])
    assert [lease.cached_len for lease in leases] == [0, 0]
    for lease in leases:
        cache.release(lease, dead=True)
    assert cache.stats().hit_tokens == cache.stats().foreign_hit_tokens == 0
    assert opened_in(cache, "a", 8).cached_len == 8
    assert cache.cached_prefix([*TEXT[:8], 7], namespace) == 8


def test_who_computes_in_one_namespace_is_waited_for_in_no_other() -> None:
    cache = KVCache(16, 4)
    writer = opened_in(cache, "a")
    cache.extend(writer, 8, 1)
    cache.insert(writer, TEXT[:8], 8, 1)
    assert isinstance(cache.open(TEXT[:8], "a"), Pending)
    assert opened_in(cache, "b").cached_len == 0
    assert cache.stats().waits == 1


def test_a_word_about_one_namespace_is_not_heard_in_another() -> None:
    cache = KVCache(4, 4)
    for namespace in ("a", "b"):
        lease = served(cache, TEXT[:8], owner=1, namespace=namespace)
        if namespace == "a":
            cache.expect(lease, NextUse.PINNED)
        cache.release(lease)
    assert cache.evict(2) == 2
    assert cache.cached_prefix([*TEXT[:8], 7], "a") == 8
    assert cache.cached_prefix([*TEXT[:8], 7], "b") == 0


@pytest.mark.parametrize("release_first", [True, False])
def test_a_namespace_that_is_empty_and_unused_is_gone(release_first: bool) -> None:
    cache = KVCache(16, 4)
    cache.release(served(cache, TEXT[:8], namespace="a"))
    running = opened_in(cache, "a", 0)
    assert cache.tree.namespaces() == ["a"]
    if release_first:
        cache.release(running)
        cache.evict(16)
    else:
        cache.evict(16)
        assert cache.tree.namespaces() == ["a"], "somebody is at its root"
        cache.release(running)
    assert cache.tree.namespaces() == []
    assert cache.stats().free_pages == 16
    cache.check()


def test_many_namespaces_leave_nothing_behind() -> None:
    cache = KVCache(16, 4)
    for number in range(100):
        cache.release(served(cache, TEXT[:8], namespace=f"tenant {number}"))
    assert len(cache.tree.namespaces()) == 8, "as many as there are pages for"
    cache.cached_prefix(TEXT, "never seen")
    assert len(cache.tree.namespaces()) == 8
    cache.evict(16)
    assert cache.tree.namespaces() == []


def test_a_namespace_whose_forward_fails_is_gone_with_its_last_lease() -> None:
    cache = KVCache(16, 4)
    lease = opened_in(cache, "a")
    cache.extend(lease, 8, 1)
    cache.insert(lease, TEXT[:8], 8, 1)
    assert cache.drop_pending(1) == [lease]
    assert cache.tree.namespaces() == ["a"]
    cache.release(lease)
    assert cache.tree.namespaces() == []
    cache.check()
