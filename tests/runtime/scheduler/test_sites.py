"""What the outputs of a call site say about the next one."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from furcate.runtime.scheduler.sites import ENOUGH, SAMPLES, SITE_BYTES, Sites

LENGTHS = st.lists(st.integers(0, 500), min_size=0, max_size=100)


def noted(*lengths: int, site: int = 5) -> Sites:
    sites = Sites()
    for length in lengths:
        sites.note(site, length)
    return sites


def test_a_new_site_is_bounded_by_what_is_certain() -> None:
    assert Sites().bound(5, 100) == 100
    assert Sites().bound(5, 100, longest=7) == 7
    assert Sites().bound(5, 100, longest=700) == 100


def test_history_counts_once_there_is_enough_of_it() -> None:
    sites = noted(*[10] * (ENOUGH - 1))
    assert sites.bound(5, 100) == 100
    sites.note(5, 12)
    assert sites.bound(5, 100) == 12
    assert sites.bound(5, 11) == 11
    assert sites.bound(5, 100, longest=3) == 3
    assert sites.bound(6, 100) == 100


def test_one_output_far_longer_than_the_rest_does_not_make_the_bound() -> None:
    assert noted(*[10] * 40, 900).bound(5, 1000) == 10


def test_an_output_that_is_longer_than_most_is_measured_by_the_longer_ones() -> None:
    sites = noted(*[10] * 40, *[200] * 20)
    assert sites.bound(5, 1000, drawn=11) == 200
    assert sites.bound(5, 1000, drawn=200) == 1000


def test_old_lengths_are_forgotten() -> None:
    assert noted(*[900] * SAMPLES, *[10] * SAMPLES).bound(5, 1000) == 10


def test_nodes_without_a_site_have_no_history() -> None:
    assert noted(*[3] * 50, site=0).bound(0, 100) == 100


@given(LENGTHS, st.integers(0, 600), st.integers(0, 600) | st.none(), st.integers(0, 600))
def test_a_bound_is_within_what_is_certain_and_not_what_was_exceeded_already(
    lengths: list[int], max_tokens: int, longest: int | None, drawn: int
) -> None:
    certain = max_tokens if longest is None else min(max_tokens, longest)
    bound = noted(*lengths).bound(5, max_tokens, longest, drawn)
    assert bound == certain or drawn < bound < certain


def test_the_site_unused_for_longest_goes_first_and_memory_is_capped() -> None:
    sites = Sites(max_bytes=100 * SITE_BYTES)
    for length in range(20):
        sites.note(1, length)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for site in range(2, 1000):
        for length in range(SAMPLES):
            sites.note(site, length)
        sites.bound(site, 10)
        assert sites.bound(1, 100) < 100  # in use all the time
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(sites) == 100
    assert size <= 100 * SITE_BYTES
