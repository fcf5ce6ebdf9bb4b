"""A runtime in processes of its own, over a ZeroMQ socket.

One socket and one thread a connection. A connection does not survive a fork: the child opens its
own. Knows frames and the handshake; what the messages mean is the session's.
"""

from __future__ import annotations

import atexit
import os
import threading
from concurrent.futures import TimeoutError as NoAnswer
from typing import TYPE_CHECKING

import zmq
from zmq.utils.monitor import parse_monitor_message

from furcate.errors import CapacityError, ConnectionFailed, EngineLost, FurcateError, WireError
from furcate.protocol.codec import MAX_FRAME_BYTES, decode_events, encode
from furcate.protocol.message import Bye

from .handshake import Handshake
from .io_thread import IoThread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from furcate.protocol.message import Request, Welcome

    from .base import Deliver, Lost

__all__ = ["ZmqChannel"]

SCHEME = "ipc://"
MAX_PATH_BYTES = 107
LINGER_MS = 500
# A server that dies ends the connection at once; these find one that stands still.
HEARTBEAT_MS = 5_000
HEARTBEAT_TIMEOUT_MS = 30_000
MESSAGES_A_TURN = 256


class ZmqChannel:
    """`address` is what `furcate serve` prints; `timeout_s` bounds the handshake."""

    def __init__(self, address: str, *, timeout_s: float = 5.0) -> None:
        self.address = address
        self.num_bytes_sent = 0
        self.num_bytes_received = 0
        self._timeout_s = timeout_s
        self._lock = threading.Lock()  # over the next four
        self._outbox: list[bytes] = []
        self._waking = False
        self._error: FurcateError | None = ConnectionFailed(f"not connected to {address!r} yet")
        self._closed = False
        self._pid = os.getpid()
        self._io: IoThread | None = None
        self._connected = False  # written by the thread

    def open(self, deliver: Deliver, lost: Lost) -> Welcome:
        self._check_address()
        self._pid = os.getpid()
        self._lost = lost
        self._handshake = Handshake(f"the server at {self.address!r}", deliver)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._io = IoThread(self._failed)
        self._io.call(self._connect, self._io.loop)
        atexit.register(self.close)
        self._error = None
        try:
            self.send([Handshake.hello()])
            return self._handshake.answer.result(self._timeout_s)
        except NoAnswer:
            self.close()
            raise ConnectionFailed(self._no_answer()) from None
        except BaseException:
            self.close()
            raise

    def send(self, requests: Sequence[Request]) -> None:
        if os.getpid() != self._pid:
            raise ConnectionFailed(
                f"the connection to {self.address!r} belongs to process {self._pid}, which this "
                "one was forked from: connect again here"
            )
        frame = encode(requests)
        if len(frame) > MAX_FRAME_BYTES:
            raise CapacityError(
                f"a message of {len(frame)} bytes is over the limit of {MAX_FRAME_BYTES}: split "
                "the program or its texts"
            )
        with self._lock:
            if self._error is not None:
                raise self._error
            self._outbox.append(frame)
            wake, self._waking = not self._waking, True
        if wake and self._io is not None:
            self._io.call(self._flush)

    def close(self) -> None:
        with self._lock:
            if self._closed or self._io is None or os.getpid() != self._pid:
                return
            self._closed = True
            if self._error is None:
                self._error = ConnectionFailed(f"the connection to {self.address!r} is closed")
                self._outbox.append(encode([Bye()]))
        atexit.unregister(self.close)
        self._io.call(self._disconnect)
        self._io.stop()

    # On the thread -------------------------------------------------------------------------------

    def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.SNDHWM, 0)  # a send never waits, and what arrives is taken in
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        self._socket = socket
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._connected = True
        socket.connect(self.address)
        self._loop.add_reader(socket.fileno(), self._read)
        self._loop.add_reader(self._monitor.fileno(), self._read_monitor)
        self._loop.call_soon(self._read_monitor)

    def _flush(self) -> None:
        self._send_outbox()
        self._read()  # sending may swallow the news that something has arrived

    def _send_outbox(self) -> None:
        with self._lock:
            frames, self._outbox = self._outbox, []
            self._waking = False
        if self._connected:
            for frame in frames:
                self._socket.send(frame, zmq.NOBLOCK)
                self.num_bytes_sent += len(frame)

    def _read(self) -> None:
        for _ in range(MESSAGES_A_TURN):
            if not self._receive_one():
                return
        self._loop.call_soon(self._read)

    def _receive_one(self) -> bool:
        if not self._connected:
            return False
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        self.num_bytes_received += sum(map(len, frames))
        try:
            if len(frames) != 1:
                raise WireError(f"a message has 1 frame, got {len(frames)}")
            events = decode_events(frames[0])
        except WireError as error:
            self._lose(WireError(f"the server at {self.address!r} sent no message: {error}"))
            return False
        end = self._handshake.receive(events)
        if end is not None:
            self._lose(end)
        return end is None

    def _read_monitor(self) -> None:
        ended = False
        while self._connected:
            try:
                frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            ended |= parse_monitor_message(frames)["event"] == zmq.EVENT_DISCONNECTED
        if not ended:
            return
        while self._receive_one():  # its last words
            pass
        self._lose(
            EngineLost(
                f"the server at {self.address!r} has ended the connection: "
                "run again when `furcate serve` is up"
            )
        )

    def _failed(self, error: BaseException) -> None:
        """A bug, here or in whoever the events are delivered to: nothing may wait for ever."""
        lost = EngineLost(f"the connection to {self.address!r} failed inside: {error!r}")
        lost.__cause__ = error
        self._lose(lost)

    def _lose(self, error: FurcateError) -> None:
        with self._lock:
            first = self._error is None
            if first:
                self._error = error
        self._disconnect()
        if not self._handshake.fail(_unanswered(error)) and first:
            self._lost(error)

    def _disconnect(self) -> None:
        if not self._connected:
            return
        self._send_outbox()
        self._connected = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        self._socket.disable_monitor()
        self._monitor.close(0)
        # Nobody has answered so far: nobody waits for what was to be sent.
        self._socket.close(LINGER_MS if self._handshake.answer.done() else 0)
        self._context.term()

    # Words ---------------------------------------------------------------------------------------

    def _check_address(self) -> None:
        path = self.address.removeprefix(SCHEME)
        if not self.address.startswith(SCHEME) or not os.path.isabs(path):
            raise ConnectionFailed(
                f"{self.address!r} is no address of a server: it is {SCHEME} and the absolute "
                "path of a socket, as `furcate serve` prints it"
            )
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise ConnectionFailed(
                f"the path in {self.address!r} has {len(os.fsencode(path))} bytes and a socket's "
                f"may have {MAX_PATH_BYTES}"
            )

    def _no_answer(self) -> str:
        found = os.path.exists(self.address.removeprefix(SCHEME))
        what = "the socket is there, but" if found else "there is no socket there and"
        return (
            f"no server at {self.address!r}: {what} nobody answered within "
            f"{self._timeout_s:g} s; is `furcate serve` running?"
        )


def _unanswered(error: FurcateError) -> ConnectionFailed:
    if isinstance(error, ConnectionFailed):
        return error
    failed = ConnectionFailed(f"the connection was lost before it was answered: {error}")
    failed.__cause__ = error
    return failed
