"""Both ends of a connection over links that a test delivers, holds up and cuts by hand."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from furcate.lang.backend.wire import End, Wire
from furcate.protocol.codec import decode_events
from furcate.protocol.envelope import Open, decode_header
from furcate.runtime.transport.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.errors import FurcateError
    from furcate.lang.backend.wire import LinkHandler
    from furcate.protocol.message import Event, Request

__all__ = ["FakeLoop", "LossyNetwork"]


class FakeTimer:
    def __init__(self, due_s: float, call: Callable[[], object]) -> None:
        self.due_s = due_s
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._timers: list[FakeTimer] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[..., object], *args: object) -> FakeTimer:
        timer = FakeTimer(self.now_s + delay_s, lambda: call(*args))
        self._timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while True:
            self._timers = [timer for timer in self._timers if not timer.cancelled]
            due = [timer for timer in self._timers if timer.due_s <= end_s]
            if not due:
                break
            first = min(due, key=lambda timer: timer.due_s)
            self._timers.remove(first)
            self.now_s = max(self.now_s, first.due_s)
            first.call()
        self.now_s = end_s


class FakeLink:
    """What is sent waits in `to_server` and `to_client` until it is delivered or lost."""

    def __init__(self, number: int, handler: LinkHandler) -> None:
        self.name = b"link%d" % number
        self.handler = handler
        self.is_open = True
        self.to_server: deque[list[bytes]] = deque()
        self.to_client: deque[list[bytes]] = deque()

    def send(self, frames: list[bytes]) -> None:
        if self.is_open:
            self.to_server.append(list(frames))

    def close(self, linger_ms: int) -> None:
        self.is_open = False


class LossyNetwork:
    """A Wire and a Client. `events` and `requests` are what has arrived, `error` why the wire has
    ended. The server can be replaced by one that knows nothing: `restart`."""

    def __init__(self, *, max_held_bytes: int = 2**20) -> None:
        self.loop = FakeLoop()
        self.events: list[Event] = []
        self.requests: list[Request] = []
        self.overflows = 0
        self.error: FurcateError | None = None
        self.is_reachable = True
        self.links: list[FakeLink] = []
        self._max_held_bytes = max_held_bytes
        self.client: Client | None = None
        self.wire = Wire(
            "the server",
            self._make_link,
            self.loop,  # type: ignore[arg-type]
            self,
            resumes=True,
        )
        self.wire.start()

    # What a test does ----------------------------------------------------------------------------

    def deliver_to_server(self) -> None:
        """The next message of the present link."""
        link = self.links[-1]
        if not (link.is_open and link.to_server):
            return
        frames = link.to_server.popleft()
        if self.client is not None and self.client.link == link.name:
            self.requests += self.client.take(frames)
            return
        header = decode_header(frames[0])
        assert isinstance(header, Open)
        if self.client is None:
            assert header.fresh
            self.client = Client(
                header.connection, self, keeps=True, max_held_bytes=self._max_held_bytes
            )
        self.client.attach(link.name, header)

    def deliver_to_client(self) -> None:
        link = self.links[-1]
        if link.is_open and link.to_client:
            link.handler.received(link.to_client.popleft())

    def cut(self) -> None:
        """The present link ends; what was under way is lost."""
        link = self.links[-1]
        if not link.is_open:
            return
        link.is_open = False
        if self.client is not None and self.client.link == link.name:
            self.client.detach()
        link.handler.ended(End("cut"))

    def settle(self) -> None:
        """Everything arrives."""
        while self.error is None:
            self.loop.advance(0.0 if self.links[-1].is_open else 2.5)
            link = self.links[-1]
            if link.is_open and not (link.to_server or link.to_client):
                return
            while link.is_open and link.to_server:
                self.deliver_to_server()
            while link.is_open and link.to_client:
                self.deliver_to_client()

    # What the ends ask of it ---------------------------------------------------------------------

    def _make_link(self, handler: LinkHandler) -> FakeLink:
        link = FakeLink(len(self.links), handler)
        self.links.append(link)
        if not self.is_reachable:
            link.is_open = False
            self.loop.call_later(0.0, handler.ended, End("nobody listens there"))
        return link

    def arrived(self, payload: bytes) -> None:
        self.events += decode_events(payload)

    def broken(self, error: FurcateError) -> None:
        assert self.error is None
        self.error = error

    def carry(self, link: bytes, frames: list[bytes]) -> None:
        (known,) = (each for each in self.links if each.name == link)
        if known.is_open:
            known.to_client.append(frames)

    def overflowed(self, client: Client) -> None:
        self.overflows += 1

    def refused(self, client: Client) -> None:
        pass
