"""Tensors of a folder of safetensors files, mapped into memory: nothing is read before its use.

Knows the container: headers, shards and their index. Does not know what a tensor is for.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from furcate.errors import ModelFileError

from .shards import INDEX, SINGLE, shard_names

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

__all__ = ["SafetensorsFile", "SafetensorsFolder"]

MAX_HEADER = 100 << 20

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "U8": torch.uint8,
        "I8": torch.int8,
        "I32": torch.int32,
        "I64": torch.int64,
    }
)


class Entry(NamedTuple):
    """A tensor of one file: `start` and `end` count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class SafetensorsFile:
    """One mapped file. Its tensors are views of it and must not be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                # Copy-on-write: torch takes no read-only memory without complaint.
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self._data = np.frombuffer(self._map, np.uint8)
        except (OSError, ValueError) as error:
            raise ModelFileError(f"{path} cannot be read: {error}") from error
        self._first, self.entries = self._read_header()

    def tensor(self, name: str) -> Tensor:
        """What was read of the file before is given back to the system: a view that is still used
        reads it again."""
        self._map.madvise(mmap.MADV_DONTNEED)
        entry = self.entries[name]
        dtype = DTYPES.get(entry.dtype)
        if dtype is None:
            raise ModelFileError(
                f"{self.path}: tensor {name!r} is stored as {entry.dtype!r}, which is not "
                f"supported; use a checkpoint with one of {', '.join(DTYPES)}"
            )
        count = int(np.prod(entry.shape, dtype=np.int64))
        if entry.end - entry.start != count * dtype.itemsize:
            raise self._broken(f"tensor {name!r} does not have the bytes of its shape")
        raw = self._data[self._first + entry.start : self._first + entry.end]
        return torch.from_numpy(raw).view(dtype).view(entry.shape)

    def _read_header(self) -> tuple[int, Mapping[str, Entry]]:
        if len(self._data) < 8:
            raise self._broken("it ends before its header")
        length = int(self._data[:8].view("<u8")[0])
        if length > min(MAX_HEADER, len(self._data) - 8):
            raise self._broken("it ends within its header")
        try:
            header = json.loads(self._data[8 : 8 + length].tobytes())
            entries = {
                name: Entry(fields["dtype"], tuple(fields["shape"]), *fields["data_offsets"])
                for name, fields in header.items()
                if name != "__metadata__"
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._broken(f"its header is not understood ({error})") from error
        size = len(self._data) - 8 - length
        for name, entry in entries.items():
            if not _is_sound(entry, size):
                raise self._broken(f"tensor {name!r} is not within the file")
        return 8 + length, entries

    def _broken(self, reason: str) -> ModelFileError:
        return ModelFileError(f"{self.path} is damaged: {reason}; fetch it again")


def _is_sound(entry: Entry, size: int) -> bool:
    numbers = (entry.start, entry.end, *entry.shape)
    if not all(type(number) is int and number >= 0 for number in numbers):
        return False
    return isinstance(entry.dtype, str) and entry.start <= entry.end <= size


class SafetensorsFolder(Mapping[str, torch.Tensor]):
    """All tensors of a checkpoint, in one file or in shards with an index. Every file of it is
    opened at once, so that a missing one is told before anything is loaded."""

    def __init__(self, folder: Path) -> None:
        names = self._shard_names(folder)
        for name in names:
            if not (folder / name).is_file():
                raise ModelFileError(f"{folder}: the shard {name!r} is missing; fetch it again")
        files = [SafetensorsFile(folder / name) for name in names]
        self._file_of = {name: file for file in files for name in file.entries}

    def __getitem__(self, name: str) -> Tensor:
        return self._file_of[name].tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Names and places of all tensors; none is read."""
        for name, file in self._file_of.items():
            yield name, file.entries[name]

    @staticmethod
    def _shard_names(folder: Path) -> list[str]:
        if (folder / INDEX).is_file():
            return shard_names(folder)
        if (folder / SINGLE).is_file():
            return [SINGLE]
        raise ModelFileError(
            f"{folder} has neither {SINGLE!r} nor {INDEX!r}; other formats of weights are not read"
        )
