"""The header of a model file: what it gives, and that damage ends in ModelFileError only."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from furcate.errors import ModelFileError
from furcate.runtime.model.gguf import StringArray, read_header
from furcate.runtime.model.quantized import dequantize

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {"general.architecture": "llama", "llama.block_count": 2, "llama.rope": 1e5}
TOKENS = ["<s>", "a", "Ġb", "日本", ""]


def write_file(path: Path) -> Path:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("llama.rope", 1e5)
    writer.add_bool("flag", True)
    writer.add_int64("negative", -5)
    writer.add_array("tokens", TOKENS)
    writer.add_array("types", [3, 1, 1, 1, 1])
    writer.add_array("flags", [True, False])
    writer.add_tensor("first", np.arange(12, dtype=np.float32).reshape(3, 4))
    blocks = np.arange(2 * 40, dtype=np.uint8).reshape(2, 40)
    writer.add_tensor("second", blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_file(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_the_values_of_all_kinds_are_read(tiny: Path) -> None:
    file = read_header(tiny)
    assert file.version == 3
    for key, value in KEYS.items():
        assert file.metadata[key] == value
    assert file.metadata["flag"] is True
    assert file.metadata["negative"] == -5
    tokens = file.metadata["tokens"]
    assert isinstance(tokens, StringArray)
    assert list(tokens) == TOKENS
    assert tokens[-2:] == TOKENS[-2:]
    types, flags = file.metadata["types"], file.metadata["flags"]
    assert isinstance(types, np.ndarray)
    assert types.tolist() == [3, 1, 1, 1, 1]
    assert isinstance(flags, np.ndarray)
    assert flags.tolist() == [True, False]


def test_tensors_have_numpy_shapes_and_their_bytes(tiny: Path) -> None:
    file = read_header(tiny)
    assert file.tensors["first"].shape == (3, 4)
    assert file.tensors["second"].type == "Q4_1"
    assert file.tensors["second"].shape == (2, 64)
    assert file.raw("second").tolist() == list(range(80))
    assert not file.raw("second").flags.writeable
    values = dequantize(file.tensors["first"], file.raw("first"))
    np.testing.assert_array_equal(values, np.arange(12, dtype=np.float32).reshape(3, 4))


def test_the_digest_names_the_header_and_not_the_tensors(tiny: Path, tmp_path: Path) -> None:
    whole = bytearray(tiny.read_bytes())
    whole[-1] ^= 1
    other_data = tmp_path / "data.gguf"
    other_data.write_bytes(whole)
    assert read_header(other_data).digest == read_header(tiny).digest
    other_header = tmp_path / "header.gguf"
    other_header.write_bytes(tiny.read_bytes().replace(b"llama.rope", b"llama.rape"))
    assert read_header(other_header).digest != read_header(tiny).digest


def test_a_required_key_of_another_type_names_file_key_and_value(tiny: Path) -> None:
    file = read_header(tiny)
    assert file.require("llama.block_count", int) == 2
    with pytest.raises(ModelFileError, match=r"tiny\.gguf: 'llama\.absent' .* is missing"):
        file.require("llama.absent", int)
    with pytest.raises(ModelFileError, match=r"'flag' must be a int, but it is a bool: True"):
        file.require("flag", int)


# Hand-written headers: what a writer would refuse to write.


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(name: bytes, dims: list[int], kind: int = 0, offset: int = 0) -> bytes:
    head = text(name) + struct.pack("<I", len(dims))
    return head + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset)


def header(
    *parts: bytes, keys: int = 0, tensors: int = 0, version: int = 3, magic: bytes = b"GGUF"
) -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, keys) + b"".join(parts) + bytes(256)


U32 = struct.pack("<I", 7)
LARGE = (1 << 63) - 1
DAMAGED = {
    "nothing": (b"", "cannot be read"),
    "another format": (header(magic=b"GGML"), "begins with b'GGML'"),
    "version 1": (header(version=1), "version 1 "),
    "big endian": (header(version=3 << 24), "big-endian"),
    "more keys than bytes": (header(keys=LARGE), "keys: more than the limit"),
    "more tensors than bytes": (header(tensors=4000), "4000 tensors: more than"),
    "key too long": (header(text(b"k" * 1025), keys=1), "1025 bytes, at most 1024"),
    "empty key": (header(key(b"", 4, U32), keys=1), "empty or stands there twice"),
    "key not UTF-8": (header(key(b"\xff", 4, U32), keys=1), "is not UTF-8"),
    "duplicate key": (header(key(b"k", 4, U32), key(b"k", 4, U32), keys=2), "'k' is empty or"),
    "unknown value type": (header(key(b"k", 13, U32), keys=1), "unknown value type 13"),
    "a bool of two": (header(key(b"k", 7, b"\2"), keys=1), "a bool is 0 or 1, got 2"),
    "a string past the end": (
        header(key(b"k", 8, struct.pack("<Q", 5000)), keys=1),
        "5000 bytes are needed",
    ),
    "a huge array": (
        header(key(b"k", 9, struct.pack("<IQ", 4, LARGE)), keys=1),
        "items in the array: more",
    ),
    "a huge array of strings": (
        header(key(b"k", 9, struct.pack("<IQ", 8, 1 << 20)), keys=1),
        "strings in the array: more",
    ),
    "a long string in an array": (
        header(key(b"k", 9, struct.pack("<IQQ", 8, 1, LARGE)), keys=1),
        "string 0 of 1 has",
    ),
    "an array of arrays": (
        header(key(b"k", 9, struct.pack("<IQ", 9, 1)), keys=1),
        "array of value type 9",
    ),
    "an array of bools with a two": (
        header(key(b"k", 9, struct.pack("<IQ", 7, 1) + b"\2"), keys=1),
        "got 2 in the array",
    ),
    "no dimension": (header(tensor(b"t", []), tensors=1), "0 dimensions"),
    "five dimensions": (header(tensor(b"t", [1] * 5), tensors=1), "5 dimensions"),
    "a dimension of zero": (header(tensor(b"t", [4, 0]), tensors=1), "does not fit F32"),
    "half a block": (header(tensor(b"t", [16], kind=3), tensors=1), "does not fit Q4_1"),
    "sizes that overflow": (header(tensor(b"t", [1 << 62, 1 << 62]), tensors=1), "cut short"),
    "unknown tensor type": (header(tensor(b"t", [4], kind=99), tensors=1), "tensor type 99"),
    "a removed tensor type": (header(tensor(b"t", [32], kind=4), tensors=1), "tensor type 4"),
    "duplicate tensor": (
        header(tensor(b"t", [4]), tensor(b"t", [4], offset=32), tensors=2),
        "'t' is empty or stands there twice",
    ),
    "tensor name too long": (header(tensor(b"t" * 257, [4]), tensors=1), "at most 256"),
    "overlap": (
        header(tensor(b"t", [16]), tensor(b"u", [4], offset=32), tensors=2),
        "inside tensor 't'",
    ),
    "a crooked offset": (header(tensor(b"t", [4], offset=4), tensors=1), "no multiple of 32"),
    "an offset past the end": (header(tensor(b"t", [4], offset=1 << 40), tensors=1), "cut short"),
    **{
        f"alignment {value}": (
            header(key(b"general.alignment", 4, struct.pack("<I", value)), keys=1),
            f"{value} is not a power of two",
        )
        for value in (0, 4, 24, 1 << 17, 1 << 30)
    },
    "alignment as text": (
        header(key(b"general.alignment", 8, text(b"32")), keys=1),
        "'32' is not a power of two",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_header_is_an_error_that_says_where(case: str, tmp_path: Path) -> None:
    content, message = DAMAGED[case]
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_header(path)
    assert "damaged.gguf" in str(caught.value)


def test_a_string_of_an_array_that_is_not_utf8_fails_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "bytes.gguf"
    strings = struct.pack("<IQ", 8, 2) + text(b"fine") + text(b"\xff\xfe")
    path.write_bytes(header(key(b"k", 9, strings), keys=1))
    array = read_header(path).metadata["k"]
    assert isinstance(array, StringArray)
    assert array[0] == "fine"
    with pytest.raises(ModelFileError, match=r"string 1 of an array, at byte .* is not UTF-8"):
        list(array)


def test_a_missing_file_and_a_folder_are_model_file_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.gguf", tmp_path):
        with pytest.raises(ModelFileError, match="cannot be read"):
            read_header(path)


@pytest.mark.parametrize("count", [1 << 20, 1 << 22, 1 << 40, LARGE])
def test_a_count_allocates_nothing_that_the_file_does_not_hold(count: int, tmp_path: Path) -> None:
    path = tmp_path / "count.gguf"
    path.write_bytes(header(key(b"k", 9, struct.pack("<IQ", 8, count)), keys=1))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def read_everything(path: Path) -> None:
    file = read_header(path)
    for value in file.metadata.values():
        if isinstance(value, StringArray):
            list(value)
    for name, info in file.tensors.items():
        assert dequantize(info, file.raw(name)).shape == info.shape


def check_damage(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with contextlib.suppress(ModelFileError):
        read_everything(path)


ARRAY_KEYS = st.lists(
    st.tuples(
        st.integers(0, 1000),
        st.one_of(
            st.binary(min_size=1, max_size=8),
            st.sampled_from([0, 1, 255, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1]).map(
                lambda number: struct.pack("<Q", number)
            ),
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=ARRAY_KEYS)
def test_overwritten_bytes_give_a_file_or_a_model_file_error(
    edits: list[tuple[int, bytes]], tiny: Path, tmp_path: Path
) -> None:
    content = bytearray(tiny.read_bytes())
    for position, patch in edits:
        start = position % len(content)
        content[start : start + len(patch)] = patch
    check_damage(tmp_path / "edited.gguf", bytes(content))


def test_a_file_cut_anywhere_is_a_model_file_error(tiny: Path, tmp_path: Path) -> None:
    content = tiny.read_bytes()
    # The writer pads the last tensor; its padding alone may be missing.
    for length in range(0, len(content) - 16, 3):
        path = tmp_path / "cut.gguf"
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            read_everything(path)


@pytest.mark.slow
@settings(
    max_examples=5000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(edits=ARRAY_KEYS, removed=st.tuples(st.integers(0, 1000), st.integers(0, 40)))
def test_many_edits_and_removals_give_a_file_or_a_model_file_error(
    edits: list[tuple[int, bytes]], removed: tuple[int, int], tiny: Path, tmp_path: Path
) -> None:
    content = bytearray(tiny.read_bytes())
    for position, patch in edits:
        start = position % len(content)
        content[start : start + len(patch)] = patch
    del content[removed[0] : removed[0] + removed[1]]
    check_damage(tmp_path / "many.gguf", bytes(content))
