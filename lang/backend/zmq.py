"""A runtime in processes of its own, over a ZeroMQ socket.

One thread a connection, and a wire that it runs. A connection does not survive a fork: the child
opens its own. Knows the handshake; what the messages mean is the session's.
"""

from __future__ import annotations

import atexit
import os
import threading
from concurrent.futures import TimeoutError as NoAnswer
from typing import TYPE_CHECKING

import zmq

from furcate.errors import CapacityError, ConnectionFailed, EngineLost, FurcateError, WireError
from furcate.protocol.codec import MAX_FRAME_BYTES, decode_events, encode
from furcate.protocol.message import Bye

from .address import parse_address
from .handshake import Handshake
from .io_thread import IoThread
from .link import ZmqLink
from .wire import Wire

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from furcate.protocol.message import Request, Welcome

    from .address import KeySource
    from .base import Deliver, Lost
    from .wire import LinkHandler

__all__ = ["ZmqChannel"]

LINGER_MS = 500


class ZmqChannel:
    """`address` is what `furcate serve` prints; `timeout_s` bounds the handshake. Over tcp with
    keys: the server's public one and the client's secret one, or the files that hold them."""

    def __init__(
        self,
        address: str,
        *,
        server_key: KeySource | None = None,
        key: KeySource | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self.address = address
        self._key_sources = server_key, key
        self._timeout_s = timeout_s
        self._lock = threading.Lock()  # over the next four
        self._outbox: list[bytes] = []
        self._waking = False
        self._error: FurcateError | None = ConnectionFailed(f"not connected to {address!r} yet")
        self._closed = False
        self._pid = os.getpid()
        self._io: IoThread | None = None
        self._wire: Wire | None = None  # written by the thread
        self._spent = (0, 0)

    @property
    def num_bytes_sent(self) -> int:
        wire = self._wire
        return self._spent[0] if wire is None else wire.num_bytes_sent

    @property
    def num_bytes_received(self) -> int:
        wire = self._wire
        return self._spent[1] if wire is None else wire.num_bytes_received

    def open(self, deliver: Deliver, lost: Lost) -> Welcome:
        self._target = parse_address(self.address, *self._key_sources)
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
            message = self._no_answer()
            self.close()
            raise ConnectionFailed(message) from None
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
        def make_link(handler: LinkHandler) -> ZmqLink:
            return ZmqLink(self._context, self._target, loop, handler)

        self._wire = Wire(
            f"the server at {self.address!r}", make_link, loop, self, resumes=self._target.resumes
        )
        self._wire.start()

    def _flush(self) -> None:
        with self._lock:
            payloads, self._outbox = self._outbox, []
            self._waking = False
        if self._wire is not None:
            for payload in payloads:
                self._wire.send(payload)

    def arrived(self, payload: bytes) -> None:
        try:
            events = decode_events(payload)
        except WireError as error:
            self._lose(WireError(f"the server at {self.address!r} sent no message: {error}"))
            return
        end = self._handshake.receive(events)
        if end is not None:
            self._lose(end)

    def broken(self, error: FurcateError) -> None:
        self._lose(error)

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
        self._flush()
        wire, self._wire = self._wire, None
        if wire is None:
            return
        self._spent = (wire.num_bytes_sent, wire.num_bytes_received)
        # Nobody has answered so far: nobody waits for what was to be sent.
        wire.close(LINGER_MS if self._handshake.answer.done() else 0)
        self._context.term()

    # Words ---------------------------------------------------------------------------------------

    def _no_answer(self) -> str:
        end = self._wire.last_end if self._wire is not None else None
        if self._target.path is not None:
            found = os.path.exists(self._target.path)
            what = "the socket is there, but" if found else "there is no socket there and"
            what += " nobody answered"
        else:
            what = "nobody answered" if end is None else f"{end.text}: nobody answered"
        return (
            f"no server at {self.address!r}: {what} within {self._timeout_s:g} s; "
            "is `furcate serve` running?"
        )


def _unanswered(error: FurcateError) -> ConnectionFailed:
    if isinstance(error, ConnectionFailed):
        return error
    failed = ConnectionFailed(f"the connection was lost before it was answered: {error}")
    failed.__cause__ = error
    return failed
