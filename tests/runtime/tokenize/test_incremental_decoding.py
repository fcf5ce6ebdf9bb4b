"""Text that arrives in pieces is the text of all its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furcate.errors import UsageError
from furcate.runtime.tokenize import ByteTokenizer, IncrementalDecoder

SHORT_TOKENS = [b"", b"a", "é".encode(), b"\xf0\x9f", b"\x98\x80", b"\xff", b"\xe2\x82", b"\xac"]


@given(
    table=st.lists(st.binary(max_size=5), min_size=1) | st.just(SHORT_TOKENS),
    choices=st.lists(st.integers(0, 10_000), max_size=60),
    cuts=st.lists(st.integers(1, 6), max_size=60),
)
def test_any_split_gives_the_text_of_the_whole(
    table: list[bytes], choices: list[int], cuts: list[int]
) -> None:
    ids = [choice % len(table) for choice in choices]
    decoder, texts, start = IncrementalDecoder(table), [], 0
    for cut in [*cuts, len(ids)]:
        texts.append(decoder.push(ids[start : start + cut]))
        start += cut
        assert decoder.num_pending_bytes <= 3
    texts.append(decoder.finish())
    whole = b"".join(table[i] for i in ids)
    assert "".join(texts) == whole.decode("utf-8", "replace")


@given(text=st.text(), cut=st.integers(0, 40))
def test_valid_text_never_shows_a_replacement_it_did_not_hold(text: str, cut: int) -> None:
    codec = ByteTokenizer()
    ids = codec.encode(text)
    decoder = IncrementalDecoder(codec.table)
    first, second = decoder.push(ids[:cut]), decoder.push(ids[cut:])
    assert first + second == text
    assert text.startswith(first)
    assert decoder.finish() == ""


def test_a_character_appears_when_its_last_byte_does() -> None:
    decoder = IncrementalDecoder(ByteTokenizer().table)
    assert [decoder.push([byte]) for byte in "😀!".encode()] == ["", "", "", "😀", "!"]


def test_control_tokens_leave_no_text_and_do_not_break_a_character() -> None:
    codec = ByteTokenizer()
    decoder = IncrementalDecoder(codec.table)
    high, low = "é".encode()
    assert decoder.push([high, codec.control("<|im_end|>")]) == ""
    assert decoder.push([low]) == "é"


def test_a_cut_character_is_replaced_at_the_end_and_the_decoder_starts_afresh() -> None:
    decoder = IncrementalDecoder(ByteTokenizer().table)
    assert decoder.push("😀".encode()[:3]) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.push(b"ok") + decoder.finish() == "ok"


@pytest.mark.parametrize("token_id", [-1, 259, 1 << 40])
def test_an_id_outside_the_table_is_an_error(token_id: int) -> None:
    with pytest.raises(UsageError, match=f"{token_id} is no token id"):
        IncrementalDecoder(ByteTokenizer().table).push([token_id])
