"""What the outputs of a call site say about the next one."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from furcate.runtime.scheduler.sites import ENOUGH, FIRST_GUESS, SAMPLES, SITE_BYTES, Sites

LENGTHS = st.lists(st.integers(0, 500), min_size=0, max_size=100)


def noted(*lengths: int, site: int = 5) -> Sites:
    sites = Sites()
    for length in lengths:
        sites.note(site, length)
    return sites


def test_what_is_certain_bounds_whatever_is_known() -> None:
    assert Sites().bound(5, 10) == 10
    assert Sites().bound(5, 100, longest=7) == 7
    assert noted(*[500] * 40).bound(5, 100) == 100


def test_before_anything_is_known_an_output_is_expected_to_get_as_far_again() -> None:
    assert Sites().bound(5, 1000) == FIRST_GUESS
    assert Sites().bound(5, 1000, drawn=200) == 400
    assert Sites().bound(5, 300, drawn=200) == 300


def test_a_site_counts_once_there_is_enough_of_it_and_all_outputs_till_then() -> None:
    sites = noted(*[10] * 64)
    for _ in range(ENOUGH - 1):
        sites.note(6, 40)
    assert sites.bound(6, 100, share=0.5) == 10
    sites.note(6, 42)
    assert sites.bound(6, 100, share=0.5) == 40
    assert sites.bound(6, 100, share=1.0) == 42
    assert sites.bound(5, 100) == 10


def test_one_output_far_longer_than_the_rest_does_not_make_the_bound() -> None:
    assert noted(*[10] * 40, 900).bound(5, 1000) == 10


def test_an_output_that_is_longer_than_most_is_measured_by_the_longer_ones() -> None:
    sites = noted(*[10] * 40, *[200] * 20)
    assert sites.bound(5, 1000, drawn=9, share=0.5) == 10
    assert sites.bound(5, 1000, drawn=10, share=0.5) == 200
    assert sites.bound(5, 1000, drawn=200) == 400


def test_old_lengths_are_forgotten() -> None:
    assert noted(*[900] * SAMPLES, *[10] * SAMPLES).bound(5, 1000) == 10


def test_nodes_without_a_site_are_measured_by_all_outputs() -> None:
    assert noted(*[3] * 50).bound(0, 100) == 3
    assert len(noted(*[3] * 50, site=0)) == 0


@given(
    LENGTHS,
    st.integers(0, 600),
    st.integers(0, 600) | st.none(),
    st.integers(0, 600),
    st.floats(0.0, 1.0),
)
def test_a_bound_is_within_what_is_certain_and_not_what_was_exceeded_already(
    lengths: list[int], max_tokens: int, longest: int | None, drawn: int, share: float
) -> None:
    certain = max_tokens if longest is None else min(max_tokens, longest)
    bound = noted(*lengths).bound(5, max_tokens, longest, drawn, share)
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
