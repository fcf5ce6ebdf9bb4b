"""One socket to a server, for as long as it holds: it is never repaired, another takes its place.

Reports messages and its one end, on the event loop that it was made on. Knows no message.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import zmq
from zmq.utils.monitor import parse_monitor_message

from .wire import End

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from .address import Address
    from .wire import LinkHandler

__all__ = ["ZmqLink"]

# A server that dies ends the link at once; these find one that stands still.
HEARTBEAT_MS = 5_000
HEARTBEAT_TIMEOUT_MS = 30_000
MESSAGES_A_TURN = 256
NEVER_MS = 3_600_000

WATCHED = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


class ZmqLink:
    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: Address,
        loop: asyncio.AbstractEventLoop,
        handler: LinkHandler,
    ) -> None:
        self._loop = loop
        self._handler = handler
        self._public_key: str | None = None
        self._is_open = True
        self._socket = socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.SNDHWM, 0)  # a send never waits, and what arrives is taken in
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        # Never, in effect: -1 would say so, but then a link that fails early may not end at all.
        socket.setsockopt(zmq.RECONNECT_IVL, NEVER_MS)
        socket.setsockopt(zmq.IPV6, int(address.is_ipv6))
        if address.keys is not None:
            socket.curve_serverkey = address.keys.server.encode()
            socket.curve_secretkey = address.keys.own.encode()
            public_key = zmq.curve_public(address.keys.own.encode())
            socket.curve_publickey = public_key
            self._public_key = public_key.decode()
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(WATCHED)
        loop.add_reader(socket.fileno(), self._read)
        loop.add_reader(self._monitor.fileno(), self._read_monitor)
        socket.connect(address.text)
        loop.call_soon(self._read_monitor)

    def send(self, frames: Sequence[bytes]) -> None:
        if self._is_open:
            with suppress(zmq.Again):  # it is lost; that is told apart
                self._socket.send_multipart(frames, zmq.NOBLOCK)
            # Sending may swallow the news that something has arrived.
            self._loop.call_soon(self._read)

    def close(self, linger_ms: int) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(linger_ms)

    def _read(self) -> None:
        for _ in range(MESSAGES_A_TURN):
            if not self._receive_one():
                return
        self._loop.call_soon(self._read)

    def _receive_one(self) -> bool:
        if not self._is_open:
            return False
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._handler.received(frames)
        return True

    def _read_monitor(self) -> None:
        end: End | None = None
        while self._is_open:
            try:
                frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            end = end or self._end_of(parse_monitor_message(frames)["event"])
        if end is None:
            return
        while self._receive_one():  # its last words
            pass
        if self._is_open:
            self.close(0)
            self._handler.ended(end)

    def _end_of(self, event: int) -> End:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return End(
                f"it does not know this client's public key, {self._public_key!r}: whoever runs it "
                "can put that into the folder of --client-keys",
                denied=True,
            )
        if event == zmq.EVENT_DISCONNECTED:
            return End("the connection has ended")
        if event == zmq.EVENT_CLOSED:
            return End("nobody listens there")
        if self._public_key is not None:
            return End("server_key is not its key, or it takes no keys", mismatched=True)
        return End("it wants keys: pass server_key and key, or it is no server", mismatched=True)
