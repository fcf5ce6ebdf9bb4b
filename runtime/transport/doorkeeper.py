"""Says who may connect with keys: those whose public keys lie in a folder, read anew for each.

Answers ZeroMQ's question (its ZAP protocol, RFC 27) for all sockets of a context.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import zmq
from zmq.utils import z85

from furcate.errors import UsageError
from furcate.protocol.keys import read_key

from .watched import WatchedSocket

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from .context import Context

__all__ = ["Doorkeeper", "known_keys"]

log = logging.getLogger(__name__)

ENDPOINT = "inproc://zeromq.zap.01"
VERSION = b"1.0"
MAX_FILES = 4096
SUFFIX = ".public"


class Doorkeeper:
    """Must be there before a socket with keys is bound."""

    def __init__(self, context: Context, loop: asyncio.AbstractEventLoop, clients: Path) -> None:
        self._clients = clients
        socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        socket.bind(ENDPOINT)
        self._watched = WatchedSocket(socket, loop, self._answer, lambda: None)

    def close(self) -> None:
        """Callable twice."""
        self._watched.close(0)

    def _answer(self, frames: list[bytes]) -> None:
        asker, empty, version, request, _domain, address, _identity, mechanism, *credentials = (
            frames
        )
        key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" and credentials else ""
        lets_in = version == VERSION and key in known_keys(self._clients)
        if not lets_in:
            where = address.decode(errors="replace")
            log.warning("a client at %s with key %r was not let in", where, key)
        status, text = (b"200", b"") if lets_in else (b"400", b"unknown key")
        user = key.encode() if lets_in else b""
        self._watched.send([asker, empty, VERSION, request, status, text, user, b""])


def known_keys(folder: Path) -> set[str]:
    """The public keys in the folder; a file that holds none is passed over with a warning."""
    keys: set[str] = set()
    for path in sorted(folder.glob(f"*{SUFFIX}"))[:MAX_FILES]:
        try:
            keys.add(read_key(path, "public", "--client-keys"))
        except UsageError as error:
            log.warning("%s", error)
    return keys
