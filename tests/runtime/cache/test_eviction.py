"""Who leaves when there is no room: classes, expectations, times, costs; and what stays."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.runtime.cache.leases import TEXT, opened, served

from furcate.runtime.cache import InvariantError, KVCache, NextUse

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from furcate.runtime.cache import Eviction, Lease


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


def text(number: int, length: int = 8) -> list[int]:
    return [number] * length


def left(cache: KVCache, *texts: list[int]) -> list[int]:
    """How much of each text is cached; the texts are checked in the order of their names."""
    cache.check()
    return [cache.cached_prefix([*each, 99]) for each in texts]


def expected(
    cache: KVCache, tokens: list[int], use: NextUse, at: float | None = None, owner: int = 1
) -> Lease:
    lease = served(cache, tokens, owner)
    cache.expect(lease, use, at)
    cache.release(lease)
    return lease


def test_what_is_less_sure_to_be_used_leaves_first_whatever_its_age() -> None:
    cache = KVCache(10, 4)
    expected(cache, text(4), NextUse.PINNED)
    expected(cache, text(3), NextUse.SCHEDULED)
    expected(cache, text(2), NextUse.IDLE)
    cache.release(served(cache, text(1), owner=1))
    cache.release(served(cache, text(0), owner=1), dead=True)
    kept = [8, 8, 8, 8, 8]
    for number in range(5):
        assert cache.evict(2) == 2
        kept[number] = 0
        assert left(cache, *map(text, range(5))) == kept, "pinned ones leave last, but they leave"


@pytest.mark.parametrize("use", [NextUse.IDLE, NextUse.SCHEDULED])
def test_what_is_used_farthest_in_the_future_leaves_first(use: NextUse) -> None:
    cache = KVCache(10, 4)
    for number, at in enumerate([3.0, None, 1.0, 2.0, None]):
        expected(cache, text(number), use, at)
    for number in (1, 4, 0, 3, 2):
        assert left(cache, text(number)) == [8]
        assert cache.evict(2) == 2
        assert left(cache, text(number)) == [0]


def test_without_a_word_it_is_the_least_recently_used_that_leaves() -> None:
    cache = KVCache(6, 4)
    for number in range(3):
        cache.release(served(cache, text(number), owner=number))
    cache.release(opened(cache, [*text(0), 9], owner=0))
    assert cache.evict(2) == 2
    assert left(cache, text(0), text(1), text(2)) == [8, 0, 8]


def test_what_is_cheap_to_compute_leaves_before_what_is_older_but_not_for_ever() -> None:
    cache = KVCache(8, 4)
    cache.release(served(cache, text(1, 8)))
    cache.release(served(cache, text(2, 2)))
    assert cache.evict(1) == 1
    assert left(cache, text(1, 8), text(2, 2)) == [8, 0], "it loses two tokens for a page, not four"
    cache.release(served(cache, text(3, 3)))
    assert cache.evict(1) == 1
    assert left(cache, text(1, 8), text(3, 3)) == [4, 3], "by now the older one has had its time"


def test_an_expectation_may_be_revised_and_forgotten_while_nobody_holds_the_tokens() -> None:
    cache = KVCache(6, 4)
    leases = [served(cache, text(number), owner=1) for number in range(3)]
    first, second, third = (
        cache.expect(lease, NextUse.IDLE, float(n)) for n, lease in enumerate(leases)
    )
    for lease in leases:
        cache.release(lease)
    cache.revise(first, NextUse.IDLE, 5.0)
    cache.evict(1)
    assert left(cache, text(0), text(1), text(2)) == [4, 8, 8]
    cache.revise(first, NextUse.SCHEDULED)
    cache.evict(1)
    assert left(cache, text(0), text(1), text(2)) == [4, 8, 4]
    cache.forget(second)
    cache.forget(second)
    cache.evict(1)
    assert left(cache, text(0), text(1), text(2)) == [4, 4, 4]
    cache.forget(first, dead=True)
    cache.revise(third, NextUse.UNKNOWN)
    cache.evict(1)
    assert left(cache, text(0), text(1), text(2)) == [0, 4, 4]


def test_of_several_expectations_the_strongest_counts_and_of_these_the_soonest() -> None:
    cache = KVCache(6, 4)
    lease = served(cache, text(0), owner=1)
    cache.expect(lease, NextUse.IDLE, 0.0)
    cache.expect(lease, NextUse.SCHEDULED, 9.0)
    soon = cache.expect(lease, NextUse.SCHEDULED, 3.0)
    cache.release(lease)
    expected(cache, text(1), NextUse.SCHEDULED, 5.0)
    cache.evict(1)
    assert left(cache, text(0), text(1)) == [8, 4]
    cache.forget(soon)
    cache.evict(1)
    assert left(cache, text(0), text(1)) == [4, 4]


def test_what_is_expected_of_a_tail_is_expected_of_what_is_left_of_its_path() -> None:
    cache = KVCache(16, 4)
    stem = served(cache, text(0), owner=1)
    fork = cache.branch(stem)  # so that both continue in nodes of their own
    tail = served(cache, text(0) + text(7), owner=1)
    for each in (fork, stem):
        cache.release(each)
    scheduled = cache.expect(tail, NextUse.SCHEDULED, 8.0)
    cache.release(tail)
    assert cache.evict(2) == 2
    assert left(cache, text(0) + text(7)) == [8]
    expected(cache, text(1), NextUse.IDLE)
    assert cache.evict(2) == 2
    assert left(cache, text(0), text(1)) == [8, 0], "the stem is scheduled now"
    cache.revise(scheduled, NextUse.IDLE, 3.0)
    expected(cache, text(1), NextUse.IDLE, 1.0)
    assert cache.evict(2) == 2
    assert left(cache, text(0), text(1)) == [0, 8]
    cache.revise(scheduled, NextUse.PINNED)
    cache.forget(scheduled, dead=True)
    cache.check()


def test_two_sets_of_expectations_that_meet_become_one() -> None:
    cache = KVCache(16, 4)
    stem = served(cache, text(0), owner=1)
    at_stem = [cache.expect(stem, NextUse.IDLE, float(n)) for n in range(3)]
    tails = [served(cache, text(0) + text(n), owner=1) for n in (7, 8)]
    late = [cache.expect(lease, NextUse.IDLE, 9.0) for lease in tails]
    for lease in (stem, *tails):
        cache.release(lease)
    assert cache.evict(4) == 4
    assert left(cache, text(0)) == [8]
    places = {expectation.place for expectation in (*at_stem, *late)}
    assert len(places) == 1
    assert None not in places
    for expectation in (*at_stem, *late):
        cache.forget(expectation)
        cache.check()
    assert cache.census().unlocked[NextUse.UNKNOWN] == (2, 8)


def test_nothing_can_be_expected_of_an_empty_path() -> None:
    cache = KVCache(4, 4)
    lease = opened(cache, text(0))
    expectation = cache.expect(lease, NextUse.SCHEDULED)
    cache.release(lease)
    assert expectation.place is None
    cache.revise(expectation, NextUse.PINNED)
    cache.forget(expectation)
    cache.check()
    assert list(cache.tree.nodes()) == []


def test_what_another_owner_has_found_is_not_dead_with_its_own() -> None:
    cache = KVCache(16, 4)
    cache.release(served(cache, text(0), owner=1))
    cache.release(served(cache, text(1), owner=1))
    cache.release(served(cache, text(0) + text(1), owner=2), dead=True)
    cache.release(opened(cache, [*text(0), 9], owner=1), dead=True)
    cache.release(opened(cache, [*text(1), 9], owner=1), dead=True)
    held = cache.census().unlocked
    assert (held[NextUse.DEAD], held[NextUse.UNKNOWN]) == ((4, 16), (2, 8))
    assert cache.stats().foreign_hit_tokens == 8
    assert cache.evict(4) == 4
    assert left(cache, text(0), text(1)) == [8, 0]


@pytest.mark.parametrize("words", [(True, False), (False, True)])
def test_the_last_user_says_whether_tokens_are_dead(words: tuple[bool, bool]) -> None:
    cache = KVCache(16, 4)
    first = served(cache, text(0), owner=1)
    second = opened(cache, [*text(0), 9], owner=1)
    for lease, is_dead in zip((first, second), words, strict=True):
        cache.release(lease, dead=is_dead)
    held = cache.census().unlocked[NextUse.DEAD if words[1] else NextUse.UNKNOWN]
    assert held == (2, 8)
    again = opened(cache, [*text(0), 9], owner=1)
    cache.release(again)
    assert cache.census().unlocked[NextUse.DEAD] == (0, 0), "who comes back brings it to life"


def test_tokens_behind_an_expected_place_get_a_node_of_their_own() -> None:
    cache = KVCache(16, 4)
    lease = served(cache, text(0), owner=1)
    cache.expect(lease, NextUse.PINNED)
    tokens = text(0) + text(5)
    cache.extend(lease, 16, 2)
    cache.insert(lease, tokens, 16, 2)
    cache.retire(2)
    cache.release(lease)
    held = cache.census().unlocked
    assert (held[NextUse.PINNED], held[NextUse.UNKNOWN]) == ((2, 8), (2, 8))
    assert cache.evict(2) == 2
    assert left(cache, tokens) == [8]


def test_expecting_the_dead_and_using_a_released_lease_are_refused() -> None:
    cache = KVCache(4, 4)
    lease = served(cache, text(0))
    expectation = cache.expect(lease, NextUse.IDLE)
    with pytest.raises(InvariantError, match="expected by nobody"):
        cache.revise(expectation, NextUse.DEAD)
    cache.release(lease)
    with pytest.raises(InvariantError, match="cannot expect a use of"):
        cache.expect(lease, NextUse.IDLE)


def test_a_cache_that_goes_by_age_does_not_listen() -> None:
    cache = KVCache(6, 4, "lru")
    expected(cache, text(0), NextUse.PINNED)
    cache.release(served(cache, text(1), owner=1), dead=True)
    assert cache.evict(2) == 2
    assert left(cache, text(0), text(1)) == [0, 8]


def test_the_census_counts_a_page_of_two_nodes_once_and_for_the_stronger() -> None:
    cache = KVCache(16, 4)
    cache.release(served(cache, text(0, 6), owner=1))
    cache.release(opened(cache, [*text(0, 5), 9], owner=1))
    lease = opened(cache, [*text(0, 5), 9], owner=1)
    cache.expect(lease, NextUse.IDLE)
    cache.release(lease)
    census = cache.census()
    assert census.unlocked[NextUse.IDLE] == (2, 5)
    assert census.unlocked[NextUse.UNKNOWN] == (0, 1)
    running = opened(cache, [*text(0, 5), 9], owner=1)
    census = cache.census()
    assert (census.locked_tokens, census.unlocked[NextUse.UNKNOWN]) == (5, (0, 1))
    cache.release(running)


def calls(work: Callable[[], object]) -> int:
    """How many functions are called by it: the same in every run, on every machine."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("eviction", ["next-use", "lru"])
def test_evicting_from_many_nodes_takes_no_more_than_from_few(eviction: Eviction) -> None:
    counts = []
    for num_texts in (20, 5000):
        cache = KVCache(2 * num_texts, 4, eviction)
        for number in range(num_texts):
            lease = opened(cache, text(number), owner=number)
            cache.extend(lease, 8, 0)
            cache.insert(lease, text(number), 8, 0)
            if number % 2:
                cache.expect(lease, NextUse.IDLE, float(number % 7))
            cache.release(lease)
        counts.append(calls(partial(cache.evict, 10)))
    assert counts[0] == counts[1]
