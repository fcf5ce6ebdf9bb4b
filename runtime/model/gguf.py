"""Reads the header of a GGUF file and maps its tensors.

A header is bytes from a stranger: every count is compared with what is left of the file before
anything is allocated for it, and whatever is wrong ends in a ModelFileError that says where.
Arrays are not copied: strings are decoded when they are asked for, numbers are views of the map.

This module does not know what the keys mean, how a tensor is quantised, or which model it is.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np

from furcate.errors import ModelFileError

if TYPE_CHECKING:
    import os

__all__ = ["GGUFFile", "StringArray", "TensorInfo", "read_header"]

T = TypeVar("T", int, float, bool, str)

MAGIC = b"GGUF"
SUPPORTED_VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

MAX_KEYS = 4_096
MAX_TENSORS = 65_536
MAX_KEY_BYTES = 1_024
MAX_TENSOR_NAME_BYTES = 256
MAX_STRING_BYTES = 16 << 20
MAX_ARRAY_LENGTH = 4 << 20
MAX_DIMS = 4
MAX_ALIGNMENT = 1 << 16

# The least that one entry takes in the file: what a count must be paid for with.
MIN_KEY_BYTES = 8 + 1 + 4 + 1
MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8

BOOL, STRING, ARRAY = 7, 8, 9
SCALARS: Mapping[int, str] = MappingProxyType(
    {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 10: "<Q", 11: "<q", 12: "<d"}
)
ITEM_DTYPES: Mapping[int, str] = MappingProxyType(
    {
        **{0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", BOOL: "u1"},
        **{10: "<u8", 11: "<i8", 12: "<f8"},
    }
)

# Type number -> (name, values in a block, bytes of a block).
TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = MappingProxyType(
    {
        0: ("F32", 1, 4),
        1: ("F16", 1, 2),
        2: ("Q4_0", 32, 18),
        3: ("Q4_1", 32, 20),
        6: ("Q5_0", 32, 22),
        7: ("Q5_1", 32, 24),
        8: ("Q8_0", 32, 34),
        10: ("Q2_K", 256, 84),
        11: ("Q3_K", 256, 110),
        12: ("Q4_K", 256, 144),
        13: ("Q5_K", 256, 176),
        14: ("Q6_K", 256, 210),
        20: ("IQ4_NL", 32, 18),
        23: ("IQ4_XS", 256, 136),
        24: ("I8", 1, 1),
        25: ("I16", 1, 2),
        26: ("I32", 1, 4),
        27: ("I64", 1, 8),
        28: ("F64", 1, 8),
        30: ("BF16", 1, 2),
    }
)

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class StringArray(Sequence[str]):
    """An array of strings in the file, each decoded when it is asked for.

    A string that is not UTF-8 raises ModelFileError then, not when the header is read.
    """

    __slots__ = ("_buffer", "_starts")

    def __init__(self, buffer: mmap.mmap, starts: array[int]) -> None:
        # String i lies in [starts[i], starts[i + 1] - 8): eight bytes of length stand between.
        self._buffer = buffer
        self._starts = starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        start, stop = self._starts[position], self._starts[position + 1] - 8
        try:
            return self._buffer[start:stop].decode()
        except UnicodeDecodeError as error:
            raise ModelFileError(
                f"string {position} of an array, at byte {start}, is not UTF-8: {error}"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


MetadataValue = int | float | bool | str | StringArray | np.ndarray


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies and how it is stored."""

    name: str
    type: str  # "Q4_1", "F32", ...
    shape: tuple[int, ...]  # as numpy and torch spell it: the last dimension is contiguous
    offset: int  # from the start of the file
    num_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class GGUFFile:
    """A checked header and the map of its file. The map lives as long as anything refers to it."""

    path: Path
    version: int
    metadata: Mapping[str, MetadataValue]
    tensors: Mapping[str, TensorInfo]
    digest: str  # sha256 of everything before the tensors' data: names this header, cheaply
    data: mmap.mmap = field(repr=False)

    def raw(self, name: str) -> np.ndarray:
        """The stored bytes of a tensor, read-only, without a copy."""
        info = self.tensors.get(name)
        if info is None:
            raise ModelFileError(f"{self.path}: there is no tensor {name!r}")
        return np.frombuffer(self.data, np.uint8, info.num_bytes, info.offset)

    def require(self, key: str, kind: type[T]) -> T:
        """The value of a key that must be there and be of `kind`."""
        value = self.metadata.get(key)
        # A bool is an int to isinstance, and not what an int key may hold.
        if not isinstance(value, kind) or type(value) is not kind:
            found = "is missing" if value is None else f"is a {type(value).__name__}: {value!r:.80}"
            raise ModelFileError(f"{self.path}: {key!r} must be a {kind.__name__}, but it {found}")
        return value


