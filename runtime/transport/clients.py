"""A socket that clients connect to: which link is whose, who is gone, who does not read.

Turns frames into requests and events into frames, one client from the next. Knows no program: what
a message means is its handler's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import zmq

from furcate.errors import EngineLost, Overloaded, WireError
from furcate.protocol.envelope import Ack, Open, Refusal, decode_header, encode_header

from .client import Client
from .watched import WatchedSocket

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from furcate.protocol.message import Request

__all__ = ["ClientHandler", "ClientSocket"]

log = logging.getLogger(__name__)

# A connection ends a moment before its peer can no longer be reached.
PROBE_DELAYS_S = (0.0, 0.02, 0.1, 0.5)
UNKNOWN = "the server was started anew, or was without this client for too long: connect again"
DOES_NOT_READ = "the client does not read what it is sent, and too much of it has come together"


class ClientHandler(Protocol):
    """What the socket reports; none of it is called from inside a client's `send`."""

    def connected(self, client: Client) -> None: ...

    def received(self, client: Client, requests: list[Request]) -> None: ...

    def overloaded(self, client: Client, programs: set[int]) -> None:
        """The client does not read: what was held for these programs is lost."""
        ...

    def gone(self, client: Client) -> None:
        """The client is unreachable, or was refused; nothing can be sent to it any more."""
        ...


class ClientSocket:
    """On a ROUTER socket that is bound. A client whose link ends is waited for for `resume_s`, and
    not at all where that is 0; `max_held_bytes` are kept for one that does not read.
    `malformed_frames` counts what was no message."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        handler: ClientHandler,
        *,
        resume_s: float = 0.0,
        max_held_bytes: int = 16 * 2**20,
    ) -> None:
        self.malformed_frames = 0
        self._loop = loop
        self._handler = handler
        self._resume_s = resume_s
        self._max_held_bytes = max_held_bytes
        self._links: dict[bytes, Client | None] = {}  # None until it is opened
        self._deaf: set[bytes] = set()  # links that were refused
        self._clients: dict[bytes, Client] = {}
        self._waits: dict[Client, asyncio.TimerHandle] = {}
        self._overflowing: set[Client] = set()
        self._probes: list[asyncio.TimerHandle] = []
        self._watched = WatchedSocket(socket, loop, self._receive, self._look_for_the_gone)

    def say_goodbye(self, message: str) -> None:
        """Tells those who would look for the server again that it has ended."""
        refusal = encode_header(Refusal(EngineLost.code, message))
        for client in self._clients.values():
            if client.keeps and client.link is not None:
                self.carry(client.link, [refusal])

    def close(self, linger_ms: int) -> None:
        """What was sent gets `linger_ms` to leave. Callable twice."""
        for timer in (*self._probes, *self._waits.values()):
            timer.cancel()
        self._watched.close(linger_ms)

    # What clients ask of it ----------------------------------------------------------------------

    def carry(self, link: bytes, frames: list[bytes]) -> None:
        try:
            self._watched.send([link, *frames])
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self._loop.call_soon(self._forget, link)

    def overflowed(self, client: Client) -> None:
        if client not in self._overflowing:
            self._overflowing.add(client)
            self._loop.call_soon(self._overload, client)

    def refused(self, client: Client) -> None:
        self._clients.pop(client.name, None)
        if client.link is not None:
            self._deaf.add(client.link)
        self._loop.call_soon(self._end, client)

    # From the socket -----------------------------------------------------------------------------

    def _receive(self, frames: list[bytes]) -> None:
        link = frames[0]
        client = self._links.setdefault(link, None)
        if link in self._deaf or (client is not None and client.link != link):
            return
        try:
            if len(frames) < 2:
                raise WireError("a message without frames")
            if client is None:
                self._open(link, frames[1:])
                return
            requests = client.take(frames[1:])
        except WireError as error:
            self._malformed(link, error)
            return
        if requests:
            self._handler.received(client, requests)

    def _open(self, link: bytes, frames: Sequence[bytes]) -> None:
        header = decode_header(frames[0])
        if not isinstance(header, Open) or len(frames) != 1:
            raise WireError(f"a link begins with Open, got {type(header).__name__}")
        client = self._clients.get(header.connection)
        if client is None:
            if not header.fresh:
                self._refuse_link(link, EngineLost.code, UNKNOWN)
                return
            client = self._clients[header.connection] = Client(
                header.connection,
                self,
                keeps=self._resume_s > 0,
                max_held_bytes=self._max_held_bytes,
            )
            self._handler.connected(client)
        elif not client.keeps:
            raise WireError("a second link to a connection that has one at most")
        self._links[link] = client
        if (wait := self._waits.pop(client, None)) is not None:
            wait.cancel()
        client.attach(link, header)

    def _malformed(self, link: bytes, error: WireError) -> None:
        client = self._links.get(link)
        self.malformed_frames += 1
        log.warning("%s sent a malformed frame: %s", client or f"link {link.hex()}", error)
        if client is None:
            self._refuse_link(link, error.code, str(error))
        else:
            client.refuse(error.code, str(error))

    def _refuse_link(self, link: bytes, code: str, message: str) -> None:
        self._deaf.add(link)
        self.carry(link, [encode_header(Refusal(code, message))])

    # Ends ----------------------------------------------------------------------------------------

    def _look_for_the_gone(self) -> None:
        for timer in self._probes:
            timer.cancel()
        self._probes = [self._loop.call_later(delay, self._probe) for delay in PROBE_DELAYS_S]

    def _probe(self) -> None:
        """Sends something to everyone: whoever cannot be reached is gone."""
        self._watched.look_again()  # makes ZeroMQ notice what has ended
        for link, client in self._links.items():
            received = client.num_received if client is not None and client.link == link else 0
            self.carry(link, [encode_header(Ack(received))])

    def _forget(self, link: bytes) -> None:
        client = self._links.pop(link, None)
        self._deaf.discard(link)
        if client is None or client.link != link:
            return
        client.detach()
        if client.is_over:
            return
        if client.keeps:
            self._waits[client] = self._loop.call_later(self._resume_s, self._end, client)
        else:
            self._end(client)

    def _end(self, client: Client) -> None:
        client.is_over = True
        self._waits.pop(client, None)
        self._clients.pop(client.name, None)
        self._handler.gone(client)

    def _overload(self, client: Client) -> None:
        self._overflowing.discard(client)
        if client.is_over:
            return
        log.warning("%s does not read", client)
        if client.was_cut:
            client.refuse(Overloaded.code, DOES_NOT_READ)
        else:
            self._handler.overloaded(client, client.drop_held())
