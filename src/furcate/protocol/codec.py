"""Bytes to messages and back, MessagePack. Decoding is total: whatever the bytes, the result is a
list of well-formed messages or a WireError."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from furcate.errors import WireError

from .message import Event, Request
from .stream import EngineEvent, EngineRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_FRAME_BYTES",
    "decode_engine_events",
    "decode_engine_requests",
    "decode_events",
    "decode_requests",
    "encode",
]

T = TypeVar("T")

MAX_FRAME_BYTES = 64 * 2**20

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(list[Request])
_events = msgspec.msgpack.Decoder(list[Event])
_engine_requests = msgspec.msgpack.Decoder(list[EngineRequest])
_engine_events = msgspec.msgpack.Decoder(list[EngineEvent])


def encode(
    messages: Sequence[Request] | Sequence[Event] | Sequence[EngineRequest] | Sequence[EngineEvent],
) -> bytes:
    """One frame."""
    return _encoder.encode(messages)


def _decode(decoder: msgspec.msgpack.Decoder[list[T]], frame: bytes | memoryview) -> list[T]:
    if len(frame) > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {len(frame)} bytes is over the limit of {MAX_FRAME_BYTES}")
    try:
        return decoder.decode(frame)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError) as error:
        raise WireError(f"not a message: {error}") from error


def decode_requests(frame: bytes | memoryview) -> list[Request]:
    return _decode(_requests, frame)


def decode_events(frame: bytes | memoryview) -> list[Event]:
    return _decode(_events, frame)


def decode_engine_requests(frame: bytes | memoryview) -> list[EngineRequest]:
    return _decode(_engine_requests, frame)


def decode_engine_events(frame: bytes | memoryview) -> list[EngineEvent]:
    return _decode(_engine_events, frame)