def read_header(path: str | os.PathLike[str]) -> GGUFFile:
    """Maps a GGUF file (version 2 or 3, little endian) and reads and checks its header."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise ModelFileError(f"{str(path)!r} cannot be read as a model file: {error}") from error
    return _HeaderReader(path, data).read()


class _HeaderReader:
    """A position in the map that only moves over bytes that are there."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._size = len(data)
        self._position = 0
        self._place = "header"  # what is being read, for messages

    def read(self) -> GGUFFile:
        version = self._version()
        num_tensors = self._count("tensors", MAX_TENSORS, MIN_TENSOR_BYTES)
        num_keys = self._count("keys", MAX_KEYS, MIN_KEY_BYTES)
        metadata = self._metadata(num_keys)
        declared = self._tensors(num_tensors)
        alignment = self._alignment(metadata)
        data_start = -(-self._position // alignment) * alignment
        return GGUFFile(
            path=self._path,
            version=version,
            metadata=MappingProxyType(metadata),
            tensors=MappingProxyType(self._placed(declared, data_start, alignment)),
            digest=hashlib.sha256(self._data[: self._position]).hexdigest(),
            data=self._data,
        )

    def _version(self) -> int:
        magic = self._bytes(4)
        if magic != MAGIC:
            raise self._error(f"it begins with {magic!r}, a GGUF file with {MAGIC!r}")
        version = self._u32()
        if version not in SUPPORTED_VERSIONS:
            hint = "a big-endian file; " if version & 0xFFFF == 0 else ""
            raise self._error(
                f"GGUF version {version} ({hint}supported: 2 and 3, little endian); "
                "convert the file again"
            )
        return version

    def _metadata(self, count: int) -> dict[str, MetadataValue]:
        metadata: dict[str, MetadataValue] = {}
        for index in range(count):
            self._place = f"key {index}"
            key = self._string(MAX_KEY_BYTES)
            if not key or key in metadata:
                raise self._error(f"the key {key!r} is empty or stands there twice")
            self._place = f"key {key!r}"
            metadata[key] = self._value(self._u32())
        return metadata

    def _value(self, kind: int) -> MetadataValue:
        if kind in SCALARS:
            value: int | float = struct.unpack(
                SCALARS[kind], self._bytes(struct.calcsize(SCALARS[kind]))
            )[0]
            return value
        if kind == BOOL:
            byte = self._bytes(1)[0]
            if byte > 1:
                raise self._error(f"a bool is 0 or 1, got {byte}")
            return bool(byte)
        if kind == STRING:
            return self._string(MAX_STRING_BYTES)
        if kind == ARRAY:
            return self._array()
        raise self._error(f"unknown value type {kind}")

    def _array(self) -> StringArray | np.ndarray:
        kind = self._u32()
        if kind == STRING:
            return self._strings(self._count("strings in the array", MAX_ARRAY_LENGTH, 8))
        if kind not in ITEM_DTYPES:
            raise self._error(f"an array of value type {kind} is not supported")
        dtype = np.dtype(ITEM_DTYPES[kind])
        count = self._count("items in the array", MAX_ARRAY_LENGTH, dtype.itemsize)
        values = np.frombuffer(self._data, dtype, count, self._position)
        self._position += count * dtype.itemsize
        if kind == BOOL:
            if count and values.max() > 1:
                raise self._error(f"a bool is 0 or 1, got {int(values.max())} in the array")
            values = values.view(np.bool_)
        return values

    def _strings(self, count: int) -> StringArray:
        data, size, position = self._data, self._size, self._position
        starts = array("Q")
        for index in range(count):
            start = position + 8
            length = _U64.unpack_from(data, position)[0] if start <= size else size
            if length > size - start or length > MAX_STRING_BYTES:
                raise self._error(f"string {index} of {count} has {length} bytes: too long")
            starts.append(start)
            position = start + length
        starts.append(position + 8)
        self._position = position
        return StringArray(data, starts)

    def _tensors(self, count: int) -> list[TensorInfo]:
        """The tensors as declared: their offsets still count from the start of the data."""
        declared: dict[str, TensorInfo] = {}
        for index in range(count):
            self._place = f"tensor {index}"
            name = self._string(MAX_TENSOR_NAME_BYTES)
            if not name or name in declared:
                raise self._error(f"the tensor name {name!r} is empty or stands there twice")
            self._place = f"tensor {name!r}"
            declared[name] = self._tensor(name)
        return list(declared.values())

    def _tensor(self, name: str) -> TensorInfo:
        num_dims = self._u32()
        if not 1 <= num_dims <= MAX_DIMS:
            raise self._error(f"{num_dims} dimensions, must be 1 to {MAX_DIMS}")
        shape = tuple(self._u64() for _ in range(num_dims))[::-1]
        kind = self._u32()
        if kind not in TENSOR_TYPES:
            raise self._error(f"unknown tensor type {kind}")
        type_name, block, block_bytes = TENSOR_TYPES[kind]
        num_values = 1
        for dim in shape:
            num_values *= dim  # Python's integers do not wrap around
        if num_values == 0 or shape[-1] % block:
            raise self._error(f"a shape {shape} does not fit {type_name}, stored by {block}")
        num_bytes = num_values // block * block_bytes
        return TensorInfo(name, type_name, shape, self._u64(), num_bytes)

    def _alignment(self, metadata: Mapping[str, MetadataValue]) -> int:
        value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        self._place = "key 'general.alignment'"
        if type(value) is not int or not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
            raise self._error(f"{value!r:.80} is not a power of two from 8 to {MAX_ALIGNMENT}")
        return value

    def _placed(
        self, declared: list[TensorInfo], data_start: int, alignment: int
    ) -> dict[str, TensorInfo]:
        """The tensors with their places in the file, each inside it and none over another."""
        placed: dict[str, TensorInfo] = {}
        for info in declared:
            self._place = f"tensor {info.name!r}"
            if info.offset % alignment:
                raise self._error(f"its offset {info.offset} is no multiple of {alignment}")
            offset = data_start + info.offset
            if offset + info.num_bytes > self._size:
                raise self._error(
                    f"its {info.num_bytes} bytes from byte {offset} end after the file's "
                    f"{self._size}; the file is cut short, fetch it again"
                )
            placed[info.name] = TensorInfo(info.name, info.type, info.shape, offset, info.num_bytes)
        end, before = 0, ""
        for info in sorted(placed.values(), key=lambda info: info.offset):
            self._place = f"tensor {info.name!r}"
            if info.offset < end:
                raise self._error(f"it begins at byte {info.offset}, inside tensor {before!r}")
            end, before = info.offset + info.num_bytes, info.name
        return placed

    def _count(self, what: str, limit: int, least_bytes: int) -> int:
        count = self._u64()
        if count > limit or count * least_bytes > self._size - self._position:
            raise self._error(
                f"{count} {what}: more than the limit of {limit} or than the remaining "
                f"{self._size - self._position} bytes can hold"
            )
        return count

    def _string(self, limit: int) -> str:
        length = self._u64()
        if length > limit:
            raise self._error(f"a string of {length} bytes, at most {limit} are allowed here")
        raw = self._bytes(length)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self._error(f"{raw[:80]!r} is not UTF-8") from error

    def _u32(self) -> int:
        return int(_U32.unpack(self._bytes(4))[0])

    def _u64(self) -> int:
        return int(_U64.unpack(self._bytes(8))[0])

    def _bytes(self, length: int) -> bytes:
        end = self._position + length
        if end > self._size:
            raise self._error(f"{length} bytes are needed, the file ends at byte {self._size}")
        raw = self._data[self._position : end]
        self._position = end
        return raw

    def _error(self, problem: str) -> ModelFileError:
        return ModelFileError(
            f"{str(self._path)!r}, {self._place}, near byte {self._position}: {problem}"
        )
