"""The header of each message on a socket: which connection, which number, what has arrived.

A connection is what a client means by it; a link is one socket that carries it for a while. Both
sides number their messages from 1 and confirm those of the other, so that a link can be replaced by
another and every message arrives once and in order. A message is two frames, a header and a list of
requests or events; other headers travel alone. Knows neither sockets nor what is inside.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from furcate.errors import WireError

__all__ = [
    "CONNECTION_ID_BYTES",
    "Ack",
    "Header",
    "Message",
    "Open",
    "Opened",
    "Refusal",
    "decode_header",
    "encode_header",
]

CONNECTION_ID_BYTES = 16

Number = Annotated[int, Meta(ge=0, lt=2**62)]


class _Header(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    pass


class Open(_Header, frozen=True, tag="o"):
    """The client's first word on a link. `connection` are random bytes of its choice. `received` is
    the number of the last message that it has from the server; `fresh` while no link of the
    connection was ever answered: one that is not must be known to the server."""

    connection: Annotated[
        bytes, Meta(min_length=CONNECTION_ID_BYTES, max_length=CONNECTION_ID_BYTES)
    ]
    received: Number
    fresh: bool


class Opened(_Header, frozen=True, tag="w"):
    """The server's answer. `received` is the number of the last message that it has."""

    received: Number


class Message(_Header, frozen=True, tag="m"):
    """Of the payload that follows, which is message `number` of its direction."""

    number: Annotated[int, Meta(ge=1, lt=2**62)]
    received: Number


class Ack(_Header, frozen=True, tag="a"):
    """Confirms all messages up to `received`, where no message goes back that could do it."""

    received: Number


class Refusal(_Header, frozen=True, tag="r"):
    """The server's last word: nothing of this connection is left there."""

    code: str
    message: str


Header = Open | Opened | Message | Ack | Refusal

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Header] = msgspec.msgpack.Decoder(Header)


def encode_header(header: Header) -> bytes:
    return _encoder.encode(header)


def decode_header(frame: bytes | memoryview) -> Header:
    """Total: a header or a WireError."""
    try:
        return _decoder.decode(frame)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError) as error:
        raise WireError(f"not a header: {error}") from error
