"""The codec of bytes: the smallest thing that is a whole codec."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furcate.errors import UsageError
from furcate.runtime.tokenize import ByteTokenizer

if TYPE_CHECKING:
    from furcate.runtime.tokenize import TextCodec


@settings(max_examples=30)
@given(text=st.text())
def test_any_text_comes_back_and_gives_no_control_id(text: str) -> None:
    codec: TextCodec = ByteTokenizer()
    ids = codec.encode(text + "<|im_end|>")
    assert codec.decode(ids) == text + "<|im_end|>"
    assert not codec.control_ids.intersection(ids)
    assert codec.encode_batch([text, "", text]) == [codec.encode(text), [], codec.encode(text)]


def test_control_tokens_follow_the_bytes() -> None:
    codec = ByteTokenizer(["<end>", "<tool>"], eos="<end>")
    assert codec.vocab_size == 258
    assert (codec.control("<end>"), codec.control("<tool>")) == (256, 257)
    assert codec.eos_ids == codec.end_of_turn_ids == {256}
    assert codec.token_bytes(256) == b""
    assert codec.table[65] == b"A"
    assert codec.decode([72, 256, 105]) == "Hi"


def test_an_unknown_control_token_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no control token '<x>'; it has <\|endoftext\|>, "):
        ByteTokenizer().control("<x>")
    many = ByteTokenizer([f"<{i}>" for i in range(30)], eos=None)
    with pytest.raises(UsageError, match="<19> and 10 more"):
        many.control("<x>")


def test_fingerprints_differ_where_codecs_do() -> None:
    codecs = [
        ByteTokenizer(),
        ByteTokenizer(["<|im_end|>"]),
        ByteTokenizer(eos="<|endoftext|>"),
        ByteTokenizer(eos=None),
    ]
    assert len({codec.fingerprint for codec in codecs}) == len(codecs)
    assert ByteTokenizer().fingerprint == ByteTokenizer().fingerprint


@pytest.mark.parametrize("token_id", [-1, 259])
def test_an_id_that_does_not_exist_is_an_error(token_id: int) -> None:
    with pytest.raises(UsageError, match=f"{token_id} is no token id of bytes, which has 0 to 258"):
        ByteTokenizer().decode([token_id])


def test_half_a_surrogate_pair_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"character 1 of the text, '\\ud800', is a lone"):
        ByteTokenizer().encode("a\ud800")


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, furcate.runtime.tokenize as t; t.ByteTokenizer();"
        "sys.exit(str({'numpy', 'torch', 'tokenizers', 'jinja2'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr.strip() == "set()"
