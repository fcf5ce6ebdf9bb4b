"""The future peak against a simulation that lets every stream grow token by token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furcate.runtime.scheduler.admission import Demand, FuturePeak, refusal


@st.composite
def demands(draw: st.DrawFn, page_size: int) -> list[Demand]:
    found = []
    for _ in range(draw(st.integers(0, 12))):
        length = draw(st.integers(1, 60))
        shared = draw(st.integers(0, length // page_size))
        found.append(Demand(length, draw(st.integers(0, 40)), shared))
    return found


def simulated(demands: list[Demand], page_size: int) -> int:
    most = 0
    for step in range(max((d.remaining for d in demands), default=-1) + 1):
        alive = [d for d in demands if d.remaining >= step]
        most = max(most, sum(-(-(d.length + step) // page_size) - d.num_shared for d in alive))
    return most


@given(st.data(), st.integers(1, 20))
def test_the_peak_is_that_of_a_simulation(data: st.DataObject, page_size: int) -> None:
    streams = data.draw(demands(page_size))
    assert FuturePeak(page_size, streams).pages() == simulated(streams, page_size)


@given(st.data(), st.integers(1, 20))
def test_demands_may_come_one_by_one(data: st.DataObject, page_size: int) -> None:
    first, later = data.draw(demands(page_size)), data.draw(demands(page_size))
    peak = FuturePeak(page_size, first)
    for count, demand in enumerate(later, 1):
        expected = simulated(first + later[:count], page_size)
        assert peak.pages_with(demand) == expected
        peak.add(demand)
        assert peak.pages() == expected
        assert len(peak) == len(first) + count


def test_nobody_needs_nothing() -> None:
    assert FuturePeak(16).pages() == 0


def test_streams_that_end_before_others_grow_leave_them_room() -> None:
    """Four pages for each by itself, and never more than six for both."""
    early, late = Demand(48, 0, 0), Demand(16, 48, 0)
    assert FuturePeak(16, [early, late]).pages() == 4
    assert FuturePeak(16, [Demand(48, 16, 0), late]).pages() == 4 + 2


def test_shared_pages_are_counted_once() -> None:
    children = [Demand(100, 12, 6)] * 10  # 96 positions in common
    assert FuturePeak(16, children).pages() == 10


@pytest.mark.parametrize("num_tokens", [0, 1, 64])
def test_what_fits_is_not_refused(num_tokens: int) -> None:
    assert refusal(num_tokens, 4, 16) is None


def test_a_refusal_says_how_much_there_is_and_what_to_do() -> None:
    assert refusal(65, 4, 16) == (
        "the KV cache holds 64: it has 4 pages of 16, and 5 are needed; give it more with "
        "--kv-bytes"
    )
