"""What the compile service and its worker say to each other: MessagePack with a length in front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from furcate.protocol.constraint import Constraint  # noqa: TC001  (msgspec reads it)

from .recipe import Recipe  # noqa: TC001  (msgspec reads it)

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = [
    "Compiled",
    "Frames",
    "Job",
    "Refused",
    "Reply",
    "Setup",
    "frame",
    "read_frame",
    "write_frame",
]

_LENGTH_BYTES = 4
MAX_FRAME_BYTES = 1 << 30


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first message to a worker: the vocabulary and its limits."""

    table: list[bytes]
    vocab_size: int
    fingerprint: str
    parent_pid: int
    cpu_s: float
    memory_bytes: int


class Job(msgspec.Struct, frozen=True, tag=True):
    constraint: Constraint


class Compiled(msgspec.Struct, frozen=True, tag=True):
    """`serialized` is None where the engine has no serialised form; the recipe then is enough."""

    recipe: Recipe
    serialized: bytes | None


class Refused(msgspec.Struct, frozen=True, tag=True):
    message: str
    pointer: str | None


Reply = Compiled | Refused


class Frames:
    """Cuts received bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def pop(self) -> bytes | None:
        """The next whole message, None while there is none; raises ValueError on nonsense."""
        if len(self._buffer) < _LENGTH_BYTES:
            return None
        length = _length(self._buffer[:_LENGTH_BYTES])
        if len(self._buffer) < _LENGTH_BYTES + length:
            return None
        frame = bytes(self._buffer[_LENGTH_BYTES : _LENGTH_BYTES + length])
        del self._buffer[: _LENGTH_BYTES + length]
        return frame


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(_LENGTH_BYTES, "little") + payload


def write_frame(stream: BinaryIO, payload: bytes) -> None:
    stream.write(frame(payload))
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next message; None at the end of the stream."""
    header = stream.read(_LENGTH_BYTES)
    if len(header) < _LENGTH_BYTES:
        return None
    length = _length(header)
    payload = stream.read(length)
    return payload if len(payload) == length else None


def _length(header: bytes | bytearray) -> int:
    length = int.from_bytes(header, "little")
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {length} bytes is not from a compile worker")
    return length
