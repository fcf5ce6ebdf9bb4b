"""The two ends of the connection between front and engine process.

Both live in a folder that is this user's alone. A frame that is no message means that the
other side is broken: it is raised or reported, not skipped.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import zmq

from furcate.errors import WireError
from furcate.protocol.codec import (
    decode_engine_events,
    decode_engine_requests,
    encode,
)

from .address import address_of
from .watched import WatchedSocket

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from furcate.protocol.stream import EngineEvent, EngineRequest

    from .context import Context

__all__ = ["LINK_SUFFIX", "EngineEnd", "EngineHandler", "FrontEnd", "link_path"]

LINK_SUFFIX = ".engine0"  # the first one's, and as long as any
NUM_LINKS = 10


def link_path(socket: Path, number: int) -> Path:
    """Of the engine of that number beside a server's socket. ZeroMQ removes a socket's file some
    time after it was closed: the next engine's must have another name."""
    return Path(f"{socket}{LINK_SUFFIX[:-1]}{number % NUM_LINKS}")


class EngineHandler(Protocol):
    """What the front's end reports."""

    def engine_events(self, events: list[EngineEvent]) -> None: ...

    def engine_lost(self, message: str) -> None: ...


class FrontEnd:
    """The front's end, on its event loop. Listens from construction on."""

    def __init__(
        self,
        context: Context,
        path: Path,
        loop: asyncio.AbstractEventLoop,
        handler: EngineHandler,
    ) -> None:
        self._handler = handler
        socket = _pair(context)
        socket.bind(address_of(path))
        os.chmod(path, 0o600)
        self._watched = WatchedSocket(socket, loop, self._receive, self._ended)

    def send(self, requests: Sequence[EngineRequest]) -> None:
        # Without a limit, only an engine that is gone does not take it; that is reported apart.
        with suppress(zmq.Again):
            self._watched.send([encode(requests)])

    def close(self) -> None:
        """Callable twice."""
        self._watched.close(0)

    def _receive(self, frames: list[bytes]) -> None:
        try:
            if len(frames) != 1:
                raise WireError(f"a message has 1 frame, got {len(frames)}")
            events = decode_engine_events(frames[0])
        except WireError as error:
            self._handler.engine_lost(f"the engine sent a malformed frame: {error}")
            return
        self._handler.engine_events(events)

    def _ended(self) -> None:
        self._watched.drain()
        self._handler.engine_lost("the connection to the engine has ended")


class EngineEnd:
    """The engine's end, for the one thread that runs the scheduler; `wake` and `stop` may be called
    from any."""

    def __init__(self, context: Context, path: Path) -> None:
        self._socket = _pair(context)
        self._socket.connect(address_of(path))
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._alarm, zmq.POLLIN)
        self._stopped = False

    @property
    def is_stopped(self) -> bool:
        return self._stopped

    def wake(self) -> None:
        os.eventfd_write(self._alarm, 1)

    def stop(self) -> None:
        self._stopped = True
        self.wake()

    def receive(self, block: bool) -> list[EngineRequest]:
        """What has arrived. With `block` it first waits for a message or a wake-up."""
        if block:
            for ready, _ in self._poller.poll():
                if ready == self._alarm:
                    os.eventfd_read(self._alarm)
        requests: list[EngineRequest] = []
        while True:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return requests
            requests += decode_engine_requests(frame)

    def send(self, events: Sequence[EngineEvent]) -> None:
        self._socket.send(encode(events))

    def close(self) -> None:
        self._socket.close(0)
        os.close(self._alarm)


def _pair(context: Context) -> zmq.Socket[bytes]:
    """Without a limit of its own: the front bounds what is under way."""
    socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    return socket
