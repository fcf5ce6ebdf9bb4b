"""A server of our own making: real sockets, a loop in a thread, and answers that a test chooses."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, TypeVar

import pytest
import zmq

from furcate.protocol.message import Event, Hello, Request, Welcome
from furcate.runtime.transport.address import address_of
from furcate.runtime.transport.clients import ClientSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

WELCOME = Welcome(1, "test", "f", 100)


class FakeServer:
    """Welcomes whoever says Hello and notes everything else. Its methods may be called from the
    test's thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = address_of(path)
        self.connections: list[bytes] = []
        self.requests: list[tuple[bytes, Request]] = []
        self.departed: list[bytes] = []
        self.welcomes = True
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.socket: ClientSocket = self.on_loop(
            lambda: ClientSocket(self._context, path, self._loop, self)
        )

    def on_loop(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def send(self, client: bytes, *events: Event) -> None:
        self.on_loop(lambda: self.socket.send(client, events))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self.on_loop(lambda: self.socket.close(100))
        self._context.term()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def connected(self, client: bytes) -> None:
        self.connections.append(client)

    def received(self, client: bytes, requests: list[Request]) -> None:
        for request in requests:
            if isinstance(request, Hello) and self.welcomes:
                self.socket.send(client, [WELCOME])
            elif not isinstance(request, Hello):
                self.requests.append((client, request))

    def gone(self, client: bytes) -> None:
        self.departed.append(client)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    fake = FakeServer(tmp_path / "serve.sock")
    yield fake
    fake.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits until something is true, two seconds at most: the promise that most tests check."""

    def wait(condition: Callable[[], object], timeout_s: float = 2.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.002)

    return wait
