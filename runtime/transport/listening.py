"""Sockets for clients: bound, and protected by a folder or by keys. Knows no message."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zmq

from furcate.errors import UsageError
from furcate.protocol.codec import MAX_FRAME_BYTES

from .address import address_of
from .watched import HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS

if TYPE_CHECKING:
    from pathlib import Path

    from .address import TcpAddress
    from .context import Context

__all__ = ["Listening", "ServerKeys", "listen_ipc", "listen_tcp"]

ZAP_DOMAIN = b"furcate"


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The server's secret key, and the folder with the public keys of those it lets in."""

    secret: str = field(repr=False)
    clients: Path


@dataclass(frozen=True, slots=True)
class Listening:
    """`address` is what clients connect to: the port is the real one."""

    socket: zmq.Socket[bytes]
    address: str


def listen_ipc(context: Context, path: Path) -> Listening:
    """The socket is its owner's alone."""
    socket = _router(context)
    socket.bind(address_of(path))
    os.chmod(path, 0o600)
    return Listening(socket, address_of(path))


def listen_tcp(context: Context, address: TcpAddress, keys: ServerKeys | None) -> Listening:
    """With `keys`, a Doorkeeper must be there already; without, the address is this machine's own.
    Raises UsageError where the address cannot be had."""
    socket = _router(context)
    socket.setsockopt(zmq.IPV6, int(address.is_ipv6))
    if keys is not None:
        socket.curve_server = True
        socket.curve_secretkey = keys.secret.encode()
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody to ask means nobody is let in
    try:
        socket.bind(address.endpoint)
    except zmq.ZMQError as error:
        socket.close(0)
        why = os.strerror(error.errno or 0)
        raise UsageError(
            f"nothing can listen at {address.text!r}: {why}; name another port with --listen, or "
            "port 0 for any that is free"
        ) from error
    bound = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    port = bound.rstrip(b"\0").decode().rpartition(":")[2]
    return Listening(socket, f"tcp://{address.shown_host}:{port}")


def _router(context: Context) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.SNDHWM, 0)  # each client's window bounds what is under way to it
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    return socket
