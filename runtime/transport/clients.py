"""The socket that clients connect to.

Turns frames into requests and events into frames, one client from the next; knows when a client is
gone and cuts off one that does not read. Knows no program: what a message means is its handler's.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import zmq

from furcate.errors import WireError
from furcate.protocol.codec import MAX_FRAME_BYTES, decode_requests, encode
from furcate.protocol.message import Refused

from .address import address_of
from .watched import HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS, WatchedSocket

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from pathlib import Path

    from furcate.protocol.message import Event, Request

    from .context import Context

__all__ = ["ClientHandler", "ClientSocket"]

log = logging.getLogger(__name__)

MAX_BACKLOG_BYTES = 64 * 2**20
RETRY_S = 0.02
# A connection ends a moment before its peer can no longer be reached.
PROBE_DELAYS_S = (0.0, 0.02, 0.1, 0.5)


class ClientHandler(Protocol):
    """What the socket reports; none of it is called from inside `send`."""

    def connected(self, client: bytes) -> None: ...

    def received(self, client: bytes, requests: list[Request]) -> None: ...

    def gone(self, client: bytes) -> None:
        """The client is unreachable, or was refused; nothing can be sent to it any more."""
        ...


@dataclass(slots=True)
class _Peer:
    refused: bool = False
    backlog: deque[bytes] = field(default_factory=deque)
    backlog_bytes: int = 0


class ClientSocket:
    """Listens from construction on. `malformed_frames` counts what was no message."""

    def __init__(
        self,
        context: Context,
        path: Path,
        loop: asyncio.AbstractEventLoop,
        handler: ClientHandler,
    ) -> None:
        self.malformed_frames = 0
        self._loop = loop
        self._handler = handler
        self._peers: dict[bytes, _Peer] = {}
        self._probes: list[asyncio.TimerHandle] = []
        self._retry: asyncio.TimerHandle | None = None
        socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.bind(address_of(path))
        os.chmod(path, 0o600)
        self._watched = WatchedSocket(socket, loop, self._receive, self._look_for_the_gone)

    def send(self, client: bytes, events: Sequence[Event]) -> None:
        """One frame. A client that is gone is reported later, not raised."""
        peer = self._peers.get(client)
        if peer is None or peer.refused:
            return
        frame = encode(events)
        if peer.backlog or not self._send(client, frame):
            self._keep(client, peer, frame)

    def refuse(self, client: bytes, code: str, message: str) -> None:
        """Ends the dealings with a client; others notice nothing."""
        peer = self._peers.get(client)
        if peer is None or peer.refused:
            return
        self.send(client, [Refused(code, message)])
        peer.refused = True
        peer.backlog.clear()
        self._loop.call_soon(self._handler.gone, client)

    def close(self, linger_ms: int) -> None:
        """What was sent gets `linger_ms` to leave. Callable twice."""
        for timer in self._probes:
            timer.cancel()
        if self._retry is not None:
            self._retry.cancel()
        self._watched.close(linger_ms)

    def _receive(self, frames: list[bytes]) -> None:
        client = frames[0]
        peer = self._peers.get(client)
        if peer is None:
            peer = self._peers[client] = _Peer()
            self._handler.connected(client)
        if peer.refused:
            return
        try:
            if len(frames) != 2:
                raise WireError(f"a message has 1 frame, got {len(frames) - 1}")
            requests = decode_requests(frames[1])
        except WireError as error:
            self.malformed_frames += 1
            log.warning("client %s sent a malformed frame: %s", client.hex(), error)
            self.refuse(client, error.code, str(error))
            return
        self._handler.received(client, requests)

    def _send(self, client: bytes, frame: bytes) -> bool:
        """Whether the frame was taken, or its client is gone anyway."""
        try:
            self._watched.send([client, frame])
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._loop.call_soon(self._forget, client)
        return True

    def _keep(self, client: bytes, peer: _Peer, frame: bytes) -> None:
        peer.backlog.append(frame)
        peer.backlog_bytes += len(frame)
        if peer.backlog_bytes > MAX_BACKLOG_BYTES:
            log.warning("client %s does not read; it is cut off", client.hex())
            peer.refused = True
            peer.backlog.clear()
            self._loop.call_soon(self._handler.gone, client)
        elif self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._send_backlogs)

    def _send_backlogs(self) -> None:
        self._retry = None
        waiting = False
        for client, peer in self._peers.items():
            while peer.backlog and self._send(client, peer.backlog[0]):
                peer.backlog_bytes -= len(peer.backlog.popleft())
            waiting |= bool(peer.backlog)
        if waiting:
            self._retry = self._loop.call_later(RETRY_S, self._send_backlogs)

    def _look_for_the_gone(self) -> None:
        for timer in self._probes:
            timer.cancel()
        self._probes = [self._loop.call_later(delay, self._probe) for delay in PROBE_DELAYS_S]

    def _probe(self) -> None:
        """Sends everyone a list of no events: whoever cannot be reached is gone."""
        self._watched.look_again()  # makes ZeroMQ notice what has ended
        nothing = encode([])
        for client in self._peers:
            self._send(client, nothing)

    def _forget(self, client: bytes) -> None:
        peer = self._peers.pop(client, None)
        if peer is not None and not peer.refused:
            self._handler.gone(client)
