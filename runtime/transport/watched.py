"""A ZeroMQ socket on an event loop, without an extra layer of futures.

Reports each message that arrives, and that a connection has ended. ZeroMQ's descriptor says only
that something happened, and any call may swallow the news: so everything that is there is read, and
looked for again after each send. Knows no message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq
from zmq.utils.monitor import parse_monitor_message

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    Receive = Callable[[list[bytes]], None]

__all__ = ["HEARTBEAT_MS", "HEARTBEAT_TIMEOUT_MS", "WatchedSocket"]

# A peer that dies ends its connection at once. These find one whose machine or whole process stands
# still; a suspended client is forgiven for as long as the timeout.
HEARTBEAT_MS = 5_000
HEARTBEAT_TIMEOUT_MS = 30_000
MESSAGES_A_TURN = 256  # then others get their turn


class WatchedSocket:
    """`receive` gets the frames of each message, `ended` is called when a connection ends. What
    `receive` raises goes to the loop's exception handler and costs that message only."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        receive: Receive,
        ended: Callable[[], None],
    ) -> None:
        self.socket = socket
        self._loop = loop
        self._receive = receive
        self._ended = ended
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._reading = False
        self._closed = False
        loop.add_reader(socket.fileno(), self._read)
        loop.add_reader(self._monitor.fileno(), self._read_monitor)
        # Whatever came before the descriptors were watched.
        loop.call_soon(self._read)
        loop.call_soon(self._read_monitor)

    def send(self, frames: list[bytes]) -> None:
        """Sends one message or raises zmq.ZMQError; never waits."""
        self.socket.send_multipart(frames, zmq.NOBLOCK)
        self.look_again()

    def look_again(self) -> None:
        """To be called after anything that touched the socket."""
        if not self._reading and int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._reading = True
            self._loop.call_soon(self._read)

    def drain(self) -> None:
        """Reports what has arrived, now."""
        while not self._closed:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._deliver(frames)

    def close(self, linger_ms: int) -> None:
        """Callable twice. What was sent gets `linger_ms` to leave, while the context ends."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self.socket.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close(linger_ms)

    def _read(self) -> None:
        self._reading = False
        for _ in range(MESSAGES_A_TURN):
            if self._closed:
                return
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._deliver(frames)
        if not self._closed:
            self.look_again()

    def _deliver(self, frames: list[bytes]) -> None:
        try:
            self._receive(frames)
        except Exception as error:
            context = {"message": "a message could not be taken", "exception": error}
            self._loop.call_exception_handler(context)

    def _read_monitor(self) -> None:
        ended = False
        while not self._closed:
            try:
                frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            ended |= parse_monitor_message(frames)["event"] == zmq.EVENT_DISCONNECTED
        if ended and not self._closed:
            self._ended()
