"""Nodes that a forward is still computing: who may use them, who waits, what a failure takes."""

from __future__ import annotations

import pytest
from tests.runtime.cache.leases import TEXT, opened, served

from furcate.runtime.cache import InvariantError, KVCache, Lease, LeaseState, Pending


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


def test_a_failed_forward_takes_those_whose_tail_page_it_should_have_copied() -> None:
    cache = KVCache(8, 16)
    served(cache, TEXT[:9])
    reader = opened(cache, [*TEXT[:5], 7, 7])
    assert len(cache.extend(reader, 7, 2) or ()) == 1
    branch = cache.branch(reader)
    cache.truncate(reader, 5, fence_step=3)  # nothing that the step computes is left of it
    assert cache.drop_pending(2, 3) == [reader, branch]
    assert (reader.state, branch.state) == (LeaseState.LOST, LeaseState.LOST)
    for lease in (reader, branch):
        cache.release(lease)
    cache.check()


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
