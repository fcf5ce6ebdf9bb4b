"""Which streams were in the forwards that an engine did not get to the end of.

The engine writes them to a file before each forward and takes them out afterwards; the file
outlives the process, however that ends, and the front reads it then. What the streams do is not
known here.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["FlightLog", "flight_log_path", "read_flights"]

SLOTS = 4  # more than forwards are in flight
COUNT = struct.Struct("<q")


def flight_log_path(link: Path) -> Path:
    """Of the engine behind that link."""
    return link.with_name(f"{link.name}.flights")


class FlightLog:
    """Implements LaunchLog. A slot is a count and so many ids of 8 bytes; one that is being written
    has the count 0."""

    def __init__(self, path: Path, max_streams: int) -> None:
        self._slot_bytes = COUNT.size * (1 + max_streams)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(descriptor, COUNT.size + SLOTS * self._slot_bytes)
            self._memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        COUNT.pack_into(self._memory, 0, self._slot_bytes)

    def launched(self, step: int, streams: Sequence[int]) -> None:
        at = self._at(step)
        COUNT.pack_into(self._memory, at, 0)
        struct.pack_into(f"<{len(streams)}q", self._memory, at + COUNT.size, *streams)
        COUNT.pack_into(self._memory, at, len(streams))

    def landed(self, step: int) -> None:
        COUNT.pack_into(self._memory, self._at(step), 0)

    def close(self) -> None:
        self._memory.close()

    def _at(self, step: int) -> int:
        return COUNT.size + step % SLOTS * self._slot_bytes


def read_flights(path: Path) -> frozenset[int] | None:
    """Streams that were in flight; None where the engine has left no word."""
    try:
        data = path.read_bytes()
        (slot_bytes,) = COUNT.unpack_from(data)
        streams: set[int] = set()
        for slot in range(SLOTS):
            at = COUNT.size + slot * slot_bytes
            (count,) = COUNT.unpack_from(data, at)
            streams.update(struct.unpack_from(f"<{count}q", data, at + COUNT.size))
    except (OSError, struct.error):
        return None
    return frozenset(streams)
