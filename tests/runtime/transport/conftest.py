"""A server of our own making: real sockets, a loop in a thread, and answers that a test chooses."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, TypeVar

import pytest
import zmq

from furcate.protocol.codec import decode_events, encode
from furcate.protocol.envelope import Message, Open, Opened, decode_header, encode_header
from furcate.protocol.message import Event, Hello, Request, Welcome
from furcate.runtime.transport.clients import ClientSocket
from furcate.runtime.transport.doorkeeper import Doorkeeper
from furcate.runtime.transport.listening import Listening, listen_ipc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from furcate.protocol.envelope import Header
    from furcate.runtime.transport.client import Client

T = TypeVar("T")

WELCOME = Welcome(1, "test", "f", 100)


class FakeServer:
    """Welcomes whoever says Hello and notes everything else. Its methods may be called from the
    test's thread."""

    def __init__(
        self,
        listen: Callable[[zmq.Context[zmq.Socket[bytes]]], Listening],
        *,
        resume_s: float = 0.0,
        max_held_bytes: int = 2**20,
        client_keys: Path | None = None,
    ) -> None:
        self.connections: list[Client] = []
        self.requests: list[tuple[Client, Request]] = []
        self.overloads: list[tuple[Client, set[int]]] = []
        self.departed: list[Client] = []
        self.welcomes = True
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._doorkeeper: Doorkeeper | None = None
        if client_keys is not None:
            self._doorkeeper = self.on_loop(
                lambda: Doorkeeper(self._context, self._loop, client_keys)
            )
        listening = listen(self._context)
        self.address = listening.address
        self.socket: ClientSocket = self.on_loop(
            lambda: ClientSocket(
                listening.socket,
                self._loop,
                self,
                resume_s=resume_s,
                max_held_bytes=max_held_bytes,
            )
        )

    def on_loop(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def send(self, client: Client, *events: Event) -> None:
        self.on_loop(lambda: client.send(events))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self.on_loop(lambda: self.socket.close(100))
        if self._doorkeeper is not None:
            self.on_loop(self._doorkeeper.close)
        self._context.term()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def connected(self, client: Client) -> None:
        self.connections.append(client)

    def received(self, client: Client, requests: list[Request]) -> None:
        for request in requests:
            if isinstance(request, Hello) and self.welcomes:
                client.send([WELCOME])
            elif not isinstance(request, Hello):
                self.requests.append((client, request))

    def overloaded(self, client: Client, programs: set[int]) -> None:
        self.overloads.append((client, programs))

    def gone(self, client: Client) -> None:
        self.departed.append(client)


class RawClient:
    """Speaks the envelope by hand, and only when it is told to."""

    def __init__(self, address: str, connection: bytes = b"c" * 16) -> None:
        self.connection = connection
        self.num_sent = 0
        self.num_received = 0
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.RCVTIMEO, 5_000)
        self.socket.connect(address)

    def open(self, received: int = 0, *, fresh: bool = True) -> Opened:
        self.socket.send(encode_header(Open(self.connection, received, fresh)))
        header = self.header()
        assert isinstance(header, Opened)
        return header

    def send(self, *requests: Request) -> None:
        self.num_sent += 1
        header = encode_header(Message(self.num_sent, self.num_received))
        self.socket.send_multipart([header, encode(requests)])

    def header(self) -> Header:
        (frame,) = self.socket.recv_multipart()
        return decode_header(frame)

    def receive(self) -> list[Event]:
        """The events of the next message; what is no message is passed over."""
        while len(frames := self.socket.recv_multipart()) == 1:
            pass
        header = decode_header(frames[0])
        assert isinstance(header, Message)
        assert header.number == self.num_received + 1
        self.num_received = header.number
        return decode_events(frames[1])

    def close(self) -> None:
        self.socket.close(0)
        self.context.term()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    fake = FakeServer(lambda context: listen_ipc(context, tmp_path / "serve.sock"))
    yield fake
    fake.close()


@pytest.fixture
def make_server() -> Iterator[Callable[..., FakeServer]]:
    servers: list[FakeServer] = []

    def make(*args: object, **options: object) -> FakeServer:
        servers.append(FakeServer(*args, **options))  # type: ignore[arg-type]
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def raw() -> Iterator[Callable[..., RawClient]]:
    clients: list[RawClient] = []

    def make(address: str, connection: bytes = b"c" * 16) -> RawClient:
        clients.append(RawClient(address, connection))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits until something is true, two seconds at most: the promise that most tests check."""

    def wait(condition: Callable[[], object], timeout_s: float = 2.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.002)

    return wait
