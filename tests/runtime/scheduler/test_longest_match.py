from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from furcate.runtime.scheduler.longest_match import LongestMatch

TABLE = [bytes([byte]) for byte in range(256)] + [b"", b"ab", b"abc", b"ab"]


@given(st.binary(max_size=30))
def test_the_ids_spell_the_bytes(text: bytes) -> None:
    assert b"".join(TABLE[i] for i in LongestMatch(TABLE).encode(text)) == text


def test_the_longest_token_wins_and_of_equal_ones_the_lowest_id() -> None:
    assert LongestMatch(TABLE).encode(b"abcab") == [258, 257]


def test_a_byte_that_no_token_spells_is_left_out() -> None:
    assert LongestMatch([b"a", b""]).encode(b"xa") == [0]
