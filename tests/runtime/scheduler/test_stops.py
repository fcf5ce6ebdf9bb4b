from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.scheduler.stop_texts import assert_safe_is_kept, push_in_pieces

from furcate.runtime.scheduler.stops import StopFound, StopMatcher

ALPHABET = st.binary(max_size=24).map(lambda text: bytes(97 + byte % 3 for byte in text))


def first_stop(text: bytes, stops: list[bytes]) -> StopFound | None:
    """The specification: what ends first; of those that end together, the longest."""
    for end in range(len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return StopFound(stop, end - len(stop))
    return None


@given(ALPHABET, st.lists(ALPHABET.filter(bool), min_size=1, max_size=3), st.data())
def test_a_stop_is_found_at_the_same_place_however_the_text_is_cut(
    text: bytes, stops: list[bytes], data: st.DataObject
) -> None:
    matcher = StopMatcher(tuple(stops))
    expected = first_stop(text, stops)
    assert push_in_pieces(matcher, text, data) == expected


@given(ALPHABET, st.lists(ALPHABET.filter(bool), min_size=1, max_size=3))
def test_what_is_safe_is_never_taken_back(text: bytes, stops: list[bytes]) -> None:
    matcher = StopMatcher(tuple(stops))
    assert_safe_is_kept(matcher, text)


@pytest.mark.parametrize(
    ("text", "safe"), [(b"abc", 3), (b"abcE", 3), (b"abcEN", 3), (b"abcENE", 5), (b"", 0)]
)
def test_only_the_beginning_of_a_stop_is_held_back(text: bytes, safe: int) -> None:
    matcher = StopMatcher((b"END",))
    matcher.push(text)
    assert matcher.safe_length == safe
